//! The HTTP API for clients that send files to a bucket, and for browsers' S3 clients, compatible with Companion.
//!
//! | request | does |
//! |---|---|
//! | `POST /api/sign` | presigns a PUT, or the start of a resumable upload |
//! | `POST /api/complete` | verifies and completes an upload |
//! | `POST /api/progress` | reports progress |
//! | `POST /api/sign_s3` | presigns a PUT to S3, for clients that send few headers |
//! | `POST /api/complete_s3` | the same as `complete` |
//! | `POST /api/progress_s3` | the same as `progress` |
//! | `POST /api/s3_events` | receives bucket notifications |
//! | `GET /s3/params` | returns a form or a presigned PUT for a small file |
//! | `POST /s3/multipart` | creates a multipart upload |
//! | `GET /s3/multipart/{id}` | lists its parts |
//! | `GET /s3/multipart/{id}/{number}` | presigns a part |
//! | `GET /s3/multipart/{id}/batch` | presigns several parts |
//! | `POST /s3/multipart/{id}/complete` | completes it |
//! | `DELETE /s3/multipart/{id}` | aborts it |
//! | `GET /s3/sts` | returns temporary credentials |
//! | `POST /s3/presign` | presigns a request (Uppy's `signRequest`) |
//!
//! Other clouds than S3 have the routes of `/api`, and `/s3/params` with a PUT; the others respond with 501.
//!
//! All routes also exist below `/t/{token}`, for clients that cannot send headers.

mod companion;
mod fields;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod identity;
mod multipart;
mod notifications;
mod presign;
mod problem;
mod route;
mod status;

use std::{fmt, sync::Arc, time::Duration};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{Request, State},
    response::Response,
};
use http::{HeaderValue, StatusCode, header, request::Parts};
use landfall::{service::Cors, upload::UploadId};
use landfall_access::{
    ClientAddress, CorsContext, CorsRules, Problem, auth::Authenticator, check_json, json_object,
    read_body, request_id,
};
use landfall_state::queue::TokenHash;
use serde::Serialize;
use serde_json::{Map, Value};
use tokio::sync::watch;

use self::{
    fields::{ExplicitToken, Query},
    identity::{Purpose, TokenCache},
    problem::{ApiFamily, ProblemContext},
    route::{MatchedRoute, Route},
};
use crate::{Direct, DirectError};

/// In addition to those of tus.
const CORS_RULES: CorsRules = CorsRules {
    methods: "GET, POST, DELETE, OPTIONS",
    headers: "uppy-auth-token, uppy-credentials-params, Accept, X-CSRF-TOKEN, X-XSRF-TOKEN",
    exposed: "Retry-After",
};

/// Settings of the API.
#[derive(Clone)]
#[non_exhaustive]
pub struct ApiSettings {
    /// The direct uploads.
    pub direct: Direct,
    /// Authenticates principals.
    pub authenticator: Authenticator,
    /// Prefix of all paths; may be empty.
    pub path: String,
    /// Rules for cross-origin requests; `None` for no CORS headers.
    pub cors: Option<Cors>,
    /// Finds the client's address.
    pub client: ClientAddress,
    /// The secret of bucket notifications, which may change; `None` disables them.
    pub notifications_secret: Option<watch::Receiver<TokenHash>>,
    /// Time limit for receiving a body: 30 seconds.
    pub body_timeout: Duration,
}

impl ApiSettings {
    /// Creates default settings.
    #[must_use]
    pub fn new(direct: Direct, authenticator: Authenticator) -> Self {
        Self {
            direct,
            authenticator,
            path: String::new(),
            cors: None,
            client: ClientAddress::default(),
            notifications_secret: None,
            body_timeout: Duration::from_secs(30),
        }
    }
}

impl fmt::Debug for ApiSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiSettings")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

/// The first path segments of all routes, below [`ApiSettings::path`].
pub const PATH_PREFIXES: [&str; 3] = ["/api", "/s3", "/t"];

/// Creates the router; unknown paths get 404.
///
/// A [`Peer`](landfall::service::Peer) in a request's extensions has the client's address.
pub fn service(settings: ApiSettings) -> Router {
    let api = Arc::new(Api {
        path: settings.path.trim_end_matches('/').to_owned(),
        tokens: identity::TokenCache::new(),
        settings,
    });
    // `route` parses all paths: S3's ids may contain encoded slashes, and tokens must be removed
    // first.
    Router::new().fallback(handle).with_state(api)
}

struct Api {
    path: String,
    settings: ApiSettings,
    tokens: TokenCache,
}

impl Api {
    fn direct(&self) -> &Direct {
        &self.settings.direct
    }
}

struct Call {
    parts: Parts,
    body: Body,
    upload: Option<UploadId>,
    is_identified: bool,
    /// From the body or the query, if they could be read.
    explicit_token: Option<ExplicitToken>,
}

enum ApiError {
    Problem(Problem),
    Direct(DirectError),
}

impl<E: Into<Problem>> From<E> for ApiError {
    fn from(error: E) -> Self {
        Self::Problem(error.into())
    }
}

impl From<DirectError> for ApiError {
    fn from(error: DirectError) -> Self {
        Self::Direct(error)
    }
}

