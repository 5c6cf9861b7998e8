//! The JSON of messages: tusd's fields in tusd's order.

use std::{borrow::Cow, collections::BTreeMap, io, time::SystemTime};

use crate::{HookName, JobData, Message};
use jiff::Timestamp;
use landfall::hook::Intent;
use serde::Serialize;
use serde_json::{Value, ser::Formatter};

/// tusd 2's format; with `upload` and `request`, also tusd 1's.
#[derive(Serialize)]
pub(super) struct Envelope<'a> {
    #[serde(rename = "Type")]
    pub(super) kind: &'static str,
    #[serde(rename = "Event")]
    pub(super) event: &'a Event<'a>,
    #[serde(rename = "Upload", skip_serializing_if = "Option::is_none")]
    pub(super) upload: Option<&'a Upload<'a>>,
    #[serde(rename = "HTTPRequest", skip_serializing_if = "Option::is_none")]
    pub(super) request: Option<&'a Request<'a>>,
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

/// With the sequence, partitioning and distributed tracing extensions.
#[derive(Serialize)]
struct CloudEvent<'a> {
    specversion: &'static str,
    id: &'a str,
    source: &'a str,
    #[serde(rename = "type")]
    kind: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    time: Option<String>,
    datacontenttype: &'static str,
    sequence: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    partitionkey: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    traceparent: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tracestate: Option<&'a str>,
    data: Event<'a>,
}

/// Serializes a message as a CloudEvent 1.0 in structured JSON.
///
/// `source` is a URI reference for this server. The type is `io.landfall.upload.` and the message's
/// name (`started` for `UploadStarted`); the data is tusd's `Event`.
///
/// `subject` is the upload id, or `job/` and the request id of a job without upload. `partitionkey`
/// is the ordering key. `sequence` has 20 digits, so that it sorts as text. `traceparent` and
/// `tracestate` are the trace context.
#[must_use]
pub fn cloud_event(message: &Message, source: &str) -> Vec<u8> {
    json(&CloudEvent {
        specversion: "1.0",
        id: &message.id,
        source,
        kind: message.hook.cloud_event_kind(),
        subject: Some(message.subject()).filter(|subject| !subject.is_empty()),
        time: Timestamp::try_from(message.at)
            .ok()
            .map(|at| at.to_string()),
        datacontenttype: "application/json",
        sequence: format!("{:020}", message.sequence),
        partitionkey: Some(message.ordering_key()).filter(|key| !key.is_empty()),
        traceparent: message.trace.as_ref().map(|trace| trace.parent.as_str()),
        tracestate: message
            .trace
            .as_ref()
            .and_then(|trace| trace.state.as_deref()),
        data: Event::new(message),
    })
}

/// Without whitespace.
pub(super) fn json(value: &impl Serialize) -> Vec<u8> {
    let mut out = Vec::with_capacity(1024);
    let mut serializer = serde_json::Serializer::with_formatter(&mut out, Go);
    // Serializing these types into memory does not fail.
    if let Err(error) = value.serialize(&mut serializer) {
        tracing::error!(%error, "failed to serialize a message");
    }
    out
}

/// Escapes the same additional characters as Go: `<`, `>`, `&`, U+2028, U+2029 and U+FFFD.
struct Go;

impl Formatter for Go {
    fn write_string_fragment<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        let mut rest = fragment;
        while let Some((at, length, escape)) = next_escape(rest) {
            writer.write_all(&rest.as_bytes()[..at])?;
            writer.write_all(escape)?;
            rest = &rest[at + length..];
        }
        writer.write_all(rest.as_bytes())
    }
}

/// Returns its position, its length and its escape sequence.
fn next_escape(text: &str) -> Option<(usize, usize, &'static [u8])> {
    // Non-ASCII characters to escape begin with one of two bytes.
    let candidates = text
        .bytes()
        .enumerate()
        .filter(|(_, byte)| matches!(byte, b'<' | b'>' | b'&' | 0xE2 | 0xEF));
    for (at, byte) in candidates {
        let found: (usize, &[u8]) = match byte {
            b'<' => (1, br"\u003c"),
            b'>' => (1, br"\u003e"),
            b'&' => (1, br"\u0026"),
            _ => match text.as_bytes().get(at + 1..at + 3) {
                Some([0x80, 0xA8]) if byte == 0xE2 => (3, br"\u2028"),
                Some([0x80, 0xA9]) if byte == 0xE2 => (3, br"\u2029"),
                Some([0xBF, 0xBD]) if byte == 0xEF => (3, br"\ufffd"),
                _ => continue,
            },
        };
        return Some((at, found.0, found.1));
    }
    None
}
