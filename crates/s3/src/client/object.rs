//! What an object is called, what it is given when it is written, and what is read of it.

use std::{collections::BTreeMap, fmt, ops::Range, time::SystemTime};

use bytes::Bytes;

use super::{Result, body::ObjectBody};

/// Where an object is: a bucket and a key in it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Place {
    /// The bucket's name.
    pub bucket: String,
    /// The key, any UTF-8 text of at most 1,024 bytes, without a leading slash of its own.
    pub key: String,
}

impl Place {
    /// The object `key` in `bucket`.
    pub fn new(bucket: impl Into<String>, key: impl Into<String>) -> Self {
        Self {
            bucket: bucket.into(),
            key: key.into(),
        }
    }
}

/// As people write it: `bucket/key`.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.bucket, self.key)
    }
}

/// What an object is given when it is written, beside its bytes. What is `None` is not sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ObjectHeaders {
    /// `Content-Type`.
    pub content_type: Option<String>,
    /// `Content-Disposition`.
    pub content_disposition: Option<String>,
    /// `Cache-Control`.
    pub cache_control: Option<String>,
    /// `Content-Encoding`.
    pub content_encoding: Option<String>,
    /// `x-amz-storage-class`, such as `STANDARD_IA`.
    pub storage_class: Option<String>,
    /// `x-amz-tagging`: tags in the form of a URL's query, `a=1&b=2`.
    pub tagging: Option<String>,
    /// `x-amz-server-side-encryption`: `AES256`, `aws:kms` or `aws:kms:dsse`.
    pub sse: Option<String>,
    /// `x-amz-server-side-encryption-aws-kms-key-id`.
    pub sse_kms_key_id: Option<String>,
    /// `x-amz-acl`: a canned ACL such as `public-read`.
    pub acl: Option<String>,
    /// User metadata, sent as `x-amz-meta-NAME: VALUE`. AWS keeps at most 2 KiB of it in all. Names
    /// must be valid in a header and come back in lower case; values that are not plain ASCII are
    /// sent as the UTF-8 they are.
    pub metadata: BTreeMap<String, String>,
}

/// What a service tells about an object without its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectHead {
    /// Length of the whole object in bytes, also where only a range was asked for.
    pub size: u64,
    /// The entity tag as the service wrote it, with its quotes.
    pub etag: String,
    /// When it was last written, to the second; `None` if the service didn't say.
    pub modified: Option<SystemTime>,
    /// User metadata by name in lower case, without `x-amz-meta-`.
    pub metadata: BTreeMap<String, String>,
    /// `Content-Type`.
    pub content_type: Option<String>,
}

/// An object that is being read.
#[derive(Debug)]
pub struct Object {
    /// What it is.
    pub head: ObjectHead,
    /// Which of its bytes `body` gives.
    pub range: Range<u64>,
    /// The bytes, as they come.
    pub body: ObjectBody,
}

impl Object {
    /// Reads the rest into memory.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`](super::ErrorKind::Unavailable) if the connection ends early, and
    /// [`ErrorKind::Other`](super::ErrorKind::Other) if there are more than `max` bytes.
    ///
    /// # Cancel safety
    /// A dropped call closes the connection.
    pub async fn bytes(self, max: usize) -> Result<Bytes> {
        self.body.collect(max).await
    }
}

/// On which condition an object is written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Condition {
    /// Always.
    #[default]
    None,
    /// Only if nothing is there (`If-None-Match: *`).
    IfAbsent,
    /// Only over the object with this entity tag (`If-Match`).
    IfMatch(String),
}
