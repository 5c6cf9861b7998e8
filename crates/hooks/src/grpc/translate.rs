//! Conversion of messages and responses to and from protocol buffers.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::{HookResponse, JobData, Message, RequestData, UploadChanges, UploadData};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode};
use landfall::hook::Intent;

use super::generated::{
    self as proto, Event, FileInfo, FileInfoChanges, HookRequest, HttpRequest, HttpResponse, Job,
};

pub(super) fn request(message: &Message) -> HookRequest {
    HookRequest {
        r#type: message.hook.as_str().to_owned(),
        event: Some(Event {
            upload: Some(upload(&message.upload)),
            http_request: Some(http_request(&message.request)),
            intent: message.intent.map_or("", Intent::as_str).to_owned(),
            id: message.id.clone(),
            sequence: message.sequence,
            unix_time_millis: millis(message.at),
            job: message.job.as_ref().map(job),
        }),
    }
}

fn job(job: &JobData) -> Job {
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

fn upload(upload: &UploadData) -> FileInfo {
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

fn http_request(request: &RequestData) -> HttpRequest {
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

fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

fn millis(at: SystemTime) -> i64 {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

pub(super) fn response(message: proto::HookResponse) -> Result<HookResponse, String> {
    let mut response = HookResponse {
        reject_upload: message.reject_upload,
        reject_termination: message.reject_termination,
        reject_access: message.reject_access,
        stop_upload: message.stop_upload,
        cache_for: non_zero(message.cache_for_seconds).map(Duration::from_secs),
        ..HookResponse::default()
    };
    if let Some(http) = message.http_response {
        set_client_response(&mut response, http)?;
    }
    if let Some(message) = message.change_file_info {
        response.changes = changes(message)?;
    }
    Ok(response)
}

fn set_client_response(response: &mut HookResponse, message: HttpResponse) -> Result<(), String> {
    let client_response = &mut response.client_response;
    if let Some(code) = non_zero(message.status_code) {
        let status = u16::try_from(code).ok().filter(|code| *code >= 200);
        let status = status.and_then(|status| StatusCode::from_u16(status).ok());
        client_response.status = Some(status.ok_or_else(|| {
            format!("httpResponse.statusCode must be 0 or a status from 200 to 999, not {code}")
        })?);
    }
    for (name, value) in message.header {
        let parsed = HeaderName::try_from(&name).ok();
        match parsed.zip(HeaderValue::try_from(&value).ok()) {
            Some((name, value)) => client_response.headers.insert(name, value),
            None => {
                let expected = "httpResponse.header must contain valid names and values";
                return Err(format!("{expected}, not {name:?}: {value:?}"));
            }
        };
    }
    client_response.body = Some(Bytes::from(message.body)).filter(|body| !body.is_empty());
    Ok(())
}

fn changes(message: FileInfoChanges) -> Result<UploadChanges, String> {
    let expires = match non_zero(message.expires_unix_seconds) {
        None => None,
        Some(seconds) => Some(time(seconds).ok_or_else(|| {
            format!("changeFileInfo.expiresUnixSeconds is not a valid time: {seconds}")
        })?),
    };
    Ok(UploadChanges {
        id: Some(message.id).filter(|id| !id.is_empty()),
        // An empty map is not encoded.
        metadata: Some(message.meta_data).filter(|metadata| !metadata.is_empty()),
        storage: message.storage,
        labels: message.labels,
        expires,
        max_size: non_zero(message.max_size),
        content_types: message.content_types,
    })
}

/// Zero means that the field is not set.
fn non_zero<T: Default + PartialEq>(number: T) -> Option<T> {
    (number != T::default()).then_some(number)
}

/// Between 1970 and 9999.
fn time(seconds: i64) -> Option<SystemTime> {
    let since = Duration::from_secs(u64::try_from(seconds).ok()?);
    // The end of the year 9999.
    (since.as_secs() < 253_402_300_800)
        .then(|| UNIX_EPOCH.checked_add(since))
        .flatten()
}
