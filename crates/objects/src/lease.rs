//! Leases in a bucket: the calls to it. `landfall_leases` decides which.

use std::time::SystemTime;

use bytes::Bytes;
use landfall::BoxError;
use landfall_leases::{LeaseRecords, ListedRecord, RecordPage};
use sha2::{Digest, Sha256};

use crate::{
    call::{ErrorKind, Result, if_exists},
    cloud::Cloud,
    object::{Condition, ObjectHeaders, ObjectRef},
    payload::Payload,
};

const MAX_RECORD_BYTES: usize = 1 << 20;
const PAGE: u32 = 1000;

/// Lease records below `PREFIX.landfall/` in a bucket.
#[derive(Debug)]
pub struct ObjectLeases<C> {
    client: C,
    bucket: String,
    root: String,
}

impl<C: Cloud> ObjectLeases<C> {
    /// Selects the records of all nodes that store uploads below `prefix` in `bucket`.
    #[must_use]
    pub fn new(client: C, bucket: impl Into<String>, prefix: &str) -> Self {
        Self {
            client,
            bucket: bucket.into(),
            root: format!("{prefix}.landfall/"),
        }
    }

    fn object(&self, key: &str) -> ObjectRef {
        ObjectRef::new(&self.bucket, format!("{}{key}", self.root))
    }
}

impl<C: Cloud> LeaseRecords for ObjectLeases<C> {
    async fn read(&self, key: &str) -> Result<Option<(Bytes, String)>, BoxError> {
        let object = self.client.get_object(&self.object(key), None).await;
        let Some(object) = if_exists(object)? else {
            return Ok(None);
        };
        let etag = object.head.etag.clone();
        Ok(Some((object.bytes(MAX_RECORD_BYTES).await?, etag)))
    }

    async fn write(
        &self,
        key: &str,
        json: Vec<u8>,
        etag: Option<String>,
    ) -> Result<Option<String>, BoxError> {
        let condition = etag.map_or(Condition::IfAbsent, Condition::IfMatch);
        match put_record(&self.client, &self.object(key), json, condition).await {
            Err(error) if *error.kind() == ErrorKind::PreconditionFailed => Ok(None),
            put => Ok(if_exists(put)?),
        }
    }

    async fn delete(&self, key: &str) -> Result<(), BoxError> {
        Ok(self.client.delete_object(&self.object(key)).await?)
    }

    async fn list(&self, prefix: &str, after: Option<String>) -> Result<RecordPage, BoxError> {
        let prefix = format!("{}{prefix}", self.root);
        let list = self.client.list_objects(&self.bucket, &prefix, after, PAGE);
        let page = list.await?;
        let age = |at: SystemTime| at.elapsed().ok();
        let records = page.objects.into_iter().filter_map(|object| {
            Some(ListedRecord {
                key: object.key.strip_prefix(&self.root)?.to_owned(),
                age: object.modified.and_then(age),
            })
        });
        Ok(RecordPage {
            records: records.collect(),
            next: page.next,
        })
    }
}

/// Writes a small object of JSON.
///
/// # Errors
/// Those of [`Cloud::put_object`].
pub async fn put_record(
    client: &impl Cloud,
    object_ref: &ObjectRef,
    text: Vec<u8>,
    condition: Condition,
) -> Result<String> {
    let digest = Sha256::digest(&text).into();
    let headers = ObjectHeaders {
        content_type: Some("application/json".into()),
        ..ObjectHeaders::default()
    };
    let payload = Payload::new(vec![Bytes::from(text)], Some(digest));
    client
        .put_object(object_ref, payload, &headers, condition, None)
        .await
}
