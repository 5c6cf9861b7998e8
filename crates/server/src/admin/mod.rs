//! The dashboard: a page and the JSON API behind it, for those who have the admin key.
//!
//! Everything the page shows comes from the API (docs/admin-api.yaml), and the API knows nothing that
//! other parts don't: uploads are rows of the [`Queue`], undelivered events those of the outbox, and
//! how the server itself is doing is what its [`Machine`] says.

mod access;
mod dead;
mod keys;
mod live;
mod machine;
mod overview;
mod page;
mod problem;
mod row;
mod session;
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
use landfall_grants::{
    Queue, TokenHash,
    auth::{CsrfPolicy, FailedAttempts},
    enforce::ClientAddress,
};
use tokio::sync::watch;

pub use self::machine::{Check, Machine, Part, Room};
use self::session::Sessions;

/// What a dashboard is made of.
pub struct AdminParts {
    /// The key that opens it.
    pub key: String,
    /// The name of this node, to be shown.
    pub node: String,
    /// The uploads.
    pub queue: Queue,
    /// Removes those that are cancelled.
    pub handler: Handler,
    /// The server it is about.
    pub machine: Arc<dyn Machine>,
    /// Finds the client's address, in front of trusted proxies.
    pub client: Arc<ClientAddress>,
    /// Counts wrong keys.
    pub failed_attempts: FailedAttempts,
    /// Becomes true when the server stops: streams end then.
    pub closing: watch::Receiver<bool>,
}

impl fmt::Debug for AdminParts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AdminParts")
            .field("node", &self.node)
            .field("machine", &self.machine)
            .finish_non_exhaustive()
    }
}

/// The dashboard. Cheap to clone.
#[derive(Clone)]
pub struct Admin(Arc<Inner>);

struct Inner {
    key: TokenHash,
    sessions: Sessions,
    node: String,
    queue: Queue,
    handler: Handler,
    machine: Arc<dyn Machine>,
    client: Arc<ClientAddress>,
    closing: watch::Receiver<bool>,
    failed_attempts: FailedAttempts,
    cross_site: CsrfPolicy,
    streams: Arc<tokio::sync::Semaphore>,
    started: (Instant, SystemTime),
}

impl fmt::Debug for Admin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admin")
            .field("node", &self.0.node)
            .finish_non_exhaustive()
    }
}

impl Admin {
    /// Puts one together.
    #[must_use]
    pub fn new(parts: AdminParts) -> Self {
        let seen_by = parts.handler.clone();
        let cross_site =
            CsrfPolicy::new().external_origin(move |request| seen_by.external_origin(request));
        Self(Arc::new(Inner {
            key: TokenHash::from_secret(&parts.key),
            sessions: Sessions::new(&parts.key),
            node: parts.node,
            queue: parts.queue,
            handler: parts.handler,
            machine: parts.machine,
            client: parts.client,
            closing: parts.closing,
            failed_attempts: parts.failed_attempts,
            cross_site,
            streams: Arc::new(tokio::sync::Semaphore::new(live::STREAMS)),
            started: (Instant::now(), SystemTime::now()),
        }))
    }

    /// Its routes below `path` (such as `/admin`, without a slash at the end).
    pub fn router(&self, path: &str) -> Router {
        let api = Router::new()
            .route("/overview", get(overview::overview))
            .route("/throughput", get(overview::throughput))
            .route("/uploads", get(uploads::list))
            .route("/uploads/{id}", get(uploads::get).delete(uploads::cancel))
            .route("/events", get(live::events))
            .route("/dead", get(dead::list))
            .route("/dead/retry", post(dead::retry))
            .route("/dead/drop", post(dead::drop))
            .route("/keys", get(keys::list))
            .fallback(problem::not_found)
            .method_not_allowed_fallback(problem::method_not_allowed)
            .layer(axum::middleware::from_fn_with_state(
                self.clone(),
                access::guard,
            ));
        let inside = Router::new()
            .route("/login", get(page::back).post(access::login))
            .route("/logout", post(access::logout))
            .route("/assets/{name}", get(page::asset))
            .nest("/api", api)
            .with_state(self.clone());
        let slash = format!("{path}/");
        Router::new()
            .route(path, get(page::with_slash))
            .route(&slash, get(page::index).with_state(self.clone()))
            .nest(path, inside)
            .layer(axum::middleware::map_response(access::uncached))
    }
}
