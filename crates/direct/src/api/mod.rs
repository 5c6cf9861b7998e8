//! The HTTP face: what browsers' clients for S3 ask for, in the words they know.
//!
//! | request | does |
//! |---|---|
//! | `POST /api/sign_s3` | a presigned PUT |
//! | `POST /api/complete_s3` | its client says that a file has arrived |
//! | `POST /api/progress_s3` | its client says how far it is |
//! | `POST /api/s3_events` | the bucket says that a file has arrived |
//! | `GET /s3/params` | a form or a presigned PUT for a small file |
//! | `POST /s3/multipart` | begins a multipart upload |
//! | `GET /s3/multipart/{id}` | its parts |
//! | `GET /s3/multipart/{id}/{number}` | the URL of a part |
//! | `GET /s3/multipart/{id}/batch` | those of several |
//! | `POST /s3/multipart/{id}/complete` | completes it |
//! | `DELETE /s3/multipart/{id}` | drops it |
//! | `GET /s3/sts` | temporary credentials |
//! | `POST /s3/presign` | Uppy's signer mode |
//!
//! Each is there a second time below `/t/{token}`, for clients that can send no header.

mod body;
mod companion;
mod fields;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod identity;
mod multipart;
mod notices;
mod presign;
mod problem;
mod query;
mod route;
mod sign;
mod told;

use std::{fmt, sync::Arc, time::Duration};

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    response::Response,
};
use http::{HeaderValue, StatusCode, header, request::Parts};
use landfall::{service::Cors, upload::UploadId};
use landfall_grants::{
    api::{CorsContext, CorsRules, request_id},
    auth::Authenticator,
    enforce::ClientAddress,
};

use self::{
    identity::Tokens,
    problem::{About, Problem},
    query::Query,
    route::{Area, Located, Route},
};
use crate::{Direct, DirectError};

/// What pages may send here and read beyond what uploads need.
const CORS_RULES: CorsRules = CorsRules {
    methods: "GET, POST, DELETE, OPTIONS",
    headers: "uppy-auth-token, uppy-credentials-params, Accept, X-CSRF-TOKEN, X-XSRF-TOKEN",
    exposed: "Retry-After",
};

/// What the API works with, and how it behaves.
#[derive(Clone)]
#[non_exhaustive]
pub struct ApiSettings {
    /// The uploads.
    pub direct: Direct,
    /// Who may ask.
    pub callers: Authenticator,
    /// What all paths begin with; nothing if empty.
    pub path: String,
    /// Cross-origin requests; `None` = no CORS headers at all.
    pub cors: Option<Cors>,
    /// Finds the client's address; that of the connection if not set.
    pub client: Option<Arc<ClientAddress>>,
    /// Who may say what has arrived in the bucket: whoever has this. Nobody if `None`.
    pub events_secret: Option<String>,
    /// How long a body may take to arrive; 30 seconds if not set.
    pub body_time: Duration,
}

