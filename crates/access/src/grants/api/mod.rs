//! The grant API:
//!
//! | request | effect |
//! |---|---|
//! | `POST /uploadjobs` | creates a grant: an upload token, or with `"mode": "url"` an upload URL |
//! | `GET /uploadjobs` | lists the principal's jobs, oldest first |
//! | `GET /uploadjobs/{request_id}` | returns a job |
//! | `DELETE /uploadjobs/{request_id}` | cancels a job and removes its upload |
//! | `GET /uploadjobs/link` | describes the upload link that the request has as its bearer token |
//! | `GET /uploadjobs/events` | streams events of jobs (server-sent events) |

mod cancel;
mod cors;
mod create;
mod events;
mod grant;
mod grant_request;
mod job_json;
mod link;
mod list;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use crate::{ClientAddress, Problem, auth::Authenticator, request_id};
use axum::{
    Router,
    extract::{Path, rejection::PathRejection},
    middleware,
    response::Response,
    routing::get,
};
use http::{StatusCode, header, request::Parts};
use landfall::{Handler, service::Cors};
use landfall_state::queue::{Principal, Queue, QueueError, Scope, policy::Policy};
use tokio::sync::{Semaphore, watch};

use self::events::StreamLimiter;
pub use self::events::StreamLimits;

/// More cancellations of this process wait.
const MAX_CANCELLATIONS: usize = 64;

const MAX_CATCH_UPS: usize = 8;

/// The format of responses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ApiStyle {
    /// Specific status codes, jobs with their state, and problem details (RFC 9457).
    #[default]
    Landfall,
    /// The format of the Laravel package `oneofftech/laravel-tus-upload`, for its front end.
    Laravel,
}

/// Counters of this process, updated without ordering.
#[derive(Debug, Default)]
pub struct ApiStats {
    /// Grants created.
    pub granted: AtomicU64,
    /// Repeated requests for a grant.
    pub repeated: AtomicU64,
    /// Requests for a grant that were rejected.
    pub rejected: AtomicU64,
    /// Requests for a grant that failed because of the server.
    pub failed: AtomicU64,
    /// Uploads cancelled.
    pub cancelled: AtomicU64,
    /// Event streams open now.
    pub event_streams: AtomicU64,
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Relaxed);
}

/// Settings of the grant API.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ApiSettings {
    /// The upload queue.
    pub queue: Queue,
    /// Authenticates requests.
    pub authenticator: Authenticator,
    /// Policies, applied in this order.
    pub policies: Vec<Arc<dyn Policy>>,
    /// Creates and removes uploads.
    pub handler: Handler,
    /// The path of the API; default `/uploadjobs`.
    pub path: String,
    /// The format of responses.
    pub style: ApiStyle,
    /// Cross-origin requests; `None` disables CORS.
    pub cors: Option<Cors>,
    /// Finds the client's address.
    pub client: ClientAddress,
    /// Timeout for receiving a request body; default 30 seconds.
    pub body_timeout: Duration,
    /// Interval of keep-alive comments in event streams; default 15 seconds.
    pub keep_alive_interval: Duration,
    /// The interval at which open event streams are authenticated again; default one minute.
    pub reauthorize_interval: Duration,
    /// Limits on open event streams.
    pub stream_limits: StreamLimits,
    /// Becomes true at shutdown, which ends event streams.
    pub shutdown: Option<watch::Receiver<bool>>,
    /// Counters of the API.
    pub stats: Arc<ApiStats>,
}

impl ApiSettings {
    /// Creates settings with defaults and without policies.
    #[must_use]
    pub fn new(queue: Queue, authenticator: Authenticator, handler: Handler) -> Self {
        Self {
            queue,
            authenticator,
            policies: Vec::new(),
            handler,
            path: "/uploadjobs".into(),
            style: ApiStyle::default(),
            cors: None,
            client: ClientAddress::default(),
            body_timeout: Duration::from_secs(30),
            keep_alive_interval: Duration::from_secs(15),
            reauthorize_interval: Duration::from_secs(60),
            stream_limits: StreamLimits::default(),
            shutdown: None,
            stats: Arc::default(),
        }
    }
}

