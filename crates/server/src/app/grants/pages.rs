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
    api::{self, ApiSettings, Style},
    policy::{Policy, Rules},
};
use tokio::sync::watch;
use tower_service::Service as _;

use super::{Grants, callers};
use crate::{
    admin::{Admin, AdminParts},
    app::{hooks::Hooks, machine::Shown, state, storage::Storage},
    net::{self, Shutdown},
    settings::{GrantStyle, Settings},
};

/// What is served beside uploads. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Pages {
    areas: Arc<[Area]>,
}

/// A path, and who answers at it and below.
struct Area {
    path: String,
    name: &'static str,
    router: Router,
    answers: Mutex<BTreeMap<u16, u64>>,
}

impl fmt::Debug for Pages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let paths = self.areas.iter().map(|area| &area.path);
        f.debug_list().entries(paths).finish()
    }
}

impl Pages {
    /// Whether a path is one of these.
    pub(crate) fn has(&self, path: &str) -> bool {
        self.area(path).is_some()
    }

    fn area(&self, path: &str) -> Option<&Area> {
        self.areas.iter().find(|area| {
            path.strip_prefix(area.path.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        })
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

impl Grants {
    /// The pages that are on.
    ///
    /// # Errors
    /// What is wrong, and what to do about it.
    pub(in crate::app) async fn pages(
        &self,
        settings: &Settings,
        cors: Option<&Cors>,
        policies: Vec<Arc<dyn Policy>>,
        handler: &Handler,
        shutdown: &Shutdown,
        (storage, hooks): (&Arc<Storage>, &Arc<Hooks>),
    ) -> anyhow::Result<Pages> {
        let mut areas = Vec::new();
        let closing = closing(shutdown);
        if self.enabled {
            let grants = &settings.grants;
            let callers =
                callers::callers(settings, &self.queue, self.guesses.clone(), handler).await?;
            let mut api = ApiSettings::new(self.queue.clone(), callers, handler.clone());
            let mut limits = super::limits(&grants.limits);
            // What would be refused later isn't granted.
            limits.max_size = match (limits.max_size, settings.protocol.max_size) {
                (Some(one), Some(other)) => Some(one.min(other)),
                (one, other) => one.or(other),
            };
            api.policies.push(Arc::new(Rules::new(limits)));
            api.policies.extend(policies);
            api.path.clone_from(&grants.path);
            api.style = match grants.style {
                GrantStyle::Landfall => Style::Landfall,
                GrantStyle::Package => Style::Package,
            };
            api.cors = cors.map(|cors| cors_for(cors, &grants.origins));
            api.client = Some(self.client.clone());
            api.shutdown = Some(closing.clone());
            api.stats = self.api.clone();
            areas.push(Area {
                path: grants.path.clone(),
                name: "grants",
                router: api::service(api),
                answers: Mutex::default(),
            });
        }
        if let Some(key) = &self.key {
            let place = self.place.clone();
            let shown = Shown::new(storage.clone(), hooks.clone(), self.queue.clone(), place);
            let admin = Admin::new(AdminParts {
                key: key.reveal().to_owned(),
                node: state::node(settings),
                queue: self.queue.clone(),
                handler: handler.clone(),
                machine: Arc::new(shown),
                client: self.client.clone(),
                guesses: self.guesses.clone(),
                closing,
            });
            let path = settings.admin.path.clone();
            areas.push(Area {
                router: admin.router(&path),
                path,
                name: "dashboard",
                answers: Mutex::default(),
            });
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
