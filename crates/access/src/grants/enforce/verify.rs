//! Compares an upload with the job of its token, and maps each difference to a response for the client.
//!
//! Pure functions: no database, and the clock is an argument. The job may change afterwards, so the queue checks state
//! and length again when it binds the upload. `digest` identifies a creation: a repeated one must have the same.

use std::time::{Duration, SystemTime};

use http::{HeaderValue, header};
use landfall::{
    hook::{ClientResponse, MediaType},
    upload::{Metadata, Upload, UploadId, UploadKind},
};
use landfall_state::queue::{Job, JobState};
use sha2::{Digest as _, Sha256};

/// The text is for the client.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum TokenRejection {
    #[error("upload token required; request one from the application and send it as Upload-Token")]
    NoToken,
    #[error("invalid upload token")]
    UnknownToken,
    #[error("too many invalid upload tokens; try again later")]
    TooManyGuesses(Duration),
    #[error("upload token expired; request another one from the application")]
    TooLate,
    #[error("upload expired; request another one from the application")]
    Expired,
    #[error("the upload of this grant has {0}")]
    Ended(JobState),
    #[error("the upload is larger than the granted {granted} bytes")]
    TooLarge { granted: u64 },
    #[error("the upload is smaller than the granted {granted} bytes")]
    OtherLength { granted: u64 },
    #[error("the upload does not have the granted type {granted:?}")]
    OtherType { granted: String },
    #[error("a final upload may only concatenate partial uploads of the same grant")]
    OtherParts,
    #[error(
        "the lengths of the partial uploads are unknown; \
         together they must have the granted {granted} bytes"
    )]
    UnknownLength { granted: u64 },
    #[error("too many partial uploads, or more bytes than granted")]
    TooManyParts,
    #[error("this upload token was used for an upload with another length or other metadata")]
    Differs,
}

impl TokenRejection {
    pub(super) fn ended(state: JobState) -> Self {
        match state {
            JobState::Expired => Self::Expired,
            // Deleted since, which is not the client's concern.
            JobState::Removed => Self::Ended(JobState::Completed),
            state => Self::Ended(state),
        }
    }

    const fn status(&self) -> u16 {
        match self {
            Self::OtherLength { .. } | Self::UnknownLength { .. } => 400,
            Self::NoToken | Self::UnknownToken => 401,
            Self::OtherParts => 403,
            Self::Differs => 409,
            Self::TooLate | Self::Expired | Self::Ended(_) => 410,
            Self::TooLarge { .. } | Self::TooManyParts => 413,
            Self::OtherType { .. } => 415,
            Self::TooManyGuesses(_) => 429,
        }
    }
}

impl From<TokenRejection> for ClientResponse {
    fn from(refused: TokenRejection) -> Self {
        let reply = Self::text(refused.status(), format!("{refused}\n"));
        match refused {
            TokenRejection::NoToken | TokenRejection::UnknownToken => {
                let challenge = HeaderValue::from_static("Bearer realm=\"uploads\"");
                reply.header(header::WWW_AUTHENTICATE, challenge)
            }
            TokenRejection::TooManyGuesses(wait) => {
                let seconds = wait.as_secs().saturating_add(1);
                reply.header(header::RETRY_AFTER, seconds.into())
            }
            _ => reply,
        }
    }
}

pub(super) fn is_bound_to(job: &Job, metadata: &Metadata) -> bool {
    let id = metadata.get_text("upload_request_id");
    id.is_none_or(|id| id == job.request_id)
}

/// `parts` are the uploads bound to the job so far.
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
        JobState::Received
        | JobState::Started
        | JobState::Progress
        | JobState::Completed
        | JobState::Removed => {}
        ended => return Err(TokenRejection::ended(ended)),
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
        && !MediaType::is_same(granted, &stated)
    {
        let granted = granted.clone();
        return Err(TokenRejection::OtherType { granted });
    }
    Ok(())
}

/// Adds the granted name, and the granted type if the client has set none. `None` if the client's metadata
/// needs no change.
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
    let ours = ours.iter();
    let ours = ours.filter_map(|(key, value)| value.map(|value| (*key, value.as_bytes())));
    Some(Metadata::from_pairs(stated.iter().chain(ours)))
}

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
    hex::encode(&hash.finalize()[..16])
}