/// Creates a router for [`ApiSettings::path`] and the paths below it; others get 404.
///
/// The address of the connection is that of a [`Peer`](landfall::service::Peer) in the request's extensions.
pub fn service(settings: ApiSettings) -> Router {
    let path = settings.path.trim_end_matches('/').to_owned();
    let api = Arc::new(Api {
        streams: StreamLimiter::new(settings.stream_limits, settings.stats.clone()),
        reading: Semaphore::new(MAX_CATCH_UPS),
        cancelling: Arc::new(Semaphore::new(MAX_CANCELLATIONS)),
        settings,
    });
    let one = get(list::one).delete(cancel::cancel);
    let cors = middleware::from_fn_with_state(api.clone(), cors::middleware);
    let jobs = get(list::list).post(grant::grant);
    let mut router = Router::new().route(&format!("{path}/"), jobs.clone());
    if !path.is_empty() {
        // The package's front end requests the list with a trailing slash.
        router = router.route(&path, jobs);
    }
    router
        .route(&format!("{path}/events"), get(events::listen))
        .route(&format!("{path}/{{request_id}}"), one.clone())
        .route(&format!("{path}/{{request_id}}/"), one)
        .method_not_allowed_fallback(async || {
            Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method not allowed")
        })
        .fallback(async || Problem::new(StatusCode::NOT_FOUND, "not found"))
        .layer(cors)
        .with_state(api)
}

struct Api {
    settings: ApiSettings,
    streams: Arc<StreamLimiter>,
    reading: Semaphore,
    cancelling: Arc<Semaphore>,
}

impl Api {
    async fn authenticate(&self, parts: &Parts) -> Result<Principal, Problem> {
        let client = self.settings.client.of_request(parts);
        let authenticator = &self.settings.authenticator;
        Ok(authenticator.authenticate(parts, client).await?)
    }

    /// Accepts upload links, too.
    async fn authenticate_for_grant(&self, parts: &Parts) -> Result<Principal, Problem> {
        let client = self.settings.client.of_request(parts);
        let authenticator = &self.settings.authenticator;
        Ok(authenticator.authenticate_for_grant(parts, client).await?)
    }
}

/// The principal's own, or for an admin those of `subject` or all.
fn scope(principal: &Principal, subject: Option<&str>) -> Result<Scope, Problem> {
    match subject {
        None if principal.is_admin => Ok(Scope::All),
        None => Ok(Scope::Subject(principal.subject.clone())),
        Some(other) if principal.is_admin || other == principal.subject => {
            Ok(Scope::Subject(other.into()))
        }
        Some(_) => {
            let detail = "only admins may list uploads of other subjects";
            Err(Problem::new(StatusCode::FORBIDDEN, detail))
        }
    }
}

type IdPath = Result<Path<String>, PathRejection>;

/// Empty, which is no valid id, if it is not UTF-8.
fn id(path: IdPath) -> String {
    path.map(|Path(id)| id).unwrap_or_default()
}

fn json(status: StatusCode, body: &serde_json::Value) -> Response {
    let mut response = Response::new(body.to_string().into());
    *response.status_mut() = status;
    let json = http::HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}

/// The same if the job belongs to another subject.
fn not_found() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "upload not found")
}

/// The cause is not revealed to clients.
fn fault(parts: &Parts) -> impl Fn(QueueError) -> Problem {
    move |error| {
        let request_id = request_id(parts);
        tracing::error!(%error, requestId = request_id, "failed to access the upload queue");
        Problem::unavailable("the upload queue is temporarily unavailable")
    }
}

fn laravel_response(problem: Problem) -> Response {
    let (status, message) = match problem.status() {
        StatusCode::UNAUTHORIZED => (None, "Unauthenticated."),
        StatusCode::FORBIDDEN if problem.is_cross_site() => {
            (StatusCode::from_u16(419).ok(), "CSRF token mismatch.")
        }
        StatusCode::FORBIDDEN => (None, "This action is unauthorized."),
        _ => (None, problem.detail()),
    };
    let mut body = serde_json::json!({ "message": message });
    if !problem.errors().is_empty() {
        body["errors"] = problem.errors_by_field();
    }
    let status = status.unwrap_or(problem.status());
    let problem = problem.with_status(status);
    problem.respond_with("application/json", &body)
}
