use std::{collections::BTreeMap, fmt, sync::Arc};

use axum::{Router, body::Body};
use http::{Request, Response};
use landfall::{Handler, service::Cors};
use landfall_api::auth::Jwt;
use landfall_grants::api::{self, ApiSettings, ApiStyle};
use landfall_queue::policy::Policy;
use parking_lot::Mutex;
use tokio::sync::watch;
use tower_service::Service as _;

use super::{Grants, authentication};
#[cfg(feature = "direct")]
use crate::app::direct::{self, Direct};
use crate::{
    admin::{Admin, AdminParts},
    app::{hooks::Hooks, state, status::AppStatus, storage::Storage},
    net::{self, Shutdown},
    settings::Settings,
};

#[derive(Clone)]
pub(crate) struct ApiRoutes {
    groups: Arc<[RouteGroup]>,
}

struct RouteGroup {
    paths: Vec<String>,
    name: &'static str,
    router: Router,
    responses: Mutex<BTreeMap<u16, u64>>,
}

impl fmt::Debug for ApiRoutes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let paths = self.groups.iter().flat_map(|group| &group.paths);
        f.debug_list().entries(paths).finish()
    }
}

impl ApiRoutes {
    pub(crate) fn contains(&self, path: &str) -> bool {
        self.find(path).is_some()
    }

    fn find(&self, path: &str) -> Option<&RouteGroup> {
        let is_below = |above: &String| {
            let rest = path.strip_prefix(above.as_str());
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let mut groups = self.groups.iter();
        groups.find(|group| group.paths.iter().any(is_below))
    }

    pub(crate) async fn respond(&self, request: Request<net::Body>) -> Response<Body> {
        let Some(group) = self.find(request.uri().path()) else {
            let mut response = Response::new(Body::empty());
            *response.status_mut() = http::StatusCode::NOT_FOUND;
            return response;
        };
        let Ok(response) = group.router.clone().call(request.map(Body::new)).await;
        let status = response.status().as_u16();
        *group.responses.lock().entry(status).or_default() += 1;
        response
    }

    pub(crate) fn responses(&self) -> Vec<(&'static str, BTreeMap<u16, u64>)> {
        let count = |group: &RouteGroup| {
            let responses = group.responses.lock();
            (group.name, responses.clone())
        };
        self.groups.iter().map(count).collect()
    }
}

#[derive(Debug)]
pub(in crate::app) struct ApiRoutesParts<'a> {
    pub(in crate::app) settings: &'a Settings,
    pub(in crate::app) cors: Option<&'a Cors>,
    pub(in crate::app) policies: Vec<Arc<dyn Policy>>,
    pub(in crate::app) jwt: Option<Jwt>,
    pub(in crate::app) handler: &'a Handler,
    pub(in crate::app) shutdown: &'a Shutdown,
    pub(in crate::app) storage: &'a Arc<Storage>,
    pub(in crate::app) hooks: &'a Arc<Hooks>,
    #[cfg(feature = "direct")]
    pub(in crate::app) direct: Option<&'a Direct>,
}

impl RouteGroup {
    fn new(name: &'static str, paths: Vec<String>, router: Router) -> Self {
        Self {
            paths,
            name,
            router,
            responses: Mutex::default(),
        }
    }
}

impl Grants {
    pub(in crate::app) fn routes(&self, parts: ApiRoutesParts<'_>) -> anyhow::Result<ApiRoutes> {
        let (settings, handler) = (parts.settings, parts.handler);
        let mut groups = Vec::new();
        let closing = shutdown_signal(parts.shutdown);
        if self.enabled {
            let grants = &settings.grants;
            let failed_attempts = self.failed_attempts.clone();
            let (queue, jwt) = (&self.queue, parts.jwt);
            let callers =
                authentication::authenticator(settings, queue, jwt, failed_attempts, handler)?;
            let origins = &grants.allowed_origins;
            let cors = parts.cors.map(|cors| api_cors(cors, origins));
            #[cfg(feature = "direct")]
            if let Some(direct) = parts.direct {
                let router =
                    direct.router(settings, callers.clone(), cors.clone(), self.client.clone());
                let paths = direct::api_paths(settings);
                groups.push(RouteGroup::new("direct", paths, router));
            }
            let mut api = ApiSettings::new(self.queue.clone(), callers, handler.clone());
            api.policies = parts.policies;
            api.path.clone_from(&grants.path);
            if grants.laravel {
                api.style = ApiStyle::Laravel;
            }
            api.cors = cors;
            api.client = Some(self.client.clone());
            api.shutdown = Some(closing.clone());
            api.stats = self.api.clone();
            let paths = vec![grants.path.clone()];
            groups.push(RouteGroup::new("grants", paths, api::service(api)));
        }
        if let Some(key) = &self.key {
            let database = self.database_name.clone();
            let (storage, hooks) = (parts.storage.clone(), parts.hooks.clone());
            let status = AppStatus::new(storage, hooks, self.queue.clone(), database);
            let admin = Admin::new(AdminParts {
                key: key.reveal().to_owned(),
                node: state::node_name(settings),
                queue: self.queue.clone(),
                handler: handler.clone(),
                status,
                client: self.client.clone(),
                failed_attempts: self.failed_attempts.clone(),
                closing,
            });
            let path = settings.admin.path.clone();
            let router = admin.router(&path);
            groups.push(RouteGroup::new("dashboard", vec![path], router));
        }
        let groups = groups.into();
        Ok(ApiRoutes { groups })
    }
}

/// Credentials are allowed only for explicitly configured origins, since uploads may allow all origins.
fn api_cors(uploads: &Cors, origins: &[String]) -> Cors {
    let cors = uploads.clone();
    if origins.is_empty() {
        return cors.allow_credentials(false);
    }
    let origins: Arc<[String]> = origins.into();
    cors.allow_origin(move |origin| origins.iter().any(|one| one.eq_ignore_ascii_case(origin)))
        .allow_credentials(true)
}

fn shutdown_signal(shutdown: &Shutdown) -> watch::Receiver<bool> {
    let (closing, closed) = watch::channel(false);
    let shutdown = shutdown.clone();
    tokio::spawn(async move {
        shutdown.started().await;
        closing.send_replace(true);
    });
    closed
}
