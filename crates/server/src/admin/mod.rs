//! The dashboard: a page and its JSON API, protected by the admin key.

mod access;
mod dead_letters;
mod event_stream;
mod job_json;
mod keys;
mod overview;
mod page;
mod problem;
mod session;
mod status;
mod uploads;

use std::{
    fmt,
    sync::Arc,
    time::{Instant, SystemTime},
};

use axum::{
    Router,
    routing::{get, post},
};
use landfall::Handler;
use landfall_api::{
    ClientAddress,
    auth::{CsrfPolicy, FailedAttempts},
};
use landfall_queue::{Queue, TokenHash};
use tokio::sync::watch;

use self::session::Sessions;
pub use self::status::{Component, HealthCheck, ServerStatus, StorageCapacity};

/// The dependencies of a dashboard.
pub struct AdminParts {
    /// The admin key.
    pub key: String,
    /// The name of this node.
    pub node: String,
    /// The upload queue.
    pub queue: Queue,
    /// Removes cancelled uploads.
    pub handler: Handler,
    /// The status of the server.
    pub status: Arc<dyn ServerStatus>,
    /// Finds the client's address behind trusted proxies.
    pub client: Arc<ClientAddress>,
    /// Limits failed login attempts.
    pub failed_attempts: FailedAttempts,
    /// Becomes true when the server shuts down, which ends the event streams.
    pub closing: watch::Receiver<bool>,
}

impl fmt::Debug for AdminParts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AdminParts")
            .field("node", &self.node)
            .field("status", &self.status)
            .finish_non_exhaustive()
    }
}

/// The dashboard. Cheap to clone.
#[derive(Clone)]
pub struct Admin(Arc<Inner>);

struct Inner {
    parts: AdminParts,
    key: TokenHash,
    sessions: Sessions,
    cross_site: CsrfPolicy,
    streams: Arc<tokio::sync::Semaphore>,
    started: (Instant, SystemTime),
}

impl fmt::Debug for Admin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admin")
            .field("parts", &self.0.parts)
            .finish_non_exhaustive()
    }
}

impl Admin {
    /// Creates a dashboard.
    pub fn new(parts: AdminParts) -> Self {
        let origin_of = parts.handler.clone();
        let cross_site =
            CsrfPolicy::new().external_origin(move |request| origin_of.external_origin(request));
        Self(Arc::new(Inner {
            key: TokenHash::from_secret(&parts.key),
            sessions: Sessions::new(&parts.key),
            parts,
            cross_site,
            streams: Arc::new(tokio::sync::Semaphore::new(event_stream::MAX_STREAMS)),
            started: (Instant::now(), SystemTime::now()),
        }))
    }

    /// Returns its routes below `path` (such as `/admin`, without a trailing slash).
    pub fn router(&self, path: &str) -> Router {
        let api = Router::new()
            .route("/overview", get(overview::overview))
            .route("/throughput", get(overview::throughput))
            .route("/uploads", get(uploads::list))
            .route("/uploads/{id}", get(uploads::get).delete(uploads::cancel))
            .route("/events", get(event_stream::events))
            .route("/dead-letters", get(dead_letters::list))
            .route("/dead-letters/retry", post(dead_letters::retry))
            .route("/dead-letters/delete", post(dead_letters::delete))
            .route("/keys", get(keys::list))
            .fallback(problem::not_found)
            .method_not_allowed_fallback(problem::method_not_allowed)
            .layer(axum::middleware::from_fn_with_state(
                self.clone(),
                access::require_access,
            ));
        let inside = Router::new()
            .route("/login", get(page::redirect_to_page).post(access::login))
            .route("/logout", post(access::logout))
            .route("/assets/{name}", get(page::asset))
            .nest("/api", api)
            .with_state(self.clone());
        let slash = format!("{path}/");
        Router::new()
            .route(path, get(page::redirect_with_slash))
            .route(&slash, get(page::index).with_state(self.clone()))
            .nest(path, inside)
            .layer(axum::middleware::map_response(access::no_store_by_default))
    }
}