impl ApiSettings {
    /// Defaults.
    #[must_use]
    pub fn new(direct: Direct, callers: Authenticator) -> Self {
        Self {
            direct,
            callers,
            path: String::new(),
            cors: None,
            client: None,
            events_secret: None,
            body_time: Duration::from_secs(30),
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

/// The first segments of the paths that the API answers at, below [`ApiSettings::path`].
pub const AREAS: [&str; 3] = ["/api", "/s3", "/t"];

/// The API as a router for all of its paths; everything else gets 404. A
/// [`Peer`](landfall::service::Peer) in a request's extensions tells where it comes from.
pub fn service(settings: ApiSettings) -> Router {
    let api = Arc::new(Api {
        path: settings.path.trim_end_matches('/').to_owned(),
        tokens: identity::tokens(),
        settings,
    });
    // Ids of S3 are one segment however they are spelled, tokens are taken out of paths before anybody
    // reads them: so paths are read in `route` alone.
    Router::new().fallback(answer).with_state(api)
}

/// What requests share.
struct Api {
    /// The path that all begin with, without a slash at its end.
    path: String,
    settings: ApiSettings,
    tokens: Tokens,
}

impl Api {
    fn direct(&self) -> &Direct {
        &self.settings.direct
    }
}

/// A request.
struct Call {
    parts: Parts,
    body: Body,
}

impl Call {
    /// What an error becomes, before it is known which upload is meant.
    fn refuse(&self, error: DirectError) -> Problem {
        refusal(&self.parts, None, error)
    }
}

/// What an error becomes.
fn refusal(parts: &Parts, upload: Option<&UploadId>, error: DirectError) -> Problem {
    let about = About {
        request_id: request_id(parts),
        upload,
    };
    about.problem(error)
}

/// The way of every request.
async fn answer(State(api): State<Arc<Api>>, request: Request) -> Response {
    let (mut parts, body) = request.into_parts();
    // Cheap: its bytes are shared.
    let uri = parts.uri.clone();
    let located = Located::find(&api.path, uri.path());
    if let Some(located) = located
        && let Some(token) = located.token
    {
        identity::replace(&mut parts, located.shown(&api.path), uri.query());
        let bearer = HeaderValue::try_from(format!("Bearer {token}"));
        // What can't be a header is nobody's token.
        let mut bearer = bearer.unwrap_or(HeaderValue::from_static("Bearer ?"));
        bearer.set_sensitive(true);
        parts.headers.insert(header::AUTHORIZATION, bearer);
    }
    let area = located.map_or(Area::Api, |located| located.area);
    let log = tracing::enabled!(tracing::Level::DEBUG).then(|| {
        let path = match located {
            Some(_) => parts.uri.path().to_owned(),
            None => route::shown(&api.path, uri.path()),
        };
        (parts.method.clone(), path, request_id(&parts).to_owned())
    });
    let cross_site = api.settings.callers.csrf();
    let cors = api.settings.cors.as_ref();
    let context = CorsContext::new(CORS_RULES, cors, &parts, |head| {
        cross_site.is_same_origin(head)
    });
    let result = match (context.is_allowed(), context.preflight()) {
        (false, _) => Err(Problem::new(
            StatusCode::FORBIDDEN,
            "pages of this origin may not ask here",
        )),
        (true, Some(response)) => Ok(response),
        (true, None) => match located.map(|located| located.route(&parts.method)) {
            Some(Ok(route)) => run(&api, route, Call { parts, body }).await,
            Some(Err(problem)) => Err(problem),
            None => Err(Problem::nothing_here()),
        },
    };
    let mut response = result.unwrap_or_else(|problem| problem.respond(area));
    context.apply(response.headers_mut());
    if let Some((method, path, id)) = log {
        let status = response.status().as_u16();
        tracing::debug!(%method, path, requestId = id, status, "DirectResponseOutgoing");
    }
    response
}

async fn run(api: &Api, route: Route<'_>, call: Call) -> Result<Response, Problem> {
    match route {
        Route::Part(id, number) => multipart::part(api, call, &id, number).await,
        Route::SignPut => Box::pin(sign::sign(api, call)).await,
        Route::Check => Box::pin(told::check(api, call)).await,
        Route::Progress => Box::pin(told::progress(api, call)).await,
        Route::Notices => Box::pin(notices::take(api, call)).await,
        Route::Params => Box::pin(companion::params(api, call)).await,
        Route::Credentials => Box::pin(companion::credentials(api, call)).await,
        Route::Presign => Box::pin(presign::presign(api, call)).await,
        Route::Begin => Box::pin(multipart::begin(api, call)).await,
        Route::Parts(id) => Box::pin(multipart::parts(api, call, &id)).await,
        Route::Batch(id) => Box::pin(multipart::batch(api, call, &id)).await,
        Route::Complete(id) => Box::pin(multipart::complete(api, call, &id)).await,
        Route::Abort(id) => Box::pin(multipart::abort(api, call, &id)).await,
    }
}
