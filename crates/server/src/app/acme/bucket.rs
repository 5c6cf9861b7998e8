//! Certificates in the bucket of uploads.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use landfall::BoxError;
use landfall_acme::{Document, MAX_DOCUMENT_BYTES, SharedDocument, SharedStore};
use landfall_s3::client::{
    Client, Condition, ErrorKind, ObjectHeaders, ObjectRef, Payload, if_exists,
};
use landfall_s3::lease::{BucketLocker, BucketSettings};

use super::LEASE_TTL;
use crate::{
    app::{bucket::Bucket, leases::SharedLeases},
    s3,
    settings::Settings,
};

const OBJECT: &str = "certificate.json";

/// The node with the lease writes a heartbeat this often, which AWS bills.
const RENEW_INTERVAL: Duration = Duration::from_secs(10);

/// Opens the store of an ACME directory.
///
/// It has its own leases, so no request for an upload can name its lease.
pub(super) fn open(settings: &Settings, bucket: &Bucket) -> anyhow::Result<SharedStore> {
    // No upload id begins with a dot, and the S3 store reserves this prefix.
    let (prefix, directory) = (&settings.s3.object_prefix, settings.acme_directory_name());
    let prefix = format!("{prefix}.landfall/acme/{directory}/");
    let object = ObjectRef::new(&bucket.name, prefix.clone() + OBJECT);
    let headers = s3::object_headers(&settings.s3.headers);
    let document = BucketDocument::new(&bucket.client, object, headers);
    let locker = locker(&bucket.client, &bucket.name, &prefix)?;
    if settings.expiry.sweep_interval.is_some() {
        tokio::spawn(SharedLeases::of_bucket(locker.clone()).run_sweeper());
    }
    Ok(SharedStore::document(locker, document))
}

pub(super) fn locker(client: &Client, bucket: &str, prefix: &str) -> anyhow::Result<BucketLocker> {
    let mut options = BucketSettings::default();
    (options.ttl, options.renew) = (LEASE_TTL, RENEW_INTERVAL);
    Ok(BucketLocker::new(client.clone(), bucket, prefix, options)?)
}

/// An object that is replaced by conditional writes, which leases in a bucket require, too.
#[derive(Clone, Debug)]
pub(super) struct BucketDocument {
    client: Client,
    object: ObjectRef,
    headers: ObjectHeaders,
}

impl BucketDocument {
    /// Of the headers, only the encryption applies: an ACL might make the key public.
    pub(super) fn new(client: &Client, object: ObjectRef, headers: ObjectHeaders) -> Self {
        Self {
            client: client.clone(),
            object,
            headers: ObjectHeaders {
                content_type: Some("application/json".to_owned()),
                sse: headers.sse,
                sse_kms_key_id: headers.sse_kms_key_id,
                ..ObjectHeaders::default()
            },
        }
    }
}

#[async_trait]
impl SharedDocument for BucketDocument {
    async fn get(&self) -> Result<Option<Document>, BoxError> {
        let Some(object) = if_exists(self.client.get_object(&self.object, None).await)? else {
            return Ok(None);
        };
        let version = object.head.etag.clone();
        let bytes = object.bytes(MAX_DOCUMENT_BYTES).await?;
        Ok(Some(Document { bytes, version }))
    }

    async fn replace(&self, old: Option<&Document>, new: Bytes) -> Result<bool, BoxError> {
        let condition = match old {
            Some(old) => Condition::IfMatch(old.version.clone()),
            None => Condition::IfAbsent,
        };
        let payload = Payload::new(vec![new], None);
        let put = self
            .client
            .put_object(&self.object, payload, &self.headers, condition);
        // Without a version to replace, the object does not exist.
        match if_exists(put.await) {
            Ok(stored) => Ok(stored.is_some()),
            Err(error) if *error.kind() == ErrorKind::PreconditionFailed => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}
