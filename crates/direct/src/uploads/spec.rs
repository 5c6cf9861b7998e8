//! Validation of requests to open an upload.

use std::collections::BTreeMap;

use http::StatusCode;
use landfall::{hook::MediaType, upload::Metadata};
use landfall_state::queue::{Job, JobState, NewJob, is_secret, policy::PolicyDenial};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::{OpenRequest, SentHeaders, key, object_headers};
use crate::{DirectError, DirectSettings, TransferMode};

const MAX_REQUEST_ID_LEN: usize = 255;
const MAX_METADATA_BYTES: usize = 16 * 1024;
const MAX_SIZE: u64 = i64::MAX.unsigned_abs();
/// They have their own field, or contain secrets.
const RESERVED_KEYS: [&str; 6] = [
    "filename",
    "filetype",
    "token",
    "_token",
    "upload_token",
    "upload_request_id",
];

/// A valid request: its name has no directories, its key the principal's prefix, its metadata no secrets.
#[derive(Debug)]
pub(super) struct UploadSpec {
    pub(super) request: OpenRequest,
    /// The stated type, or one guessed by the name.
    pub(super) filetype: String,
    has_explicit_type: bool,
}

impl UploadSpec {
    pub(super) fn new(mut asked: OpenRequest, key_prefix: &str) -> Result<Self, DirectError> {
        asked.filename = key::file_name(&asked.filename)?;
        let stated = asked.filetype.as_deref().unwrap_or_default().trim();
        let filetype = object_headers::file_type(Some(stated), &asked.filename)?;
        let has_explicit_type = !stated.is_empty();
        if asked.size.is_some_and(|size| size > MAX_SIZE) {
            let why = "the file size exceeds the maximum";
            return Err(DirectError::invalid("file_size", why));
        }
        let is_id = |id: &String| {
            let is_visible = |c: char| !c.is_control() && !c.is_whitespace();
            (1..=MAX_REQUEST_ID_LEN).contains(&id.chars().count()) && id.chars().all(is_visible)
        };
        if asked.request_id.as_ref().is_some_and(|id| !is_id(id)) {
            let why =
                format!("the request id must have 1 to {MAX_REQUEST_ID_LEN} visible characters");
            return Err(DirectError::invalid("request_id", why));
        }
        asked.metadata = sanitize(asked.metadata)?;
        if let Some(key) = &mut asked.key {
            *key = key::client_key(key_prefix, key)?;
        }
        Ok(Self {
            request: asked,
            filetype,
            has_explicit_type,
        })
    }

    /// True if its PUT is signed without a condition.
    pub(super) fn is_unconditional(&self) -> bool {
        self.request.mode == TransferMode::Put && self.request.headers != SentHeaders::All
    }

    /// True if neither the client nor a grant states the type of a PUT.
    pub(super) fn is_untyped_put(&self, job: &Job, was_granted: bool) -> bool {
        let was_typed = was_granted && job.filetype.is_some();
        self.request.mode == TransferMode::Put && !self.has_explicit_type && !was_typed
    }

    /// 32 hexadecimal digits: equal for equal requests.
    pub(super) fn fingerprint(&self) -> String {
        let condition = if self.is_unconditional() {
            " without a condition"
        } else {
            ""
        };
        let parts = (
            format!("{:?}{condition}", self.request.mode),
            &self.request.filename,
            &self.filetype,
            self.request.size,
            &self.request.metadata,
            &self.request.key,
        );
        // Texts and numbers always have a JSON form, in which maps are sorted.
        let digest = Sha256::digest(serde_json::to_vec(&parts).unwrap_or_default());
        hex::encode(&digest[..16])
    }

    /// Returns the request for the job, as policies see it first.
    pub(super) fn job(&self, subject: &str) -> NewJob {
        let id = self.request.request_id.clone().unwrap_or_else(key::uuid);
        let mut new = NewJob::new(subject, id, &*self.request.filename);
        new.filetype = Some(self.filetype.clone());
        new.size = self.request.size;
        let texts = self.request.metadata.iter();
        let texts = texts.map(|(key, value)| (key.clone(), Value::from(&**value)));
        new.metadata = texts.collect();
        new.request_fingerprint = Some(new.fingerprint());
        new
    }

