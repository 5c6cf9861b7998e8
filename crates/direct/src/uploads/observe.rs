//! Finds out what the bucket has of an upload.

use landfall_objects::{Cloud as _, ErrorKind, ObjectHead, Part, if_exists};

use super::{
    Direct, REPLACES,
    key::{has_unique_key, object_fingerprint},
};
use crate::{DirectError, Record};

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Observed {
    Parts(Vec<Part>),
    Object(ObjectHead),
    /// Or only an older object, or one that another client has written.
    Nothing,
}

impl Direct {
    pub(super) async fn observe(&self, record: &Record) -> Result<Observed, DirectError> {
        if record.mode.is_multipart() && record.multipart.is_none() {
            // A multipart upload without a recorded id cannot be completed.
            return Ok(Observed::Nothing);
        }
        // While the multipart upload exists, an object at the key is not its result.
        if let Some(multipart) = &record.multipart {
            let client = &self.s3()?.client;
            match client.list_parts(&record.object, multipart).await {
                Ok(parts) => return Ok(Observed::Parts(parts)),
                Err(error) if *error.kind() == ErrorKind::NoSuchUpload => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.observe_object(record).await
    }

    pub(super) async fn observe_object(&self, record: &Record) -> Result<Observed, DirectError> {
        let found = if_exists(self.bucket().cloud().head_object(&record.object).await)?;
        let from_client = found.filter(|head| self.is_from_client(record, head));
        Ok(from_client.map_or(Observed::Nothing, Observed::Object))
    }

    /// The hooks were called for that object.
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

    /// False for an object from before or after the signatures were valid.
    pub(super) fn is_from_client(&self, record: &Record, head: &ObjectHead) -> bool {
        let is_signed_once = !record.mode.is_multipart();
        let is_in_time = || {
            let window = self.settings().arrival_window(record.mode);
            head.modified
                .is_none_or(|at| at <= record.active_at + window)
        };
        let before = record.upload.storage.get(REPLACES);
        let is_new = before.is_none_or(|before| *before != object_fingerprint(head));
        is_new && (!is_signed_once || has_unique_key(record) || is_in_time())
    }
}
