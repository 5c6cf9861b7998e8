//! The grant API: asking for uploads, looking at them, cancelling them, hearing of them.
//!
//! | request | does |
//! |---|---|
//! | `POST /uploadjobs` | asks for an upload: a token, or with `"mode": "url"` the URL of an upload |
//! | `GET /uploadjobs` | lists the caller's own, oldest first |
//! | `GET /uploadjobs/{request_id}` | one of them |
//! | `DELETE /uploadjobs/{request_id}` | cancels it: its transfer stops, its bytes go |
//! | `GET /uploadjobs/events` | what happens to them, as server-sent events |

mod cancel;
mod cors;
mod create;
mod events;
mod grant;
mod grant_request;
mod job_json;
mod list;
mod problem;
mod stats;

use std::{convert::Infallible, fmt, future::Future, net::IpAddr, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::{FromRequestParts, Path, Request, State},
    middleware,
    response::Response,
    routing::{MethodRouter, get},
};
use http::{StatusCode, header, request::Parts};
use landfall::{
    Handler,
    service::{Cors, Peer},
};
use tokio::sync::{Semaphore, watch};

pub use self::{
    cors::{CorsContext, CorsRules, JsonBodyError, json_object, media_type, read_body, request_id},
    events::StreamLimits,
    stats::ApiStats,
};
use self::{events::StreamLimiter, problem::Problem};
use crate::{
    Principal, Queue, auth::Authenticator, enforce::ClientAddress, policy::Policy, queue::Scope,
};

/// The most cancellations of this process that go on at a time; more wait.
const MAX_CANCELLATIONS: usize = 64;

/// The most listeners that read what they missed at a time; more wait.
const MAX_CATCH_UPS: usize = 8;

/// How answers look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ApiStyle {
    /// Status codes that say what happened, rows with their state, errors as problem details.
    #[default]
    Landfall,
    /// What the Laravel package `oneofftech/laravel-tus-upload` answers, so that its front end works
    /// with Landfall as it is.
    Laravel,
}

/// What the API works with, and how it behaves.
#[derive(Clone)]
#[non_exhaustive]
pub struct ApiSettings {
    /// The jobs.
    pub queue: Queue,
    /// Who may ask.
    pub authenticator: Authenticator,
    /// What they may ask for: all must agree, in this order.
    pub policies: Vec<Arc<dyn Policy>>,
    /// Where uploads are created and removed.
    pub handler: Handler,
    /// The path of the list, `/uploadjobs` if not set.
    pub path: String,
    /// How answers look.
    pub style: ApiStyle,
    /// Cross-origin requests; `None` = no CORS headers at all.
    pub cors: Option<Cors>,
    /// Finds the client's address; that of the connection if not set.
    pub client: Option<Arc<ClientAddress>>,
    /// The most bytes of a request's body; 64 KiB if not set.
    pub max_body: usize,
    /// How long a body may take to arrive; 30 seconds if not set.
    pub body_time: Duration,
    /// How often those who listen get a sign of life; 15 seconds if not set.
    pub heartbeat: Duration,
    /// How often it is looked whether those who listen still may; a minute if not set.
    pub recheck: Duration,
    /// How many may listen at a time, in all and of one subject.
    pub stream_limits: StreamLimits,
    /// Turns to true when the server shuts down: then those who listen are sent away.
    pub shutdown: Option<watch::Receiver<bool>>,
    /// Where the API counts what it does.
    pub stats: Arc<ApiStats>,
}

impl ApiSettings {
    /// Defaults, without policies.
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
            client: None,
            max_body: 64 * 1024,
            body_time: Duration::from_secs(30),
            heartbeat: Duration::from_secs(15),
            recheck: Duration::from_secs(60),
            stream_limits: StreamLimits::default(),
            shutdown: None,
            stats: Arc::default(),
        }
    }
}

impl fmt::Debug for ApiSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiSettings")
            .field("path", &self.path)
            .field("style", &self.style)
            .field("policies", &self.policies.len())
            .finish_non_exhaustive()
    }
}

