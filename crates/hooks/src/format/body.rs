//! The JSON of messages: tusd's fields in tusd's order.

use std::{collections::BTreeMap, time::SystemTime};

use jiff::Timestamp;
use landfall::hook::Intent;
use landfall_messages::{HookName, JobData, Message};
use serde::Serialize;
use serde_json::Value;

#[derive(Serialize)]
pub(super) struct V2<'a> {
    #[serde(rename = "Type")]
    pub(super) kind: &'static str,
    #[serde(rename = "Event")]
    pub(super) event: Event<'a>,
}

#[derive(Serialize)]
pub(super) struct Auto<'a> {
    #[serde(rename = "Type")]
    pub(super) kind: &'static str,
    #[serde(rename = "Event")]
    pub(super) event: &'a Event<'a>,
    #[serde(rename = "Upload")]
    pub(super) upload: &'a Upload<'a>,
    #[serde(rename = "HTTPRequest")]
    pub(super) request: &'a Request<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Event<'a> {
    pub(super) upload: Upload<'a>,
    #[serde(rename = "HTTPRequest")]
    pub(super) request: Request<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    intent: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    job: Option<Job<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Upload<'a> {
    #[serde(rename = "ID")]
    id: &'a str,
    size: u64,
    size_is_deferred: bool,
    offset: u64,
    meta_data: &'a BTreeMap<String, String>,
    is_partial: bool,
    is_final: bool,
    partial_uploads: Option<&'a [String]>,
    storage: Option<&'a BTreeMap<String, String>>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    labels: &'a BTreeMap<String, String>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Request<'a> {
    method: &'a str,
    #[serde(rename = "URI")]
    uri: &'a str,
    remote_addr: &'a str,
    header: &'a BTreeMap<String, Vec<String>>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Job<'a> {
    #[serde(rename = "RequestID")]
    request_id: &'a str,
    subject: Option<&'a str>,
    state: &'a str,
    reason: Option<&'a str>,
    filename: Option<&'a str>,
    filetype: Option<&'a str>,
    size: Option<u64>,
    offset: u64,
    #[serde(rename = "ETag", skip_serializing_if = "Option::is_none")]
    etag: Option<&'a str>,
    meta_data: &'a BTreeMap<String, Value>,
    created_at: Option<String>,
    expires_at: Option<String>,
    started_at: Option<String>,
    updated_at: Option<String>,
    ended_at: Option<String>,
}

impl<'a> Job<'a> {
    fn new(job: &'a JobData) -> Self {
        let time = |at: Option<SystemTime>| Some(Timestamp::try_from(at?).ok()?.to_string());
        Self {
            request_id: &job.request_id,
            subject: job.subject.as_deref(),
            state: &job.state,
            reason: job.reason.as_deref(),
            filename: job.filename.as_deref(),
            filetype: job.filetype.as_deref(),
            size: job.size,
            offset: job.offset,
            etag: job.etag.as_deref(),
            meta_data: &job.metadata,
            created_at: time(job.created),
            expires_at: time(job.expires),
            started_at: time(job.started),
            updated_at: time(job.updated),
            ended_at: time(job.ended),
        }
    }
}

impl<'a> Event<'a> {
    pub(super) fn new(message: &'a Message) -> Self {
        let (upload, request) = (&message.upload, &message.request);
        Self {
            upload: Upload {
                id: &upload.id,
                size: upload.size.unwrap_or(0),
                // `pre-access` does not know the length either.
                size_is_deferred: upload.size.is_none() && message.hook != HookName::PreAccess,
                offset: upload.offset,
                meta_data: &upload.metadata,
                is_partial: upload.is_partial,
                is_final: upload.is_final,
                partial_uploads: upload.parts.as_deref(),
                storage: upload.storage.as_ref(),
                labels: &upload.labels,
            },
            request: Request {
                method: &request.method,
                uri: &request.uri,
                remote_addr: &request.remote,
                header: &request.headers,
            },
            intent: message.intent.map(Intent::as_str),
            job: message.job.as_ref().map(Job::new),
        }
    }
}
