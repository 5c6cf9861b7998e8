//! Whether a creation is what was granted.

use std::{
    fmt::Write as _,
    time::{Duration, SystemTime},
};

use http::{HeaderValue, header};
use landfall::{
    hook::ClientResponse,
    upload::{Metadata, Upload, UploadId, UploadKind},
};
use sha2::{Digest as _, Sha256};

use crate::{Job, JobState};

/// Why a creation is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Refused {
    NoToken,
    UnknownToken,
    TooManyGuesses(Duration),
    TooLate,
    Ended(JobState),
    TooLarge { granted: u64 },
    OtherLength { granted: u64 },
    OtherType { granted: String },
    OtherParts,
    UnknownLength { granted: u64 },
    TooManyParts,
    Differs,
}

impl From<Refused> for ClientResponse {
    fn from(refused: Refused) -> Self {
        let (status, text) = match &refused {
            Refused::NoToken => (
                401,
                "an upload needs a grant here: ask the application for a token and send it as \
                 Upload-Token"
                    .into(),
            ),
            Refused::UnknownToken => (401, "there is no grant with this token".into()),
            Refused::TooManyGuesses(_) => (429, "too many wrong tokens; try again later".into()),
            Refused::TooLate => (
                410,
                "the token's time is over: ask the application for another one".into(),
            ),
            Refused::Ended(JobState::Expired) => (
                410,
                "the time of this upload is over: ask the application for another one".into(),
            ),
            Refused::Ended(state) => (410, format!("the upload was granted, and has {state}")),
            Refused::TooLarge { granted } => (
                413,
                format!("the upload was granted with {granted} bytes, not with more"),
            ),
            Refused::OtherLength { granted } => (
                400,
                format!("the upload was granted with {granted} bytes, not with fewer"),
            ),
            Refused::OtherType { granted } => (
                415,
                format!("the upload was granted with the type {granted:?}"),
            ),
            Refused::OtherParts => (
                403,
                "an upload of this grant can only be joined from partial uploads of the same grant"
                    .into(),
            ),
            Refused::UnknownLength { granted } => (
                400,
                format!(
                    "the partial uploads don't tell yet whether they have the granted {granted} \
                     bytes together"
                ),
            ),
            Refused::TooManyParts => (
                413,
                "there are too many partial uploads, or they have more \
                 bytes together than were granted"
                    .into(),
            ),
            Refused::Differs => (
                409,
                "this token was used for an upload with another length or other metadata".into(),
            ),
        };
        let reply = Self::text(status, text + "\n");
        match refused {
            Refused::NoToken | Refused::UnknownToken => reply.header(
                header::WWW_AUTHENTICATE,
                HeaderValue::from_static("Bearer realm=\"uploads\""),
            ),
            Refused::TooManyGuesses(wait) => {
                let seconds = wait.as_secs().saturating_add(1);
                reply.header(header::RETRY_AFTER, seconds.into())
            }
            _ => reply,
        }
    }
}

/// Whether the token came with the id that it was given out for, if it came with one at all.
pub(super) fn is_meant(job: &Job, metadata: &Metadata) -> bool {
    metadata
        .get_text("upload_request_id")
        .is_none_or(|id| id == job.request_id)
}

/// Compares a creation with its job; `parts` are the uploads bound to the job so far.
pub(super) fn check(
    job: &Job,
    upload: &Upload,
    parts: &[UploadId],
    now: SystemTime,
    check_type: bool,
) -> Result<(), Refused> {
    match job.state {
        JobState::Received if now >= job.expires_at => return Err(Refused::TooLate),
        // What is complete may be asked for once more: its answer may have been lost.
        JobState::Received | JobState::Started | JobState::Progress | JobState::Completed => {}
        ended => return Err(Refused::Ended(ended)),
    }
    let is_part = upload.kind == UploadKind::Partial;
    let is_again = job.upload_id.is_some() && !is_part;
    match (job.size, upload.length) {
        // Its upload is there: another length is another upload, whether longer or shorter.
        (Some(size), Some(length)) if is_again && length != size => return Err(Refused::Differs),
        (Some(granted), Some(length)) if length > granted => {
            return Err(Refused::TooLarge { granted });
        }
        (Some(granted), Some(length)) if length < granted && !is_part => {
            return Err(Refused::OtherLength { granted });
        }
        (Some(granted), None) if upload.is_final() => {
            return Err(Refused::UnknownLength { granted });
        }
        _ => {}
    }
    if let UploadKind::Final { parts: named, .. } = &upload.kind
        && !named.iter().all(|part| parts.contains(part))
    {
        return Err(Refused::OtherParts);
    }
    if check_type
        && let (Some(granted), Some(stated)) = (&job.filetype, upload.metadata.get_text("filetype"))
        && !granted.eq_ignore_ascii_case(&stated)
    {
        let granted = granted.clone();
        return Err(Refused::OtherType { granted });
    }
    Ok(())
}

/// The metadata as granted: the name is that of the grant, the type where the client states none.
/// `None` if that is what the client sent.
pub(super) fn metadata(job: &Job, upload: &Upload) -> Option<Metadata> {
    if upload.kind == UploadKind::Partial {
        return None;
    }
    let stated = &upload.metadata;
    let name = job.filename.as_deref();
    let name = name.filter(|name| stated.get("filename") != Some(name.as_bytes()));
    let kind = job.filetype.as_deref();
    let kind = kind.filter(|_| stated.get("filetype").is_none());
    if name.is_none() && kind.is_none() {
        return None;
    }
    let ours = [("filename", name), ("filetype", kind)];
    let ours = ours
        .iter()
        .filter_map(|(key, value)| value.map(|value| (*key, value.as_bytes())));
    Some(Metadata::from_pairs(stated.iter().chain(ours)))
}

/// What a client asks for in a creation, in digest: the same if it asks again.
pub(super) fn digest(upload: &Upload) -> String {
    let mut hash = Sha256::new();
    match upload.length {
        Some(length) => hash.update(length.to_be_bytes()),
        None => hash.update("deferred"),
    }
    if let UploadKind::Final { header, .. } = &upload.kind {
        hash.update(header);
    }
    let mut pairs: Vec<_> = upload.metadata.iter().collect();
    pairs.sort_unstable();
    for (key, value) in pairs {
        for text in [key.as_bytes(), value] {
            hash.update(u64::try_from(text.len()).unwrap_or_default().to_be_bytes());
            hash.update(text);
        }
    }
    hash.finalize()[..16]
        .iter()
        .fold(String::new(), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
}
