//! The records in the bucket and their conditional writes. It decides nothing about leases.

use std::{fmt, time::Duration};

use bytes::Bytes;
use landfall::{BoxError, upload::UploadId};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use sha2::{Digest, Sha256};

const MAX_ID_LEN: usize = 512;
/// The folder of all lease records.
pub(super) const LEASES: &str = "leases/";
/// The folder of all heartbeat records.
pub(super) const NODES: &str = "nodes/";
/// The most requests in the record of a node.
pub(super) const MAX_REQUESTS: usize = 1000;

/// The calls of a [`BucketLocker`](super::BucketLocker) to an object store. They must not be cached, and
/// need not have time limits.
///
/// Keys consist of `leases/` or `nodes/` and a name.
pub trait LeaseRecords: fmt::Debug + Send + Sync + 'static {
    /// Reads a record and its version; `None` if there is none. It has at most 1 MiB.
    fn read(
        &self,
        key: &str,
    ) -> impl Future<Output = Result<Option<(Bytes, String)>, BoxError>> + Send;

    /// Writes a record if it still has this version, or if there is none: `None`. Returns its new version,
    /// or `None` if it has changed. A call that fails may have taken effect.
    fn write(
        &self,
        key: &str,
        json: Vec<u8>,
        version: Option<String>,
    ) -> impl Future<Output = Result<Option<String>, BoxError>> + Send;

    /// Deletes a record, if there is one.
    fn delete(&self, key: &str) -> impl Future<Output = Result<(), BoxError>> + Send;

    /// Lists the records whose keys begin with `prefix`, from the `next` of the page before.
    fn list(
        &self,
        prefix: &str,
        next: Option<String>,
    ) -> impl Future<Output = Result<RecordPage, BoxError>> + Send;
}

/// Records of a listing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RecordPage {
    /// At most 1,000.
    pub records: Vec<ListedRecord>,
    /// The start of the next page; `None` on the last one.
    pub next: Option<String>,
}

/// A record of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedRecord {
    /// The key.
    pub key: String,
    /// Time since the last write; `None` if the service did not say it.
    pub age: Option<Duration>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct LeaseRecord {
    pub(super) id: String,
    pub(super) fence: u64,
    pub(super) owner: String,
    pub(super) released: bool,
    /// Gives each record its own entity tag.
    nonce: u64,
}

impl LeaseRecord {
    pub(super) fn new(id: &UploadId, fence: u64, owner: &str, released: bool) -> Self {
        Self {
            id: id.as_str().to_owned(),
            fence,
            owner: owner.to_owned(),
            released,
            nonce: rand::random(),
        }
    }

    pub(super) fn key(id: &UploadId) -> String {
        let id = id.as_str();
        match id.len() > MAX_ID_LEN {
            // Upload ids do not begin with a dot.
            true => format!("{LEASES}.{}", hex::encode(Sha256::digest(id))),
            false => format!("{LEASES}{id}"),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct NodeRecord {
    pub(super) sequence: u64,
    pub(super) ttl_ms: u64,
    pub(super) requests: Vec<LeaseRequest>,
    pub(super) nonce: u64,
}

impl NodeRecord {
    pub(super) fn key(owner: &str) -> String {
        format!("{NODES}{owner}")
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct LeaseRequest {
    pub(super) id: String,
    pub(super) fence: u64,
    #[serde(default)]
    pub(super) offset: Option<u64>,
}

#[derive(Debug)]
pub(super) struct Records<R>(pub(super) R);

impl<R: LeaseRecords> Records<R> {
    pub(super) async fn read<T: DeserializeOwned>(
        &self,
        key: &str,
    ) -> Result<Option<(T, String)>, BucketLeaseError> {
        let Some((json, version)) = self.0.read(key).await? else {
            return Ok(None);
        };
        let record = serde_json::from_slice(&json);
        let record = record.map_err(|source| BucketLeaseError::malformed(key, source))?;
        Ok(Some((record, version)))
    }

    pub(super) async fn write<T: Serialize>(
        &self,
        key: &str,
        record: &T,
        version: Option<String>,
    ) -> Result<Option<String>, BucketLeaseError> {
        let json = serde_json::to_vec(record);
        let json = json.map_err(|source| BucketLeaseError::malformed(key, source))?;
        Ok(self.0.write(key, json, version).await?)
    }

    pub(super) async fn delete(&self, key: &str) -> Result<(), BucketLeaseError> {
        Ok(self.0.delete(key).await?)
    }
}

/// A failure of leases in a bucket.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BucketLeaseError {
    /// A call failed.
    #[error(transparent)]
    Call(#[from] BoxError),
    /// A record cannot be parsed.
    #[error("{key} is not a valid lease record: {source}")]
    Malformed {
        /// The key, without the prefix.
        key: String,
        /// The error.
        source: serde_json::Error,
    },
    /// A call took too long.
    #[error("the service did not answer within {0:?}")]
    Timeout(Duration),
    /// Other nodes changed the record each time.
    #[error("too many nodes write the same record")]
    Contention,
    /// This node waits for the results of other calls.
    #[error("too many lease requests at a time")]
    Busy,
    /// All leases of this node are lost.
    #[error("the heartbeat of this node was not written in time")]
    Expired,
    /// The thread of the locker has ended.
    #[error("the lease locker has shut down")]
    Ended,
}

impl BucketLeaseError {
    fn malformed(key: &str, source: serde_json::Error) -> Self {
        let key = key.to_owned();
        Self::Malformed { key, source }
    }
}
