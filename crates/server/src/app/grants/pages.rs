//! The pages of grants, and of the dashboard.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use axum::{Router, body::Body};
use http::{Request, Response};
use landfall::{Handler, service::Cors};
use landfall_grants::{
    api::{self, ApiSettings, ApiStyle},
    auth::Jwt,
    policy::Policy,
};
use tokio::sync::watch;
use tower_service::Service as _;

use super::{Grants, callers};
#[cfg(feature = "direct")]
use crate::app::direct::{self, Direct};
use crate::{
    admin::{Admin, AdminParts},
    app::{hooks::Hooks, machine::Shown, state, storage::Storage},
    net::{self, Shutdown},
    settings::{GrantsApi, Settings},
};

/// What is served beside uploads. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Pages {
    areas: Arc<[Area]>,
}

/// Paths, and who answers at them and below.
struct Area {
    paths: Vec<String>,
    name: &'static str,
    router: Router,
    answers: Mutex<BTreeMap<u16, u64>>,
}

impl fmt::Debug for Pages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let paths = self.areas.iter().flat_map(|area| &area.paths);
        f.debug_list().entries(paths).finish()
    }
}

impl Pages {
    /// Whether a path is one of these.
    pub(crate) fn has(&self, path: &str) -> bool {
        self.area(path).is_some()
    }

    fn area(&self, path: &str) -> Option<&Area> {
        let is_below = |above: &String| {
            path.strip_prefix(above.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        self.areas
            .iter()
            .find(|area| area.paths.iter().any(is_below))
    }

    /// Answers a request to one of these paths.
    pub(crate) async fn answer(&self, request: Request<net::Body>) -> Response<Body> {
        let Some(area) = self.area(request.uri().path()) else {
            let mut nothing = Response::new(Body::empty());
            *nothing.status_mut() = http::StatusCode::NOT_FOUND;
            return nothing;
        };
        let Ok(response) = area.router.clone().call(request.map(Body::new)).await;
        let mut answers = area.answers.lock().unwrap_or_else(PoisonError::into_inner);
        *answers.entry(response.status().as_u16()).or_default() += 1;
        drop(answers);
        response
    }

    /// How many answers of which status were given, by the name of the pages.
    pub(crate) fn answers(&self) -> Vec<(&'static str, BTreeMap<u16, u64>)> {
        let counted = |area: &Area| {
            let answers = area.answers.lock().unwrap_or_else(PoisonError::into_inner);
            (area.name, answers.clone())
        };
        self.areas.iter().map(counted).collect()
    }
}

/// What pages are made of.
#[derive(Debug)]
pub(in crate::app) struct PagesParts<'a> {
    pub(in crate::app) settings: &'a Settings,
    /// The rule for uploads.
    pub(in crate::app) cors: Option<&'a Cors>,
    pub(in crate::app) policies: Vec<Arc<dyn Policy>>,
    /// What knows callers by JSON web tokens.
    pub(in crate::app) jwt: Option<Jwt>,
    pub(in crate::app) handler: &'a Handler,
    pub(in crate::app) shutdown: &'a Shutdown,
    pub(in crate::app) storage: &'a Arc<Storage>,
    pub(in crate::app) hooks: &'a Arc<Hooks>,
    #[cfg(feature = "direct")]
    pub(in crate::app) direct: Option<&'a Direct>,
}

impl Area {
    fn new(name: &'static str, paths: Vec<String>, router: Router) -> Self {
        Self {
            paths,
            name,
            router,
            answers: Mutex::default(),
        }
    }
}

impl Grants {
    /// The pages that are on.
    ///
    /// # Errors
    /// What is wrong, and what to do about it.
    pub(in crate::app) async fn pages(&self, parts: PagesParts<'_>) -> anyhow::Result<Pages> {
        let PagesParts {
            settings, handler, ..
        } = parts;
        let mut areas = Vec::new();
        let closing = closing(parts.shutdown);
        if self.enabled {
            let grants = &settings.grants;
            let failed_attempts = self.failed_attempts.clone();
            let callers =
                callers::callers(settings, &self.queue, parts.jwt, failed_attempts, handler)?;
            let cors = parts
                .cors
                .map(|cors| cors_for(cors, &grants.allowed_origins));
            #[cfg(feature = "direct")]
            if let Some(direct) = parts.direct {
                let router =
                    direct.router(settings, callers.clone(), cors.clone(), self.client.clone());
                areas.push(Area::new("direct", direct::paths(settings), router));
            }
            let mut api = ApiSettings::new(self.queue.clone(), callers, handler.clone());
            api.policies = parts.policies;
            api.path.clone_from(&grants.path);
            api.style = match grants.api {
                GrantsApi::Landfall => ApiStyle::Landfall,
                GrantsApi::Laravel => ApiStyle::Laravel,
            };
            api.cors = cors;
            api.client = Some(self.client.clone());
            api.shutdown = Some(closing.clone());
            api.stats = self.api.clone();
            let paths = vec![grants.path.clone()];
            areas.push(Area::new("grants", paths, api::service(api)));
        }
        if let Some(key) = &self.key {
            let place = self.place.clone();
            let (storage, hooks) = (parts.storage.clone(), parts.hooks.clone());
            let shown = Shown::new(storage, hooks, self.queue.clone(), place);
            let admin = Admin::new(AdminParts {
                key: key.reveal().to_owned(),
                node: state::node(settings),
                queue: self.queue.clone(),
                handler: handler.clone(),
                machine: Arc::new(shown),
                client: self.client.clone(),
                failed_attempts: self.failed_attempts.clone(),
                closing,
            });
            let path = settings.admin.path.clone();
            let router = admin.router(&path);
            areas.push(Area::new("dashboard", vec![path], router));
        }
        Ok(Pages {
            areas: areas.into(),
        })
    }
}

/// A browser sends cookies to pages of others only if those are named: what holds for uploads may hold
/// for all origins there are.
fn cors_for(uploads: &Cors, origins: &[String]) -> Cors {
    let cors = uploads.clone();
    if origins.is_empty() {
        return cors.allow_credentials(false);
    }
    let origins: Arc<[String]> = origins.into();
    cors.allow_origin(move |origin| origins.iter().any(|one| one.eq_ignore_ascii_case(origin)))
        .allow_credentials(true)
}

/// Becomes true when the server stops.
fn closing(shutdown: &Shutdown) -> watch::Receiver<bool> {
    let (closing, closed) = watch::channel(false);
    let shutdown = shutdown.clone();
    tokio::spawn(async move {
        shutdown.begun().await;
        closing.send_replace(true);
    });
    closed
}
