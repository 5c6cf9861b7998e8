//! Sample messages, for documentation and tests.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use landfall::hook::Intent;
use landfall_hooks::{
    HookName, HookNames, JobData, Message, RequestData, TraceContext, UploadData,
};
use serde_json::json;

const ID: &str = "5d892c228ec8d0451dfec588697e8930";
const SIZE: u64 = 432_724;

/// Returns one realistic message per name, in the order of [`HookName::ALL`].
#[must_use]
pub(crate) fn samples() -> Vec<Message> {
    HookName::ALL.into_iter().map(sample).collect()
}

fn sample(hook: HookName) -> Message {
    let nth = hook as u64;
    let at = UNIX_EPOCH + Duration::from_micros(1_795_176_000_000_000 + nth * 1_250_000);
    let job = job(hook, at);
    let upload = match &job {
        Some(job) => job.upload((hook != HookName::PreGrant).then_some(ID)),
        None => upload(hook),
    };
    Message {
        id: format!("{:032x}", 0x4c1d_07f3_a8be_52d6_u128 * u128::from(nth + 1)),
        sequence: 1_795_176_000_000_000 + nth * 1_250_000,
        at,
        hook,
        intent: (hook == HookName::PreAccess).then_some(Intent::Write),
        upload,
        request: request(hook),
        job,
        trace: None,
    }
}

pub(crate) const TRACEPARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// Returns a message of a traced request.
pub(crate) fn traced(mut message: Message) -> Message {
    message.trace = Some(TraceContext {
        parent: TRACEPARENT.to_owned(),
        state: Some("vendor=1".to_owned()),
    });
    message
}

fn job(hook: HookName, at: SystemTime) -> Option<JobData> {
    if hook != HookName::PreGrant && !HookNames::JOB_EVENTS.contains(hook) {
        return None;
    }
    let created = UNIX_EPOCH + Duration::from_secs(1_795_176_000);
    let mut job = JobData {
        subject: Some("ann".to_owned()),
        request_id: "cjp0a1b2c".to_owned(),
        filename: Some("a.png".to_owned()),
        filetype: Some("image/png".to_owned()),
        size: Some(SIZE),
        metadata: BTreeMap::from([("album".to_owned(), json!(7))]),
        ..JobData::default()
    };
    let (state, offset) = match hook {
        HookName::UploadStarted => ("started", 0),
        HookName::UploadProgress => ("progress", 262_144),
        HookName::UploadCompleted => ("completed", SIZE),
        HookName::UploadCancelled => ("cancelled", 262_144),
        HookName::UploadFailed => ("failed", 262_144),
        HookName::UploadExpired => ("expired", 262_144),
        _ => return Some(job),
    };
    state.clone_into(&mut job.state);
    job.offset = offset;
    job.reason = match hook {
        HookName::UploadCancelled => Some("cancelled by ann".to_owned()),
        HookName::UploadFailed => Some("rejected by a hook".to_owned()),
        _ => None,
    };
    job.id = "12".to_owned();
    job.created = Some(created);
    job.expires = Some(created + Duration::from_secs(3600));
    job.started = Some(created + Duration::from_secs(1));
    job.updated = Some(at);
    let is_running = matches!(hook, HookName::UploadStarted | HookName::UploadProgress);
    job.ended = (!is_running).then_some(at);
    Some(job)
}

fn upload(hook: HookName) -> UploadData {
    let mut upload = UploadData {
        id: ID.to_owned(),
        ..UploadData::default()
    };
    if hook == HookName::PreAccess {
        return upload;
    }
    upload.size = Some(SIZE);
    upload.metadata = texts(&[("filename", "a.png"), ("filetype", "image/png")]);
    upload.offset = match hook {
        HookName::PreCreate | HookName::PostCreate => 0,
        HookName::PostReceive | HookName::PostExpire => 262_144,
        _ => SIZE,
    };
    if hook == HookName::PreCreate {
        upload.id.clear();
        return upload;
    }
    upload.created = Some(UNIX_EPOCH + Duration::from_secs(1_795_176_000));
    upload.storage = Some(texts(&[
        ("InfoPath", &format!("/srv/data/{ID}.info")),
        ("Path", &format!("/srv/data/{ID}")),
        ("Type", "filestore"),
    ]));
    upload
}

fn request(hook: HookName) -> RequestData {
    let size = SIZE.to_string();
    let (method, more): (_, &[(&str, &str)]) = match hook {
        // No request causes an expiry, and job events are sent later.
        HookName::PostExpire => return RequestData::default(),
        hook if HookNames::JOB_EVENTS.contains(hook) => return RequestData::default(),
        HookName::PreGrant => (
            "POST",
            &[
                ("Content-Length", "104"),
                ("Content-Type", "application/json"),
            ],
        ),
        HookName::PreCreate => (
            "POST",
            &[
                ("Upload-Length", &size),
                ("Upload-Metadata", "filename YS5wbmc=,filetype aW1hZ2UvcG5n"),
            ],
        ),
        HookName::PostCreate => ("POST", &[("Upload-Length", &size)]),
        HookName::PreTerminate | HookName::PostTerminate => ("DELETE", &[]),
        _ => (
            "PATCH",
            &[
                ("Content-Length", &size),
                ("Content-Type", "application/offset+octet-stream"),
                ("Upload-Offset", "0"),
            ],
        ),
    };
    let is_grant = hook == HookName::PreGrant;
    let usual = [("Host", "localhost:8080"), ("Tus-Resumable", "1.0.0")];
    let usual = if is_grant { &usual[..1] } else { &usual };
    RequestData {
        method: method.to_owned(),
        uri: match method {
            _ if is_grant => "/uploadjobs".to_owned(),
            "POST" => "/files/".to_owned(),
            _ => format!("/files/{ID}"),
        },
        remote: "127.0.0.1:59395".to_owned(),
        headers: texts(more)
            .into_iter()
            .chain(texts(usual))
            .map(|(name, value)| (name, vec![value]))
            .collect(),
        redacted: landfall_hooks::RedactedHeaders::default(),
    }
}

fn texts(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect()
}
