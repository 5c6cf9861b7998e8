//! What is asked for, checked: names, sizes, and what else was said.

use std::{collections::BTreeMap, fmt::Write as _};

use http::StatusCode;
use landfall::{
    hook::{MediaType, UploadToken},
    upload::Metadata,
};
use landfall_grants::{
    Job, JobState,
    auth::KeySecret,
    policy::{PolicyDenial, PolicyRequest},
    queue::{JobLimits, NewJob},
};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::{Asked, given, key};
use crate::{DirectError, Way, record::MOST_AT_ONCE};

/// The most characters of a request id.
const LONGEST_ID: usize = 255;
/// The most bytes of names and values of the metadata together.
const MOST_METADATA: usize = 16 * 1024;
/// What databases can count to.
const MOST_BYTES: u64 = i64::MAX.unsigned_abs();
/// What has a place of its own, or is nobody's business.
const TAKEN: [&str; 6] = [
    "filename",
    "filetype",
    "token",
    "_token",
    "upload_token",
    "upload_request_id",
];

/// An upload that is asked for, in an orderly form.
#[derive(Debug)]
pub(super) struct Wish {
    pub(super) way: Way,
    pub(super) filename: String,
    /// As stated, or by the name.
    pub(super) filetype: String,
    /// Whether its client stated it.
    is_type_stated: bool,
    pub(super) size: Option<u64>,
    pub(super) metadata: BTreeMap<String, String>,
    pub(super) request_id: Option<String>,
    /// Below the caller's own prefix.
    pub(super) key: Option<String>,
}

impl Wish {
    /// Checks what is asked for by whoever has keys of its own below `own_prefix`.
    ///
    /// # Errors
    /// Something of it makes no sense.
    pub(super) fn new(asked: Asked, own_prefix: &str) -> Result<Self, DirectError> {
        let filename = key::file_name(&asked.filename)?;
        let stated = asked.filetype.as_deref().unwrap_or_default().trim();
        let filetype = given::file_type(Some(stated), &filename)?;
        if asked.size.is_some_and(|size| size > MOST_BYTES) {
            return Err(DirectError::bad("file_size", "no file is that large"));
        }
        let is_id = |id: &String| {
            let is_visible = |c: char| !c.is_control() && !c.is_whitespace();
            (1..=LONGEST_ID).contains(&id.chars().count()) && id.chars().all(is_visible)
        };
        if asked.request_id.as_ref().is_some_and(|id| !is_id(id)) {
            let why = format!("the request id must have 1 to {LONGEST_ID} visible characters");
            return Err(DirectError::bad("request_id", why));
        }
        let wanted = asked.key.as_deref();
        let key = wanted.map(|wanted| key::own_key(own_prefix, wanted));
        Ok(Self {
            way: asked.way,
            is_type_stated: !stated.is_empty(),
            filename,
            filetype,
            size: asked.size,
            metadata: harmless(asked.metadata)?,
            request_id: asked.request_id,
            key: key.transpose()?,
        })
    }

    /// What is asked for in digest, in 32 hexadecimal digits: the same if it is asked for again.
    pub(super) fn digest(&self) -> String {
        let words = (
            format!("{:?}", self.way),
            &self.filename,
            &self.filetype,
            self.size,
            &self.metadata,
            &self.key,
        );
        // Texts and numbers always have a JSON form, and maps are sorted in it.
        let digest = Sha256::digest(serde_json::to_vec(&words).unwrap_or_default());
        digest[..16].iter().fold(String::new(), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
    }

    /// The question to the policies.
    pub(super) fn ask(&self, id: &str) -> PolicyRequest {
        let mut ask = PolicyRequest::new(id, &*self.filename);
        ask.filesize = self.size;
        ask.filetype = Some(self.filetype.clone());
        let texts = self.metadata.iter();
        ask.metadata = texts
            .map(|(key, value)| (key.clone(), Value::from(&**value)))
            .collect();
        ask
    }

    /// What the policies left of it, for the queue.
    pub(super) fn job(&self, subject: &str, ask: PolicyRequest) -> NewJob {
        let mut requested = NewJob::new(subject, &*ask.id, &*self.filename);
        requested.filetype = Some(self.filetype.clone());
        requested.size = self.size;
        requested.metadata = self.ask(&ask.id).metadata;
        let mut job = NewJob::new(subject, ask.id, ask.filename);
        job.filetype = ask.filetype;
        job.size = ask.filesize;
        job.max_size = ask.limits.max_size;
        job.metadata = ask.metadata;
        job.request_fingerprint = Some(requested.fingerprint());
        job.limits = JobLimits::from(&ask.limits);
        job
    }

    /// Whether it is what was granted.
    ///
    /// # Errors
    /// It isn't.
    pub(super) fn fits(&self, job: &Job) -> Result<(), DirectError> {
        match (self.size, job.size, job.max_size) {
            (Some(size), Some(most), _) | (Some(size), None, Some(most)) if size > most => {
                return Err(DirectError::TooLarge { stored: size, most });
            }
            (Some(size), Some(granted), _) if size < granted => {
                let why = format!("the upload was granted with {granted} bytes, not with fewer");
                return Err(DirectError::bad("file_size", why));
            }
            _ => {}
        }
        let is_other = |granted: &str| {
            MediaType::parse(&self.filetype).is_none_or(|stated| {
                MediaType::parse(granted).is_none_or(|it| it.essence() != stated.essence())
            })
        };
        match &job.filetype {
            Some(granted) if self.is_type_stated && is_other(granted) => {
                let why = format!("the upload was granted with the type {granted:?}");
                let no = PolicyDenial::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, why);
                Err(PolicyDenial {
                    field: Some("filetype"),
                    ..no
                }
                .into())
            }
            _ => Ok(()),
        }
    }

