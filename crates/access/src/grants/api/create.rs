//! Creating an upload for a client that cannot set headers: it receives the upload URL.

use crate::Problem;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, header, request::Parts};
use http_body_util::{BodyExt as _, Empty, Limited};
use landfall::{service::ResponseBody, upload::Metadata};
use landfall_state::queue::{
    Job, JobEnd, NewJob, Token,
    tracking::{self, CancelError},
};
use serde_json::{Map, Value};

use super::{Api, ApiSettings, fault, not_found};

const MAX_MESSAGE_BYTES: usize = 4096;

/// The client's origin and identification. Credentials are not passed on, since hooks receive the headers.
const FORWARDED_HEADERS: [&str; 12] = [
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

pub(super) async fn create(
    api: &Api,
    parts: &Parts,
    job: &Job,
    token: &Token,
) -> Result<(String, Box<Job>), Problem> {
    let settings = &api.settings;
    let request = request(api, parts, job, token);
    let reply = settings.handler.handle_at(None, request).await;
    let location = reply.headers().get(header::LOCATION);
    match location.and_then(|url| Some(url.to_str().ok()?.to_owned())) {
        Some(url) if reply.status().is_success() => {
            let now = settings.queue.get(job.id).await;
            let job = now.map_err(fault(parts))?.ok_or_else(not_found)?;
            Ok((url, Box::new(job)))
        }
        _ => Err(refused(api, job, reply).await),
    }
}

/// After a temporary error the job stays, and a request with the same id finds it. Otherwise it ends,
/// and such a request creates another one.
async fn refused(api: &Api, job: &Job, reply: http::Response<ResponseBody>) -> Problem {
    let status = reply.status();
    let retry_after = reply.headers().get(header::RETRY_AFTER).cloned();
    let message = Limited::new(reply.into_body(), MAX_MESSAGE_BYTES);
    let message = message.collect().await;
    let message = message.map_or_else(|_| Bytes::new(), http_body_util::Collected::to_bytes);
    let message = String::from_utf8_lossy(&message).trim().to_owned();
    let may_pass = status.is_server_error() || matches!(status.as_u16(), 408 | 423 | 429);
    if status.is_client_error() && !may_pass {
        let settings = &api.settings;
        let reason = format!("its upload was rejected: {message}");
        if let Err(error) = end(settings, job, reason).await {
            tracing::error!(job = %job.id, %error, "failed to release quota reservation");
        }
    }
    let problem = Problem::denied(status, message);
    match retry_after {
        Some(wait) => problem.with_header(header::RETRY_AFTER, wait),
        None => problem,
    }
}

async fn end(settings: &ApiSettings, job: &Job, reason: String) -> Result<(), CancelError> {
    let queue = &settings.queue;
    if queue.bound_upload(job.id).await?.is_none() {
        queue.finish(job.id, JobEnd::Failed(reason)).await?;
    } else {
        tracking::cancel(queue, &settings.handler, job, &reason).await?;
    }
    Ok(())
}

fn request(api: &Api, parts: &Parts, job: &Job, token: &Token) -> Request<Empty<Bytes>> {
    let mut request = Request::new(Empty::new());
    *request.method_mut() = Method::POST;
    *request.version_mut() = parts.version;
    *request.uri_mut() = endpoint(api, parts);
    if let Some(peer) = parts.extensions.get::<landfall::service::Peer>() {
        request.extensions_mut().insert(*peer);
    }
    let headers = request.headers_mut();
    for name in FORWARDED_HEADERS {
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
    let metadata = metadata(
        job.filename.as_deref(),
        job.filetype.as_deref(),
        &job.metadata,
    );
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

/// The URI contains the host with HTTP/2.
fn endpoint(api: &Api, parts: &Parts) -> Uri {
    let endpoint = api.settings.handler.creation_url(parts).parse::<Uri>();
    let path = endpoint.ok().and_then(|url| url.path_and_query().cloned());
    let mut uri = parts.uri.clone().into_parts();
    uri.path_and_query = Some(path.unwrap_or_else(|| http::uri::PathAndQuery::from_static("/")));
    Uri::from_parts(uri).unwrap_or_default()
}

/// Rejects a job whose upload could not be created, before it takes a place in the queue.
pub(super) fn check_metadata(new: &NewJob) -> Result<(), Problem> {
    let metadata = metadata(Some(&new.filename), new.filetype.as_deref(), &new.metadata);
    let (bytes, pairs) = (metadata.header().len(), metadata.iter().len());
    if bytes <= Metadata::MAX_BYTES && pairs <= Metadata::MAX_PAIRS {
        return Ok(());
    }
    let why = format!(
        "as Upload-Metadata, the fields have {bytes} bytes and {pairs} pairs; the maximum is {} bytes and {} pairs",
        Metadata::MAX_BYTES,
        Metadata::MAX_PAIRS
    );
    Err(Problem::field("metadata", why))
}

/// Strings only, and deterministic, so that a repeated creation has the same fingerprint.
fn metadata(filename: Option<&str>, filetype: Option<&str>, more: &Map<String, Value>) -> Metadata {
    const RESERVED_KEYS: [&str; 5] = [
        "filename",
        "filetype",
        "token",
        "upload_token",
        "upload_request_id",
    ];
    let known = [("filename", filename), ("filetype", filetype)];
    let known = known.into_iter();
    let known = known.filter_map(|(key, value)| Some((key, value?)));
    let more = more.iter().filter_map(|(key, value)| match value {
        Value::String(text) if !RESERVED_KEYS.contains(&&**key) => Some((&**key, &**text)),
        _ => None,
    });
    Metadata::from_pairs(known.chain(more))
}
