//! The dashboard: a page and its JSON API, protected by the admin key.

mod access;
mod dead_letters;
mod event_stream;
mod job_json;
mod key;
mod keys;
mod links;
mod overview;
mod page;
mod session;
mod uploads;

use std::{
    sync::Arc,
    time::{Instant, SystemTime},
};

use axum::{
    Router, middleware,
    routing::{delete, get, post},
};
use http::StatusCode;
use landfall::Handler;
use landfall_access::{
    ClientAddress, Problem,
    auth::{CsrfPolicy, FailedAttempts},
};
use landfall_state::queue::Queue;
use tokio::sync::watch;

pub(crate) use self::key::AdminKey;
use self::{
    access::require_access,
    dead_letters::{
        DeadLetterAction::{Delete, Retry},
        change,
    },
};
use crate::app::parts::AppParts;

/// The dependencies of a dashboard.
pub(crate) struct AdminParts {
    pub(crate) key: AdminKey,
    pub(crate) node: String,
    pub(crate) queue: Queue,
    pub(crate) handler: Handler,
    pub(crate) app: Arc<AppParts>,
    pub(crate) client: ClientAddress,
    pub(crate) failed_attempts: FailedAttempts,
    /// Becomes true when the server shuts down, which ends the event streams.
    pub(crate) closing: watch::Receiver<bool>,
}

/// The dashboard. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Admin(Arc<Inner>);

struct Inner {
    parts: AdminParts,
    cross_site: CsrfPolicy,
    streams: Arc<tokio::sync::Semaphore>,
    started: (Instant, SystemTime),
}

impl Admin {
    pub(crate) fn new(parts: AdminParts) -> Self {
        let origin_of = parts.handler.clone();
        let cross_site =
            CsrfPolicy::new().external_origin(move |request| origin_of.external_origin(request));
        Self(Arc::new(Inner {
            parts,
            cross_site,
            streams: Arc::new(tokio::sync::Semaphore::new(event_stream::MAX_STREAMS)),
            started: (Instant::now(), SystemTime::now()),
        }))
    }

    /// Returns its routes below `path` (such as `/admin`, without a trailing slash).
    pub(crate) fn router(&self, path: &str) -> Router {
        let api = Router::new()
            .route("/overview", get(overview::overview))
            .route("/throughput", get(overview::throughput))
            .route("/uploads", get(uploads::list))
            .route("/uploads/{id}", get(uploads::get).delete(uploads::cancel))
            .route("/uploads/{id}/delete", post(uploads::delete))
            .route("/events", get(event_stream::events))
            .route("/dead-letters", get(dead_letters::list))
            .route("/failed-events", get(dead_letters::failed))
            .route(
                "/dead-letters/retry",
                post(|admin, by, ids| change(admin, by, ids, Retry)),
            )
            .route(
                "/dead-letters/delete",
                post(|admin, by, ids| change(admin, by, ids, Delete)),
            )
            .route("/keys", get(keys::list))
            .route("/links", get(links::list))
            .route("/links/{id}", delete(links::revoke))
            .fallback(not_found)
            .method_not_allowed_fallback(method_not_allowed)
            .layer(middleware::from_fn_with_state(self.clone(), require_access));
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
            .layer(middleware::map_response(access::no_store_by_default))
    }
}

fn invalid(message: impl Into<String>) -> Problem {
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, message.into())
}

async fn not_found() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "This address does not exist.")
}

async fn method_not_allowed() -> Problem {
    let detail = "This address does not support the request method.";
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, detail)
}
