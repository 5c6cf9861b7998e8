//! Leases in an S3 bucket: the calls to it. `landfall_leases` decides which.

mod probe;

use std::time::SystemTime;

use bytes::Bytes;
use landfall::BoxError;
use landfall_leases::{LeaseRecords, ListedRecord, RecordPage};
pub use landfall_leases::{LeaseSettings, LeaseSweepSummary, SettingsError};
use sha2::{Digest, Sha256};

pub use self::probe::{ConditionalWrites, keeps_prefix, probe_conditional_writes};
use crate::client::{
    Client, Condition, ErrorKind, ObjectHeaders, ObjectRef, Payload, Result, if_exists,
};

const MAX_RECORD_BYTES: usize = 1 << 20;
const PAGE: u32 = 1000;

/// A locker with leases in an S3 bucket, whose service must honor conditional writes:
/// [`probe_conditional_writes`] checks this.
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use std::time::Duration;
/// use landfall::{lease::Locker, upload::UploadId};
/// use landfall_s3::client::{Client, ClientSettings};
/// use landfall_s3::lease::{BucketLocker, LeaseSettings, S3Leases, probe_conditional_writes};
///
/// let client = Client::new(ClientSettings::default())?;
/// assert!(probe_conditional_writes(&client, "my-bucket", "").await?.all());
/// let leases = S3Leases::new(client, "my-bucket", "");
/// let locker = BucketLocker::new(leases, LeaseSettings::bucket())?;
/// let lease = locker.acquire(&UploadId::random(), Duration::from_secs(20)).await?;
/// drop(lease);
/// locker.close().await;
/// # Ok(()) }
/// ```
pub type BucketLocker = landfall_leases::BucketLocker<S3Leases>;

/// Lease records below `PREFIX.landfall/` in a bucket.
#[derive(Debug)]
pub struct S3Leases {
    client: Client,
    bucket: String,
    root: String,
}

impl S3Leases {
    /// Selects the records of all nodes that store uploads below `prefix` in `bucket`.
    #[must_use]
    pub fn new(client: Client, bucket: impl Into<String>, prefix: &str) -> Self {
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

impl LeaseRecords for S3Leases {
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

async fn put_record(
    client: &Client,
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
        .put_object(object_ref, payload, &headers, condition)
        .await
}