    pub(super) fn check_grant(&self, job: &Job) -> Result<(), DirectError> {
        match (self.request.size, job.size, job.max_size) {
            (Some(size), Some(limit), _) | (Some(size), None, Some(limit)) if size > limit => {
                let stored = size;
                return Err(DirectError::TooLarge { stored, limit });
            }
            (Some(size), Some(granted), _) if size < granted => {
                let why = format!("the upload was granted with {granted} bytes, not with fewer");
                return Err(DirectError::invalid("file_size", why));
            }
            _ => {}
        }
        let is_other = |granted: &str| !MediaType::is_same(granted, &self.filetype);
        match &job.filetype {
            Some(granted) if self.has_explicit_type && is_other(granted) => {
                let why = format!("the upload was granted with the type {granted:?}");
                let mut denial = PolicyDenial::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, why);
                denial.field = Some("filetype");
                Err(denial.into())
            }
            _ => Ok(()),
        }
    }

    /// Returns the job's metadata, and if the grant existed before, also the client's.
    pub(super) fn metadata(&self, job: &Job, was_granted: bool) -> Result<Metadata, DirectError> {
        let filename = job.filename.as_deref().unwrap_or(&self.request.filename);
        let filename = key::file_name(filename).unwrap_or_else(|_| self.request.filename.clone());
        let filetype = match job.filetype.as_deref() {
            None if self.has_explicit_type => self.filetype.clone(),
            stated => object_headers::file_type(stated, &filename)?,
        };
        let ours = [("filename", filename), ("filetype", filetype)].into_iter();
        let said = self.request.metadata.iter().filter(|_| was_granted);
        let said = said.map(|(key, value)| (key.as_str(), value.clone()));
        let granted = job.metadata.iter().filter_map(|(key, value)| match value {
            Value::String(text) if !RESERVED_KEYS.contains(&&**key) => Some((&**key, text.clone())),
            _ => None,
        });
        Ok(Metadata::from_pairs(ours.chain(said).chain(granted)))
    }
}

fn sanitize(
    mut metadata: BTreeMap<String, String>,
) -> Result<BTreeMap<String, String>, DirectError> {
    metadata.retain(|key, value| !RESERVED_KEYS.contains(&&**key) && !is_secret(value));
    let length = |(key, value): (&String, &String)| key.len() + value.len();
    if metadata.iter().map(length).sum::<usize>() > MAX_METADATA_BYTES {
        let why = format!("the metadata must not be longer than {MAX_METADATA_BYTES} bytes");
        return Err(DirectError::invalid("metadata", why));
    }
    Ok(metadata)
}

pub(super) fn check_mode(
    settings: &DirectSettings,
    mode: TransferMode,
    size: Option<u64>,
) -> Result<(), DirectError> {
    let (rules, limit) = (settings.bucket.rules(), settings.objects.max_object);
    let is_whole = matches!(mode, TransferMode::Put | TransferMode::Post);
    match size {
        Some(size) if is_whole && size > rules.max_put => {
            Err(DirectError::invalid("file_size", rules.larger))
        }
        Some(size) if size > limit => {
            let name = settings.bucket.cloud().rules().name;
            let why = format!("the maximum file size of {name} is {limit} bytes");
            Err(DirectError::invalid("file_size", why))
        }
        _ => Ok(()),
    }
}

pub(super) fn ended_job_error(job: &Job) -> Option<DirectError> {
    let message = match job.state {
        JobState::Cancelled => "this upload was cancelled; request a new one",
        JobState::Failed => "this upload has failed; request a new one",
        JobState::Expired => "this upload has expired; request a new one",
        _ => return None,
    };
    Some(DirectError::ended(message))
}
