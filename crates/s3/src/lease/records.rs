//! What the locker keeps in the bucket, and reading and writing it.

use std::time::Duration;

use bytes::Bytes;
use landfall::upload::UploadId;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use sha2::{Digest, Sha256};

use crate::client::{
    Client, Condition, Error, ErrorKind, ObjectHeaders, Payload, Place, Result, SettingsError,
};

/// More than any record is long.
const MOST_BYTES: usize = 1 << 20;
/// Ids beyond this stand for themselves by a digest: keys have an end.
const LONGEST_ID: usize = 512;
/// How many asks a node is given at once. Who finds no room comes back.
pub(super) const MOST_ASKS: usize = 1000;

/// The state of one upload's lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct LeaseRecord {
    pub(super) id: String,
    /// No lease has had a greater number yet. While it is held, the holder may be behind.
    pub(super) fence: u64,
    /// The life of a node that took it last.
    pub(super) owner: String,
    pub(super) released: bool,
    /// Makes each writing unlike any other, so that a writer can tell its own.
    pub(super) nonce: u64,
}

/// The sign of life of a node: for as long as it changes, the node's leases hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct NodeRecord {
    /// Counts the heartbeats.
    pub(super) sequence: u64,
    pub(super) ttl_ms: u64,
    /// Leases of the node that others ask for: they add to it, the next heartbeat clears it.
    pub(super) asks: Vec<Ask>,
    pub(super) nonce: u64,
}

impl NodeRecord {
    pub(super) fn ttl(&self) -> Duration {
        Duration::from_millis(self.ttl_ms)
    }
}

/// A wish for a lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Ask {
    pub(super) id: String,
    pub(super) fence: u64,
    /// The offset at which the request appends; `None`: the holder is to yield in any case.
    #[serde(default)]
    pub(super) offset: Option<u64>,
}

/// The part of the bucket in which leases are kept.
#[derive(Debug)]
pub(super) struct Records {
    pub(super) client: Client,
    pub(super) bucket: String,
    /// `PREFIX.landfall/`
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

    /// What the keys of all leases begin with.
    pub(super) fn leases(&self) -> String {
        format!("{}leases/", self.root)
    }

    /// What the keys of all nodes begin with.
    pub(super) fn nodes(&self) -> String {
        format!("{}nodes/", self.root)
    }

    pub(super) fn lease(&self, id: &UploadId) -> Place {
        let name = if id.as_str().len() > LONGEST_ID {
            let digest = Sha256::digest(id.as_str());
            let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
            // No id begins with a dot.
            format!(".{digest}")
        } else {
            id.as_str().to_owned()
        };
        self.place(format!("{}{name}", self.leases()))
    }

    pub(super) fn node(&self, owner: &str) -> Place {
        self.place(format!("{}{owner}", self.nodes()))
    }

    pub(super) fn place(&self, key: String) -> Place {
        Place::new(&self.bucket, key)
    }

    /// A record and its entity tag, if it is there.
    pub(super) async fn read<T: DeserializeOwned>(
        &self,
        place: &Place,
    ) -> Result<Option<(T, String)>, RecordError> {
        let object = match self.client.get_object(place, None).await {
            Ok(object) => object,
            Err(error) if *error.kind() == ErrorKind::NoSuchKey => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let etag = object.head.etag.clone();
        let bytes = object.bytes(MOST_BYTES).await?;
        let record = serde_json::from_slice(&bytes).map_err(|source| RecordError::Garbled {
            place: place.to_string(),
            source,
        })?;
        Ok(Some((record, etag)))
    }

    /// Writes a record on a condition, and gives its entity tag, or `None` if that doesn't hold.
    pub(super) async fn write<T: Serialize>(
        &self,
        place: &Place,
        record: &T,
        condition: Condition,
    ) -> Result<Option<String>, RecordError> {
        let text = serde_json::to_vec(record).map_err(|source| RecordError::Garbled {
            place: place.to_string(),
            source,
        })?;
        match put(&self.client, place, text, condition).await {
            Ok(etag) => Ok(Some(etag)),
            // What was to be replaced is gone.
            Err(error) if *error.kind() == ErrorKind::NoSuchKey => Ok(None),
            Err(error) if *error.kind() == ErrorKind::PreconditionFailed => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

async fn put(
    client: &Client,
    place: &Place,
    text: Vec<u8>,
    condition: Condition,
) -> Result<String> {
    let digest = Sha256::digest(&text).into();
    let headers = ObjectHeaders {
        content_type: Some("application/json".into()),
        ..ObjectHeaders::default()
    };
    let payload = Payload::new(vec![Bytes::from(text)], Some(digest));
    client.put_object(place, payload, &headers, condition).await
}

/// Whether the service behind `client` keeps conditions on writes (`If-None-Match: *` and
/// `If-Match`), on which a [`BucketLocker`](super::BucketLocker) depends: AWS, moto, MinIO and R2 do;
/// Garage ignores them. It is tried with an object below `PREFIX.landfall/probes/`, which is removed
/// again.
///
/// # Errors
/// What kept it from being found out.
///
/// # Cancel safety
/// The object may stay.
pub async fn detect(client: &Client, bucket: &str, prefix: &str) -> Result<bool> {
    let key = format!("{prefix}.landfall/probes/{:016x}", rand::random::<u64>());
    let place = Place::new(bucket, key);
    let result = probe(client, &place).await;
    let removed = client.delete_object(&place).await;
    let honoured = result?;
    removed?;
    Ok(honoured)
}

async fn probe(client: &Client, place: &Place) -> Result<bool> {
    let write = async |text: &str, condition| put(client, place, text.into(), condition).await;
    let refused = |result: Result<String>| match result {
        Ok(_) => Ok(false),
        Err(error) => match error.kind() {
            ErrorKind::PreconditionFailed => Ok(true),
            _ => Err(error),
        },
    };
    let attempt = async || -> Result<bool> {
        let first = write("first", Condition::IfAbsent).await?;
        let second = write("second", Condition::IfMatch(first.clone())).await?;
        let over_any = refused(write("third", Condition::IfAbsent).await)?;
        let over_old = refused(write("fourth", Condition::IfMatch(first)).await)?;
        let is_there = client.head_object(place).await?.etag == second;
        Ok(over_any && over_old && is_there)
    };
    match attempt().await {
        Err(error) if *error.kind() == ErrorKind::NotImplemented => Ok(false),
        result => result,
    }
}

/// Why a record can't be had.
#[derive(Debug, thiserror::Error)]
pub(super) enum RecordError {
    #[error(transparent)]
    Client(#[from] Error),
    #[error("{place} is not a record of leases: {source}")]
    Garbled {
        place: String,
        source: serde_json::Error,
    },
    #[error("the service did not answer within {0:?}")]
    Silent(Duration),
    #[error("too many others write the same record")]
    Contended,
    #[error("too many requests want leases at once")]
    Busy,
    #[error("this node's sign of life could not be written in time")]
    Lapsed,
}

/// Why there can't be a locker.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BucketLockerError {
    /// A time is out of range: `renew` must be at most a third of `ttl`, `ttl` from half a second to
    /// an hour, and none of them zero.
    #[error("the times of leases don't fit: renewed every {renew:?}, they last {ttl:?}")]
    Times {
        /// As it was given.
        renew: Duration,
        /// As it was given.
        ttl: Duration,
    },
    /// The client's settings.
    #[error(transparent)]
    Client(#[from] SettingsError),
    /// The thread that renews leases can't be started.
    #[error("can't start the thread that renews leases: {0}")]
    Thread(#[source] std::io::Error),
}
