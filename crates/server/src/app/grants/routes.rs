//! The paths and routers of the grants API, direct uploads and the dashboard, with counts of their responses.
//!
//! A group receives its paths and all below them; `settings::check` rejects overlaps. Pages of other origins may send
//! credentials to the APIs only if `--grants-allowed-origins` names their origin.

use std::{collections::BTreeMap, sync::Arc};

use axum::{Router, body::Body};
use http::{Request, Response};
use landfall::{Handler, service::Cors};
use landfall_access::grants::api::{self, ApiSettings, ApiStyle};
use landfall_http::Shutdown;
use parking_lot::Mutex;
use tokio::sync::watch;
use tower_service::Service as _;

use super::authentication;
use crate::app::direct;
use crate::{
    admin::{Admin, AdminParts},
    app::{parts::AppParts, state},
    settings::Settings,
};

/// Without the queue there are none.
#[derive(Debug)]
pub(in crate::app) struct ApiRoutes(Vec<Arc<RouteGroup>>);

#[derive(Debug)]
pub(in crate::app) struct RouteGroup {
    paths: Vec<String>,
    pub(in crate::app) name: &'static str,
    router: Router,
    pub(in crate::app) responses: Mutex<BTreeMap<u16, u64>>,
}

impl RouteGroup {
    pub(in crate::app) async fn respond(
        &self,
        request: Request<landfall_http::Body>,
    ) -> Response<Body> {
        let Ok(response) = self.router.clone().call(request.map(Body::new)).await;
        let status = response.status().as_u16();
        *self.responses.lock().entry(status).or_default() += 1;
        response
    }
}

impl ApiRoutes {
    pub(in crate::app) fn new(
        settings: &Settings,
        app: &Arc<AppParts>,
        handler: &Handler,
        shutdown: &Shutdown,
    ) -> anyhow::Result<Self> {
        let mut routes = Self(Vec::new());
        let Some(grants) = &app.grants else {
            return Ok(routes);
        };
        let closing = shutdown_signal(shutdown);
        if grants.enabled {
            let configured = &settings.grants;
            let callers = authentication::authenticator(settings, grants, handler)?;
            let cors = grants.cors.as_ref();
            let cors = cors.map(|cors| api_cors(cors, &configured.allowed_origins));
            if let Some(direct) = &app.direct {
                let client = grants.client.clone();
                let router = direct.router(settings, callers.clone(), cors.clone(), client);
                routes.add("direct", direct::api_paths(settings), router);
            }
            let mut api = ApiSettings::new(grants.queue.clone(), callers, handler.clone());
            api.policies.clone_from(&grants.policies);
            api.path.clone_from(&configured.path);
            if configured.laravel {
                api.style = ApiStyle::Laravel;
            }
            api.cors = cors;
            api.client = grants.client.clone();
            api.shutdown = Some(closing.clone());
            api.stats = grants.api.clone();
            routes.add("grants", vec![configured.path.clone()], api::service(api));
        }
        if let Some(key) = &grants.admin_key {
            let admin = Admin::new(AdminParts {
                key: key.clone(),
                node: state::node_name(settings),
                queue: grants.queue.clone(),
                handler: handler.clone(),
                app: app.clone(),
                client: grants.client.clone(),
                failed_attempts: grants.failed_attempts.clone(),
                closing,
            });
            let path = &settings.admin.path;
            routes.add("dashboard", vec![path.clone()], admin.router(path));
        }
        Ok(routes)
    }

    fn add(&mut self, name: &'static str, paths: Vec<String>, router: Router) {
        self.0.push(Arc::new(RouteGroup {
            paths,
            name,
            router,
            responses: Mutex::default(),
        }));
    }

    pub(in crate::app) fn groups(&self) -> &[Arc<RouteGroup>] {
        &self.0
    }

    pub(in crate::app) fn find(&self, path: &str) -> Option<&Arc<RouteGroup>> {
        let is_below = |above: &String| {
            let rest = path.strip_prefix(above.as_str());
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let mut groups = self.0.iter();
        groups.find(|group| group.paths.iter().any(is_below))
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
