//! What S3 has of an upload.

use landfall_s3::client::{ErrorKind, ObjectHead, Part};

use super::{
    Direct, REPLACES,
    key::{fingerprint, uuid_of},
    sign::MOST_PARTS,
};
use crate::{DirectError, Record, Way};

/// Pages of a listing: services may choose smaller ones than a thousand parts.
const MOST_PAGES: usize = 100;

/// What S3 has of an upload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Observed {
    /// Its multipart upload, with these parts.
    Parts(Vec<Part>),
    /// An object that its client sent.
    Object(ObjectHead),
    /// Nothing: no object, or only one that was there before or that somebody else wrote.
    Nothing,
}

impl Direct {
    /// Finds out what S3 has of an upload.
    pub(super) async fn observe(&self, record: &Record) -> Result<Observed, DirectError> {
        let is_multipart = matches!(record.way, Way::Multipart | Way::SignedMultipart);
        if is_multipart && record.multipart.is_none() {
            // Nothing that its client has started can be completed without its id.
            return Ok(Observed::Nothing);
        }
        // While there is a multipart upload, an object at the key is not made of it.
        if let Some(multipart) = &record.multipart {
            match self.list(record, multipart).await {
                Ok(parts) => return Ok(Observed::Parts(parts)),
                Err(DirectError::S3(error)) if *error.kind() == ErrorKind::NoSuchUpload => {}
                Err(error) => return Err(error),
            }
        }
        self.observe_object(record).await
    }

    /// Finds out whether S3 has the object of an upload.
    pub(super) async fn observe_object(&self, record: &Record) -> Result<Observed, DirectError> {
        match self.settings().client.head_object(&record.place).await {
            Ok(head) if self.is_from_client(record, &head) => Ok(Observed::Object(head)),
            Ok(_) => Ok(Observed::Nothing),
            Err(error) if *error.kind() == ErrorKind::NoSuchKey => Ok(Observed::Nothing),
            Err(error) => Err(error.into()),
        }
    }

    /// The parts that S3 has, in whichever state the record is.
    pub(super) async fn list(
        &self,
        record: &Record,
        multipart: &str,
    ) -> Result<Vec<Part>, DirectError> {
        let client = &self.settings().client;
        let mut parts: Vec<Part> = Vec::new();
        let mut after = 0;
        for _ in 0..MOST_PAGES {
            let page = client.list_parts(&record.place, multipart, after).await?;
            parts.extend(page.parts);
            match page.next {
                Some(next) if next > after && parts.len() < MOST_PARTS as usize => after = next,
                _ => break,
            }
        }
        Ok(parts)
    }

    /// Whether the object is still the one for which the hooks were called.
    pub(super) async fn is_unchanged(
        &self,
        record: &Record,
        head: &ObjectHead,
    ) -> Result<bool, DirectError> {
        match self.observe_object(record).await? {
            Observed::Object(now) => Ok(now.etag == head.etag && now.size == head.size),
            _ => Ok(false),
        }
    }

    /// Whether an object can be what the client sent, and is not what was at the key before or what
    /// somebody else put there after all signatures had ended.
    pub(super) fn is_from_client(&self, record: &Record, head: &ObjectHead) -> bool {
        let is_signed_once = matches!(record.way, Way::Put | Way::Post);
        let is_in_time = || {
            head.modified
                .is_none_or(|at| at <= record.active_at + self.settings().may_arrive_for())
        };
        let before = record.upload.storage.get(REPLACES);
        let is_new = before.is_none_or(|before| *before != fingerprint(head));
        is_new && (!is_signed_once || has_own_key(record) || is_in_time())
    }
}

/// Whether a key is made for this upload alone, because it contains its random id.
pub(super) fn has_own_key(record: &Record) -> bool {
    uuid_of(record.id()).is_some_and(|uuid| record.place.key.contains(uuid))
}
