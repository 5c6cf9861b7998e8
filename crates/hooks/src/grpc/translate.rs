//! Messages as the service has them, and its answers as reactions.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode};

use super::generated::{
    Event, FileInfo, FileInfoChanges, HookRequest, HookResponse, HttpRequest, HttpResponse, Job,
};
use crate::{
    Changes, Message, Reaction,
    message::{JobFacts, RequestFacts, UploadFacts, Wish},
};

/// The server answered something that can't be done.
#[derive(Debug, thiserror::Error)]
pub(super) enum BadAnswer {
    #[error("httpResponse.statusCode must be 0 or a status from 200 to 999, not {0}")]
    Status(i64),
    #[error("httpResponse.header must hold names and values of headers, not {0:?}: {1:?}")]
    Header(String, String),
    #[error("changeFileInfo.expiresUnixSeconds can't be a time: {0}")]
    Expires(i64),
}

pub(super) fn request(message: &Message) -> HookRequest {
    HookRequest {
        r#type: message.hook.as_str().to_owned(),
        event: Some(Event {
            upload: Some(upload(&message.upload)),
            http_request: Some(http_request(&message.request)),
            intent: message.intent.map_or("", intent).to_owned(),
            id: message.id.clone(),
            sequence: message.sequence,
            unix_time_millis: millis(message.at),
            job: message.job.as_ref().map(job),
        }),
    }
}

fn job(job: &JobFacts) -> Job {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let time = |at: Option<SystemTime>| at.map_or(0, millis);
    let metadata = job.metadata.iter();
    Job {
        request_id: job.request_id.clone(),
        subject: text(&job.subject),
        state: job.state.clone(),
        reason: text(&job.reason),
        filename: text(&job.filename),
        filetype: text(&job.filetype),
        size: signed(job.size.unwrap_or(0)),
        size_is_deferred: job.size.is_none(),
        offset: signed(job.offset),
        etag: text(&job.etag),
        meta_data: metadata
            .map(|(key, value)| (key.clone(), value.to_string()))
            .collect(),
        created_unix_millis: time(job.created),
        expires_unix_millis: time(job.expires),
        started_unix_millis: time(job.started),
        updated_unix_millis: time(job.updated),
        ended_unix_millis: time(job.ended),
    }
}

fn upload(upload: &UploadFacts) -> FileInfo {
    FileInfo {
        id: upload.id.clone(),
        size: signed(upload.size.unwrap_or(0)),
        size_is_deferred: upload.size.is_none(),
        offset: signed(upload.offset),
        meta_data: upload.metadata.clone(),
        is_partial: upload.is_partial,
        is_final: upload.is_final,
        partial_uploads: upload.parts.clone().unwrap_or_default(),
        storage: upload.storage.clone().unwrap_or_default(),
        labels: upload.labels.clone(),
    }
}

fn http_request(request: &RequestFacts) -> HttpRequest {
    let first = |(name, values): (&String, &Vec<String>)| {
        let value = values.first()?;
        Some((name.clone(), value.clone()))
    };
    HttpRequest {
        method: request.method.clone(),
        uri: request.uri.clone(),
        remote_addr: request.remote.clone(),
        header: request.headers.iter().filter_map(first).collect(),
    }
}

const fn intent(wish: Wish) -> &'static str {
    match wish {
        Wish::Create => "create",
        Wish::Write => "write",
        Wish::Inspect => "inspect",
        Wish::Read => "read",
        Wish::Terminate => "terminate",
        Wish::Concatenate => "concatenate",
    }
}

fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

fn millis(at: SystemTime) -> i64 {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

pub(super) fn reaction(response: HookResponse) -> Result<Reaction, BadAnswer> {
    let mut reaction = Reaction {
        reject_upload: response.reject_upload,
        reject_termination: response.reject_termination,
        reject_access: response.reject_access,
        stop_upload: response.stop_upload,
        cache_for: some(response.cache_for_seconds).map(Duration::from_secs),
        ..Reaction::default()
    };
    if let Some(reply) = response.http_response {
        http_response(&mut reaction, reply)?;
    }
    if let Some(wanted) = response.change_file_info {
        reaction.changes = changes(wanted)?;
    }
    Ok(reaction)
}

fn http_response(reaction: &mut Reaction, response: HttpResponse) -> Result<(), BadAnswer> {
    let reply = &mut reaction.reply;
    if let Some(number) = some(response.status_code) {
        let status = u16::try_from(number).ok().filter(|number| *number >= 200);
        let status = status.and_then(|status| StatusCode::from_u16(status).ok());
        reply.status = Some(status.ok_or(BadAnswer::Status(number))?);
    }
    for (name, value) in response.header {
        let read = HeaderName::try_from(&name).ok();
        match read.zip(HeaderValue::try_from(&value).ok()) {
            Some((name, value)) => reply.headers.insert(name, value),
            None => return Err(BadAnswer::Header(name, value)),
        };
    }
    reply.body = Some(Bytes::from(response.body)).filter(|body| !body.is_empty());
    Ok(())
}

fn changes(wanted: FileInfoChanges) -> Result<Changes, BadAnswer> {
    let expires = match some(wanted.expires_unix_seconds) {
        None => None,
        Some(seconds) => Some(time(seconds).ok_or(BadAnswer::Expires(seconds))?),
    };
    Ok(Changes {
        id: Some(wanted.id).filter(|id| !id.is_empty()),
        // On the wire an empty map is none at all.
        metadata: Some(wanted.meta_data).filter(|metadata| !metadata.is_empty()),
        storage: wanted.storage,
        labels: wanted.labels,
        expires,
        max_size: some(wanted.max_size),
        content_types: wanted.content_types,
    })
}

/// On the wire, zero is nothing said.
fn some<T: Default + PartialEq>(number: T) -> Option<T> {
    (number != T::default()).then_some(number)
}

/// Seconds since 1970 as a time, unless it is before 1970 or after all calendars.
fn time(seconds: i64) -> Option<SystemTime> {
    let since = Duration::from_secs(u64::try_from(seconds).ok()?);
    // The year 9999, the last that can be written down.
    (since.as_secs() < 253_402_300_800)
        .then(|| UNIX_EPOCH.checked_add(since))
        .flatten()
}
