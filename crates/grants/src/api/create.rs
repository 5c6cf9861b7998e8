//! Creating an upload for a caller whose client can set nothing: it gets the URL and sends bytes there.

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri, header, request::Parts,
};
use http_body_util::{BodyExt as _, Empty, Limited};
use landfall::{service::ResponseBody, upload::Metadata};
use serde_json::Value;

use super::{
    Api,
    problem::{Problem, fault},
    request_id,
};
use crate::{Job, Token, gate};

/// The most bytes of a refusal's words that are passed on.
const MAX_WORDS: usize = 4096;

/// Headers of the caller that matter to the creation: where it comes from, and how it names itself.
/// What shows who it is stays behind, for hooks are told of headers.
const PASSED_ON: [&str; 12] = [
    "host",
    "via",
    "forwarded",
    "user-agent",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-forwarded-prefix",
    "x-forwarded-proto",
    "x-real-ip",
    "x-request-id",
    "accept-language",
];

/// An upload that is there.
pub(super) struct Created {
    pub(super) url: String,
    /// The job as it is now.
    pub(super) job: Box<Job>,
}

/// Creates the upload of a job, or finds the one that was created.
pub(super) async fn create(
    api: &Api,
    parts: &Parts,
    job: &Job,
    token: &Token,
) -> Result<Created, Problem> {
    let settings = &api.settings;
    let reply = settings
        .handler
        .create(request(api, parts, job, token))
        .await;
    let location = reply.headers().get(header::LOCATION);
    let location = location
        .and_then(|url| url.to_str().ok())
        .map(str::to_owned);
    match location {
        Some(url) if reply.status().is_success() => {
            let now = settings.queue.get(job.id).await;
            match now.map_err(|error| fault(&error, request_id(parts)))? {
                Some(job) => Ok(Created {
                    url,
                    job: Box::new(job),
                }),
                None => Err(Problem::not_found()),
            }
        }
        _ => Err(refused(api, job, reply).await),
    }
}

/// A refusal ends the job, for the same creation would be refused again; what can be tried again
/// stays, and is found again by its id.
async fn refused(api: &Api, job: &Job, reply: http::Response<ResponseBody>) -> Problem {
    let status = reply.status();
    let wait = reply.headers().get(header::RETRY_AFTER).cloned();
    let words = Limited::new(reply.into_body(), MAX_WORDS).collect().await;
    let words = words.map_or_else(|_| Bytes::new(), http_body_util::Collected::to_bytes);
    let words = String::from_utf8_lossy(&words).trim().to_owned();
    let may_pass = status.is_server_error()
        || matches!(
            status,
            StatusCode::LOCKED | StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT
        );
    if status.is_client_error() && !may_pass {
        let settings = &api.settings;
        let reason = format!("its upload was refused: {words}");
        if let Err(error) = gate::cancel(&settings.queue, &settings.handler, job, &reason).await {
            tracing::error!(job = %job.id, %error, "a job whose upload was refused stays reserved");
        }
    }
    let status = match status.is_client_error() || status.is_server_error() {
        true => status,
        // A hook answers in a way that leaves no upload and is no error either.
        false => StatusCode::BAD_GATEWAY,
    };
    let words = match words.is_empty() {
        true => format!("the upload was refused with {status}"),
        false => words,
    };
    Problem::new(status, words).retry_after_as(wait)
}

/// The creation, as a client of the caller's would send it.
fn request(api: &Api, parts: &Parts, job: &Job, token: &Token) -> Request<Empty<Bytes>> {
    let mut request = Request::new(Empty::new());
    *request.method_mut() = Method::POST;
    *request.version_mut() = parts.version;
    *request.uri_mut() = endpoint(api, parts);
    if let Some(peer) = parts.extensions.get::<landfall::service::Peer>() {
        request.extensions_mut().insert(*peer);
    }
    let headers = request.headers_mut();
    for name in PASSED_ON {
        for value in parts.headers.get_all(name) {
            headers.append(HeaderName::from_static(name), value.clone());
        }
    }
    set(headers, "tus-resumable", "1.0.0");
    set(headers, "upload-token", token.reveal());
    match job.size {
        Some(size) => set(headers, "upload-length", &size.to_string()),
        None => set(headers, "upload-defer-length", "1"),
    }
    let metadata = metadata(job);
    if !metadata.is_empty() {
        set(headers, "upload-metadata", metadata.header());
    }
    request
}

fn set(headers: &mut HeaderMap, name: &'static str, value: &str) {
    if let Ok(mut value) = HeaderValue::from_str(value) {
        value.set_sensitive(name == "upload-token");
        headers.insert(name, value);
    }
}

/// Where a client would send it; under HTTP/2 the host is in here.
fn endpoint(api: &Api, parts: &Parts) -> Uri {
    let endpoint = api.settings.handler.creation_url(parts).parse::<Uri>();
    let path = endpoint.ok().and_then(|url| url.path_and_query().cloned());
    let mut uri = parts.uri.clone().into_parts();
    uri.path_and_query = Some(path.unwrap_or_else(|| http::uri::PathAndQuery::from_static("/")));
    Uri::from_parts(uri).unwrap_or_default()
}

/// What was granted, as the metadata of an upload: texts only, and nothing that means something else
/// in there. The same each time, so that a creation that is asked for again is the same.
fn metadata(job: &Job) -> Metadata {
    const TAKEN: [&str; 5] = [
        "filename",
        "filetype",
        "token",
        "upload_token",
        "upload_request_id",
    ];
    let known = [("filename", &job.filename), ("filetype", &job.filetype)];
    let known = known
        .into_iter()
        .filter_map(|(key, value)| Some((key, value.as_deref()?)));
    let more = job.metadata.iter().filter_map(|(key, value)| match value {
        Value::String(text) if !TAKEN.contains(&&**key) => Some((&**key, &**text)),
        _ => None,
    });
    Metadata::from_pairs(known.chain(more))
}