/// The API as a router for [`ApiSettings::path`] and all below it; everything else gets 404. A
/// [`Peer`] in a request's extensions tells where it comes from.
pub fn service(settings: ApiSettings) -> Router {
    let path = settings.path.trim_end_matches('/').to_owned();
    let api = Arc::new(Api {
        streams: StreamLimiter::new(settings.stream_limits, settings.stats.clone()),
        reading: Semaphore::new(MAX_CATCH_UPS),
        cancelling: Arc::new(Semaphore::new(MAX_CANCELLATIONS)),
        settings,
    });
    let jobs: MethodRouter<Arc<Api>> = get(list).post(grant);
    Router::new()
        .route(if path.is_empty() { "/" } else { &path }, jobs.clone())
        .route_slash(&path, jobs)
        .route(&format!("{path}/events"), get(listen))
        .route(&format!("{path}/{{request_id}}"), get(one).delete(cancel))
        .method_not_allowed_fallback(wrong_method)
        .fallback(nothing_here)
        .layer(middleware::from_fn_with_state(
            api.clone(),
            cors::middleware,
        ))
        .with_state(api)
}

/// The list under its path with a slash, as the package's front end asks for it.
trait RouteSlash {
    fn route_slash(self, path: &str, jobs: MethodRouter<Arc<Api>>) -> Self;
}

impl RouteSlash for Router<Arc<Api>> {
    fn route_slash(self, path: &str, jobs: MethodRouter<Arc<Api>>) -> Self {
        match path {
            "" => self,
            path => self.route(&format!("{path}/"), jobs),
        }
    }
}

/// The id in a path; empty, which nothing is called, if it isn't text.
struct Id(String);

impl<S: Send + Sync> FromRequestParts<S> for Id {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Infallible> {
        let id = Path::<String>::from_request_parts(parts, state).await;
        Ok(Self(id.map_or_else(|_| String::new(), |Path(id)| id)))
    }
}

/// What requests share.
struct Api {
    settings: ApiSettings,
    /// Who listens.
    streams: Arc<StreamLimiter>,
    /// Turns of those who read events that they missed.
    reading: Semaphore,
    /// Turns of cancellations.
    cancelling: Arc<Semaphore>,
}

impl Api {
    /// Who asks.
    async fn authenticate(&self, parts: &Parts) -> Result<Principal, Problem> {
        let client = self.client(parts);
        Ok(self
            .settings
            .authenticator
            .authenticate(parts, client)
            .await?)
    }

    fn client(&self, parts: &Parts) -> Option<IpAddr> {
        let peer = parts.extensions.get::<Peer>().and_then(|peer| peer.address);
        match &self.settings.client {
            Some(find) => find(&parts.headers, peer),
            None => peer.map(|peer| peer.ip()),
        }
    }

    async fn answer(&self, answer: impl Future<Output = Result<Response, Problem>>) -> Response {
        match answer.await {
            Ok(response) => response,
            Err(problem) => problem.respond(self.settings.style),
        }
    }
}

/// Whose jobs a caller sees, by what it asks for: its own, or as an admin those of `subject` or of all.
fn scope(principal: &Principal, subject: Option<&str>) -> Result<Scope, Problem> {
    match subject {
        None if principal.is_admin => Ok(Scope::All),
        None => Ok(Scope::Subject(principal.subject.clone())),
        Some(other) if principal.is_admin || other == principal.subject => {
            Ok(Scope::Subject(other.into()))
        }
        Some(_) => Err(Problem::new(
            StatusCode::FORBIDDEN,
            "only admins see the uploads of others",
        )),
    }
}

async fn grant(State(api): State<Arc<Api>>, request: Request) -> Response {
    api.answer(grant::grant(&api, request)).await
}

async fn list(State(api): State<Arc<Api>>, request: Request) -> Response {
    api.answer(list::list(&api, request)).await
}

async fn one(State(api): State<Arc<Api>>, Id(id): Id, request: Request) -> Response {
    api.answer(list::one(&api, &id, request)).await
}

async fn cancel(State(api): State<Arc<Api>>, Id(id): Id, request: Request) -> Response {
    api.answer(cancel::cancel(&api, &id, request)).await
}

async fn listen(State(api): State<Arc<Api>>, request: Request) -> Response {
    api.answer(events::listen(api.clone(), request)).await
}

async fn wrong_method(State(api): State<Arc<Api>>) -> Response {
    let detail = "nothing is done here with this method";
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, detail).respond(api.settings.style)
}

async fn nothing_here(State(api): State<Arc<Api>>) -> Response {
    Problem::new(StatusCode::NOT_FOUND, "there is nothing here").respond(api.settings.style)
}

/// A JSON body.
fn json(status: StatusCode, body: &serde_json::Value) -> Response {
    let mut response = Response::new(body.to_string().into());
    *response.status_mut() = status;
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        http::HeaderValue::from_static("application/json"),
    );
    response
}