impl Call {
    fn problem(&self, error: ApiError) -> Problem {
        match error {
            ApiError::Problem(problem) => problem,
            ApiError::Direct(error) => ProblemContext {
                request_id: request_id(&self.parts),
                upload: self.upload.as_ref(),
            }
            .problem(error),
        }
    }
}

async fn handle(State(api): State<Arc<Api>>, request: Request) -> Response {
    let (mut parts, body) = request.into_parts();
    // Cheap: the clone shares the bytes.
    let uri = parts.uri.clone();
    let located = MatchedRoute::find(&api.path, uri.path());
    if let Some(located) = located
        && let Some(token) = located.token
    {
        identity::replace(&mut parts, located.redacted(&api.path), uri.query());
        let bearer = HeaderValue::try_from(format!("Bearer {token}"));
        // A token that is no valid header value is rejected later.
        let mut bearer = bearer.unwrap_or(HeaderValue::from_static("Bearer ?"));
        bearer.set_sensitive(true);
        parts.headers.insert(header::AUTHORIZATION, bearer);
    }
    let family = located.map_or(ApiFamily::Api, |located| located.family);
    let log = tracing::enabled!(tracing::Level::DEBUG).then(|| {
        let path = match located {
            Some(_) => parts.uri.path().to_owned(),
            None => route::redacted_path(&api.path, uri.path()),
        };
        (parts.method.clone(), path, request_id(&parts).to_owned())
    });
    let csrf = api.settings.authenticator.csrf();
    let context = CorsContext::new(CORS_RULES, api.settings.cors.as_ref(), &parts, csrf);
    let result = match (context.is_allowed(), context.preflight()) {
        (false, _) => Err(Problem::new(
            StatusCode::FORBIDDEN,
            "requests from this origin are not allowed",
        )),
        (true, Some(response)) => Ok(response),
        (true, None) => match located.map(|located| located.route(&parts.method)) {
            Some(Ok(route)) => {
                let mut call = Call {
                    parts,
                    body,
                    upload: None,
                    is_identified: false,
                    explicit_token: None,
                };
                let result = run(&api, route, &mut call).await;
                result.map_err(|error| call.problem(error))
            }
            Some(Err(problem)) => Err(problem),
            None => Err(problem::nothing_here()),
        },
    };
    let mut response = result.unwrap_or_else(|problem| problem::respond(problem, family));
    context.apply(response.headers_mut());
    if let Some((method, path, id)) = log {
        let status = response.status().as_u16();
        tracing::debug!(%method, path, requestId = id, status, "DirectResponseOutgoing");
    }
    response
}

async fn run(api: &Api, route: Route<'_>, call: &mut Call) -> Result<Response, ApiError> {
    let has_requester = route != Route::Notifications;
    match respond(api, route, call).await {
        // Only known requesters learn about errors in their fields.
        Err(ApiError::Problem(problem))
            if has_requester && !call.is_identified && is_about_fields(&problem) =>
        {
            let token = call.explicit_token.take();
            api.requester(call, token, Purpose::Use).await?;
            Err(problem.into())
        }
        result => result,
    }
}

fn is_about_fields(problem: &Problem) -> bool {
    matches!(problem.status().as_u16(), 400 | 413 | 415)
}

async fn respond(api: &Api, route: Route<'_>, call: &mut Call) -> Result<Response, ApiError> {
    match route {
        Route::Part(id, number) => multipart::part(api, call, &id, number).await,
        Route::Sign => Box::pin(companion::sign(api, call)).await,
        Route::SignS3 => Box::pin(companion::sign_s3(api, call)).await,
        Route::Check => Box::pin(status::check(api, call)).await,
        Route::Progress => Box::pin(status::progress(api, call)).await,
        Route::Notifications => Box::pin(notifications::handle(api, call)).await,
        Route::Params => Box::pin(companion::params(api, call)).await,
        Route::Credentials => Box::pin(companion::credentials(api, call)).await,
        Route::Presign => Box::pin(presign::presign(api, call)).await,
        Route::Create => Box::pin(multipart::create(api, call)).await,
        Route::Parts(id) => Box::pin(multipart::parts(api, call, &id)).await,
        Route::Batch(id) => Box::pin(multipart::batch(api, call, &id)).await,
        Route::Complete(id) => Box::pin(multipart::complete(api, call, &id)).await,
        Route::Abort(id) => Box::pin(multipart::abort(api, call, &id)).await,
    }
}

pub(super) const MAX_BODY: usize = 100 * 1024;
pub(super) const MAX_LIST_BODY: usize = 1024 * 1024;

impl Api {
    pub(super) async fn read(&self, call: &mut Call, limit: usize) -> Result<Bytes, Problem> {
        let body = std::mem::take(&mut call.body);
        read_body(body, limit, self.settings.body_timeout).await
    }

    pub(super) async fn object(
        &self,
        call: &mut Call,
        limit: usize,
    ) -> Result<Map<String, Value>, Problem> {
        check_json(&call.parts.headers)?;
        let fields = json_object(&self.read(call, limit).await?)?;
        call.explicit_token = fields::token_of(&fields);
        Ok(fields)
    }
}

pub(super) fn json(body: &impl Serialize) -> Response {
    // Serialization of plain structures does not fail.
    let text = serde_json::to_vec(body).unwrap_or_default();
    let mut response = Response::new(Body::from(text));
    let json = HeaderValue::from_static("application/json; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}
