//! Creating an upload for a client that cannot set headers: it receives the upload URL.

use crate::Problem;
use http::{HeaderName, Method, Request, Uri, header, request::Parts};
use landfall::{
    hook::{HookError, UploadToken},
    service::Peer,
    upload::Metadata,
};
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
    let (filename, filetype) = (job.filename.as_deref(), job.filetype.as_deref());
    let metadata = metadata(filename, filetype, &job.metadata);
    let token = Some(UploadToken::new(token.reveal()));
    let request = request(api, parts);
    let created = settings
        .handler
        .create_upload(&request, token, job.size, metadata);
    match created.await {
        Ok(url) => {
            let now = settings.queue.get(job.id).await;
            let job = now.map_err(fault(parts))?.ok_or_else(not_found)?;
            Ok((url, Box::new(job)))
        }
        Err(denied) => Err(refused(api, job, denied).await),
    }
}

/// After a temporary error the job stays, and a request with the same id finds it. Otherwise it ends,
/// and such a request creates another one.
async fn refused(api: &Api, job: &Job, denied: HookError) -> Problem {
    let (status, mut message) = (denied.status, denied.message);
    if message.len() > MAX_MESSAGE_BYTES {
        message.clear();
    }
    let reason = format!("its upload was rejected: {message}");
    if JobEnd::is_final_denial(status)
        && let Err(error) = end(&api.settings, job, reason).await
    {
        tracing::error!(job = %job.id, %error, "failed to release quota reservation");
    }
    let problem = Problem::denied(status, message);
    match denied.headers.get(header::RETRY_AFTER) {
        Some(wait) => problem.with_header(header::RETRY_AFTER, wait.clone()),
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

/// Returns the request for hooks: that of a client which creates the upload itself.
fn request(api: &Api, parts: &Parts) -> Parts {
    let (mut request, ()) = Request::new(()).into_parts();
    request.method = Method::POST;
    request.version = parts.version;
    request.uri = endpoint(api, parts);
    if let Some(peer) = parts.extensions.get::<Peer>() {
        request.extensions.insert(*peer);
    }
    for name in FORWARDED_HEADERS {
        for value in parts.headers.get_all(name) {
            let name = HeaderName::from_static(name);
            request.headers.append(name, value.clone());
        }
    }
    request
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
