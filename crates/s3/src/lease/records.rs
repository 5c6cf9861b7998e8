//! The records in the bucket and their conditional writes, and probes of the service for them.

use std::time::Duration;

use bytes::Bytes;
use landfall::upload::UploadId;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use sha2::{Digest, Sha256};

use crate::client::{
    Client, Condition, Error, ErrorKind, ObjectHeaders, ObjectRef, Payload, Result, SettingsError,
    if_exists,
};

const MAX_RECORD_BYTES: usize = 1 << 20;
const MAX_ID_LEN: usize = 512;
pub(super) const MAX_REQUESTS: usize = 1000;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct LeaseRecord {
    pub(super) id: String,
    pub(super) fence: u64,
    pub(super) owner: String,
    pub(super) released: bool,
    pub(super) nonce: u64,
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
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct NodeRecord {
    pub(super) sequence: u64,
    pub(super) ttl_ms: u64,
    pub(super) requests: Vec<LeaseRequest>,
    pub(super) nonce: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct LeaseRequest {
    pub(super) id: String,
    pub(super) fence: u64,
    #[serde(default)]
    pub(super) offset: Option<u64>,
}

#[derive(Debug)]
pub(super) struct Records {
    pub(super) client: Client,
    pub(super) bucket: String,
    root: String,
}

impl Records {
    pub(super) fn new(client: Client, bucket: String, prefix: &str) -> Self {
        Self {
            client,
            bucket,
            root: format!("{prefix}.landfall/"),
        }
    }

    pub(super) fn leases(&self) -> String {
        format!("{}leases/", self.root)
    }

    pub(super) fn nodes(&self) -> String {
        format!("{}nodes/", self.root)
    }

    pub(super) fn lease(&self, id: &UploadId) -> ObjectRef {
        let id = id.as_str();
        let name = if id.len() > MAX_ID_LEN {
            // Upload ids do not begin with a dot.
            format!(".{}", hex::encode(Sha256::digest(id)))
        } else {
            id.to_owned()
        };
        self.object_ref(format!("{}{name}", self.leases()))
    }

    pub(super) fn node(&self, owner: &str) -> ObjectRef {
        self.object_ref(format!("{}{owner}", self.nodes()))
    }

    pub(super) fn object_ref(&self, key: String) -> ObjectRef {
        ObjectRef::new(&self.bucket, key)
    }

    pub(super) async fn read<T: DeserializeOwned>(
        &self,
        object_ref: &ObjectRef,
    ) -> Result<Option<(T, String)>, RecordError> {
        let Some(object) = if_exists(self.client.get_object(object_ref, None).await)? else {
            return Ok(None);
        };
        let etag = object.head.etag.clone();
        let bytes = object.bytes(MAX_RECORD_BYTES).await?;
        let record = serde_json::from_slice(&bytes);
        let record = record.map_err(|source| RecordError::malformed(object_ref, source))?;
        Ok(Some((record, etag)))
    }

    pub(super) async fn write<T: Serialize>(
        &self,
        object_ref: &ObjectRef,
        record: &T,
        condition: Condition,
    ) -> Result<Option<String>, RecordError> {
        let text = serde_json::to_vec(record);
        let text = text.map_err(|source| RecordError::malformed(object_ref, source))?;
        match put_record(&self.client, object_ref, text, condition).await {
            Err(error) if *error.kind() == ErrorKind::PreconditionFailed => Ok(None),
            put => Ok(if_exists(put)?),
        }
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

/// The conditions of writes that a service honors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConditionalWrites {
    /// `If-None-Match: *`: an object can be written once.
    pub if_absent: bool,
    /// `If-Match`: an object can be replaced unless it has changed.
    pub if_match: bool,
}

impl ConditionalWrites {
    /// Returns whether both are honored, as a [`BucketLocker`] requires.
    ///
    /// [`BucketLocker`]: super::BucketLocker
    #[must_use]
    pub const fn all(self) -> bool {
        self.if_absent && self.if_match
    }
}

/// Finds out which conditions the service honors on writes, each by its own probe.
///
/// AWS, moto, MinIO and R2 honor both. Ceph and DigitalOcean compare `If-Match` with the entity tag
/// without quotes: `client` and its clones send it like that from then on. Garage ignores both.
/// The probes write and delete objects below `PREFIX.landfall/probes/`.
///
/// # Errors
/// Any error of these calls.
///
/// # Cancel safety
/// The objects may remain.
pub async fn probe_conditional_writes(
    client: &Client,
    bucket: &str,
    prefix: &str,
) -> Result<ConditionalWrites> {
    let write = async |object_ref: &ObjectRef, text: &str, condition| {
        put_record(client, object_ref, text.into(), condition).await
    };
    let if_absent = probe(client, bucket, prefix, async |object_ref| {
        let first = write(object_ref, "first", Condition::IfAbsent).await?;
        let refused = is_refused(write(object_ref, "second", Condition::IfAbsent).await)?;
        Ok(refused && client.head_object(object_ref).await?.etag == first)
    });
    let if_absent = if_absent.await?;
    let if_match = probe(client, bucket, prefix, async |object_ref| {
        let first = write(object_ref, "first", Condition::None).await?;
        let over = || Condition::IfMatch(first.clone());
        let mut second = write(object_ref, "second", over()).await;
        if matches!(&second, Err(error) if *error.kind() == ErrorKind::PreconditionFailed) {
            client.set_unquoted_if_match(true);
            second = write(object_ref, "second", over()).await;
            if second.is_err() {
                client.set_unquoted_if_match(false);
            }
        }
        let second = match second {
            Err(error) if *error.kind() == ErrorKind::PreconditionFailed => return Ok(false),
            second => second?,
        };
        let refused = is_refused(write(object_ref, "third", over()).await)?;
        Ok(refused && client.head_object(object_ref).await?.etag == second)
    });
    Ok(ConditionalWrites {
        if_absent,
        if_match: if_match.await?,
    })
}

/// Checks that the service keeps the keys below a prefix as they are. Garage removes a slash at their
/// beginning, so that it lists nothing with such a prefix.
///
/// Writes, lists and deletes an object below `PREFIX.landfall/probes/`.
///
/// # Errors
/// Any error of these calls.
///
/// # Cancel safety
/// The object may remain.
pub async fn keeps_prefix(client: &Client, bucket: &str, prefix: &str) -> Result<bool> {
    probe(client, bucket, prefix, async |object_ref| {
        let none = Condition::None;
        put_record(client, object_ref, "probe".into(), none).await?;
        let listed = client
            .list_objects(bucket, &object_ref.key, None, 1)
            .await?;
        Ok(listed.objects.iter().any(|one| one.key == object_ref.key))
    })
    .await
}

fn is_refused(result: Result<String>) -> Result<bool> {
    match result {
        Err(error) if *error.kind() == ErrorKind::PreconditionFailed => Ok(true),
        result => result.map(|_| false),
    }
}

async fn probe(
    client: &Client,
    bucket: &str,
    prefix: &str,
    attempt: impl AsyncFnOnce(&ObjectRef) -> Result<bool>,
) -> Result<bool> {
    let key = format!("{prefix}.landfall/probes/{:016x}", rand::random::<u64>());
    let object_ref = ObjectRef::new(bucket, key);
    let result = attempt(&object_ref).await;
    let removed = client.delete_object(&object_ref).await;
    let honored = match result {
        Err(error) if *error.kind() == ErrorKind::NotImplemented => false,
        result => result?,
    };
    removed?;
    Ok(honored)
}

#[derive(Debug, thiserror::Error)]
pub(super) enum RecordError {
    #[error(transparent)]
    Client(#[from] Error),
    #[error("{object} is not a valid lease record: {source}")]
    Malformed {
        object: String,
        source: serde_json::Error,
    },
    #[error("the service did not answer within {0:?}")]
    Timeout(Duration),
    #[error("too many nodes write the same record")]
    Contention,
    #[error("too many lease requests at a time")]
    Busy,
    #[error("the heartbeat of this node was not written in time")]
    Expired,
}

impl RecordError {
    fn malformed(object_ref: &ObjectRef, source: serde_json::Error) -> Self {
        let object = object_ref.to_string();
        Self::Malformed { object, source }
    }
}

/// Invalid settings or a missing thread.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BucketLockerError {
    /// A time is out of range.
    ///
    /// `renew` must be at most a third of `ttl`, `ttl` from 500 ms to 1 h, and no time zero.
    #[error(
        "invalid lease times: a heartbeat every {renew:?} with a TTL of {ttl:?}; the interval must be at most a third of the TTL, the TTL from 500 ms to 1 h, and no time zero"
    )]
    Times {
        /// The heartbeat interval.
        renew: Duration,
        /// The TTL.
        ttl: Duration,
    },
    /// Invalid client settings.
    #[error(transparent)]
    Client(#[from] SettingsError),
    /// The thread that renews leases cannot be started.
    #[error("cannot start the thread that renews leases: {0}")]
    Thread(#[source] std::io::Error),
}
