//! Verification of a creation against its grant.

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

/// Why a creation is rejected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum TokenRejection {
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

impl From<TokenRejection> for ClientResponse {
    fn from(refused: TokenRejection) -> Self {
        let (status, text) = match &refused {
            TokenRejection::NoToken => (
                401,
                "upload token required; request one from the application and send it as Upload-Token"
                    .into(),
            ),
            TokenRejection::UnknownToken => (401, "invalid upload token".into()),
            TokenRejection::TooManyGuesses(_) => {
                (429, "too many invalid upload tokens; try again later".into())
            }
            TokenRejection::TooLate => (
                410,
                "upload token expired; request another one from the application".into(),
            ),
            TokenRejection::Ended(JobState::Expired) => (
                410,
                "upload expired; request another one from the application".into(),
            ),
            TokenRejection::Ended(state) => {
                (410, format!("the upload of this grant has {state}"))
            }
            TokenRejection::TooLarge { granted } => (
                413,
                format!("the upload is larger than the granted {granted} bytes"),
            ),
            TokenRejection::OtherLength { granted } => (
                400,
                format!("the upload is smaller than the granted {granted} bytes"),
            ),
            TokenRejection::OtherType { granted } => (
                415,
                format!("the upload does not have the granted type {granted:?}"),
            ),
            TokenRejection::OtherParts => (
                403,
                "a final upload may only concatenate partial uploads of the same grant"
                    .into(),
            ),
            TokenRejection::UnknownLength { granted } => (
                400,
                format!(
                    "the lengths of the partial uploads are unknown; together they must have the granted {granted} bytes"
                ),
            ),
            TokenRejection::TooManyParts => (
                413,
                "too many partial uploads, or more bytes than granted"
                    .into(),
            ),
            TokenRejection::Differs => (
                409,
                "this upload token was used for an upload with another length or other metadata".into(),
            ),
        };
        let reply = Self::text(status, text + "\n");
        match refused {
            TokenRejection::NoToken | TokenRejection::UnknownToken => reply.header(
                header::WWW_AUTHENTICATE,
                HeaderValue::from_static("Bearer realm=\"uploads\""),
            ),
            TokenRejection::TooManyGuesses(wait) => {
                let seconds = wait.as_secs().saturating_add(1);
                reply.header(header::RETRY_AFTER, seconds.into())
            }
            _ => reply,
        }
    }
}

/// Returns whether the request id in the metadata, if any, is that of the job.
pub(super) fn is_bound_to(job: &Job, metadata: &Metadata) -> bool {
    metadata
        .get_text("upload_request_id")
        .is_none_or(|id| id == job.request_id)
}

/// Verifies a creation; `parts` are the uploads bound to the job so far.
pub(super) fn check(
    job: &Job,
    upload: &Upload,
    parts: &[UploadId],
    now: SystemTime,
    check_type: bool,
) -> Result<(), TokenRejection> {
    match job.state {
        JobState::Received if now >= job.expires_at => return Err(TokenRejection::TooLate),
        // The creation of a completed upload may be repeated, since its response may be lost.
        JobState::Received | JobState::Started | JobState::Progress | JobState::Completed => {}
        ended => return Err(TokenRejection::Ended(ended)),
    }
    let is_part = upload.kind == UploadKind::Partial;
    let is_again = job.upload_id.is_some() && !is_part;
    match (job.size, upload.length) {
        // The upload exists, so this is the creation of another one.
        (Some(size), Some(length)) if is_again && length != size => {
            return Err(TokenRejection::Differs);
        }
        (Some(granted), Some(length)) if length > granted => {
            return Err(TokenRejection::TooLarge { granted });
        }
        (Some(granted), Some(length)) if length < granted && !is_part => {
            return Err(TokenRejection::OtherLength { granted });
        }
        (Some(granted), None) if upload.is_final() => {
            return Err(TokenRejection::UnknownLength { granted });
        }
        _ => {}
    }
    if let UploadKind::Final { parts: named, .. } = &upload.kind
        && !named.iter().all(|part| parts.contains(part))
    {
        return Err(TokenRejection::OtherParts);
    }
    if check_type
        && let (Some(granted), Some(stated)) = (&job.filetype, upload.metadata.get_text("filetype"))
        && !granted.eq_ignore_ascii_case(&stated)
    {
        let granted = granted.clone();
        return Err(TokenRejection::OtherType { granted });
    }
    Ok(())
}

/// Returns the metadata with the granted name, and the granted type if the client has set none.
/// Returns `None` if the client's metadata needs no change.
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

/// Returns a fingerprint of a creation.
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