    /// The upload's metadata: what the job says of name, type and the rest; if it was granted before
    /// its client asked here, what its client says besides.
    pub(super) fn metadata(&self, job: &Job, was_granted: bool) -> Result<Metadata, DirectError> {
        let filename = job.filename.as_deref().unwrap_or(&self.filename);
        let filename = key::file_name(filename).unwrap_or_else(|_| self.filename.clone());
        let filetype = match job.filetype.as_deref() {
            None if self.is_type_stated => self.filetype.clone(),
            stated => given::file_type(stated, &filename)?,
        };
        let ours = [("filename", filename), ("filetype", filetype)];
        let said = self.metadata.iter().filter(|_| was_granted);
        let said = said.map(|(key, value)| (key.as_str(), value.clone()));
        let granted = job.metadata.iter().filter_map(|(key, value)| match value {
            Value::String(text) if !TAKEN.contains(&&**key) => Some((&**key, text.clone())),
            _ => None,
        });
        Ok(Metadata::from_pairs(
            ours.iter()
                .map(|(key, value)| (*key, value.clone()))
                .chain(said)
                .chain(granted),
        ))
    }
}

/// Without secrets, and without what has a place of its own.
fn harmless(
    mut metadata: BTreeMap<String, String>,
) -> Result<BTreeMap<String, String>, DirectError> {
    let is_secret =
        |text: &str| text.starts_with(UploadToken::PREFIX) || text.starts_with(KeySecret::PREFIX);
    metadata.retain(|key, value| !TAKEN.contains(&&**key) && !is_secret(value));
    let length = |(key, value): (&String, &String)| key.len() + value.len();
    if metadata.iter().map(length).sum::<usize>() > MOST_METADATA {
        let why = format!("the metadata must not be longer than {MOST_METADATA} bytes");
        return Err(DirectError::bad("metadata", why));
    }
    Ok(metadata)
}

/// That a file of this length can be sent so.
///
/// # Errors
/// It can't, and what to do.
pub(super) fn fits_way(way: Way, size: Option<u64>, most: u64) -> Result<(), DirectError> {
    match size {
        Some(size) if matches!(way, Way::Put | Way::Post) && size > MOST_AT_ONCE => {
            let why =
                "a file of more than 5 GiB can't be sent at once: send it as a multipart upload";
            Err(DirectError::bad("file_size", why))
        }
        Some(size) if size > most => {
            let why = format!("S3 keeps no file of more than {most} bytes");
            Err(DirectError::bad("file_size", why))
        }
        _ => Ok(()),
    }
}

/// Why nothing can come of a job any more, if that is so.
pub(super) fn ended(job: &Job) -> Option<DirectError> {
    let message = match job.state {
        JobState::Cancelled => "this upload was cancelled; ask for another one",
        JobState::Failed => "this upload failed; ask for another one",
        JobState::Expired => "the time of this upload is over; ask for another one",
        _ => return None,
    };
    Some(DirectError::Conflict {
        gone: true,
        message: message.into(),
    })
}
