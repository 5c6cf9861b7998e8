//! Objects, parts and listings as callers see them. They contain no call.

use std::{collections::BTreeMap, fmt, ops::Range, time::SystemTime};

use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt as _, stream::BoxStream};

use crate::{
    call::{Error, ErrorKind, Result},
    part_plan::StoredPart,
};

/// The bytes of an object, as they arrive.
pub type ObjectBody = BoxStream<'static, Result<Bytes>>;

/// A reference to an object: bucket and key.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectRef {
    /// Bucket name.
    pub bucket: String,
    /// Key: UTF-8 of at most 1,024 bytes, without a leading slash.
    pub key: String,
}

impl ObjectRef {
    /// Creates a reference to the object `key` in `bucket`.
    pub fn new(bucket: impl Into<String>, key: impl Into<String>) -> Self {
        Self {
            bucket: bucket.into(),
            key: key.into(),
        }
    }
}

impl fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.bucket, self.key)
    }
}

const SSE_KMS_KEY_ID: &str = "x-amz-server-side-encryption-aws-kms-key-id";

/// Headers and metadata of an object to write. `None` is not sent.
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
    /// `x-amz-tagging`: tags in query syntax, `a=1&b=2`.
    pub tagging: Option<String>,
    /// `x-amz-server-side-encryption`: `AES256`, `aws:kms` or `aws:kms:dsse`.
    pub sse: Option<String>,
    /// `x-amz-server-side-encryption-aws-kms-key-id`.
    pub sse_kms_key_id: Option<String>,
    /// `x-amz-acl`: a canned ACL such as `public-read`.
    pub acl: Option<String>,
    /// User metadata, sent as `x-amz-meta-NAME: VALUE`.
    ///
    /// AWS stores at most 2 KiB in all. Names must be valid header names and are returned in lower
    /// case; values that are not ASCII are sent as UTF-8.
    pub metadata: BTreeMap<String, String>,
}

impl ObjectHeaders {
    /// Returns the names and values of the headers that are set, without user metadata.
    pub fn pairs(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let pairs = [
            ("content-type", &self.content_type),
            ("x-amz-acl", &self.acl),
            ("cache-control", &self.cache_control),
            ("content-disposition", &self.content_disposition),
            ("content-encoding", &self.content_encoding),
            ("x-amz-tagging", &self.tagging),
            ("x-amz-storage-class", &self.storage_class),
            ("x-amz-server-side-encryption", &self.sse),
            (SSE_KMS_KEY_ID, &self.sse_kms_key_id),
        ];
        let pairs = pairs.into_iter();
        pairs.filter_map(|(name, value)| Some((name, value.as_deref()?)))
    }
}

/// Headers and metadata of an existing object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectHead {
    /// Length of the whole object in bytes, even for a range request.
    pub size: u64,
    /// Entity tag as the service sent it, quoted.
    pub etag: String,
    /// Modification time in seconds, if the service sent it.
    pub modified: Option<SystemTime>,
    /// User metadata by name in lower case, without `x-amz-meta-`.
    pub metadata: BTreeMap<String, String>,
    /// `Content-Type`.
    pub content_type: Option<String>,
}

/// An object whose body is being read.
pub struct Object {
    /// Headers and metadata.
    pub head: ObjectHead,
    /// The range of bytes that `body` contains.
    pub range: Range<u64>,
    /// The body stream.
    pub body: ObjectBody,
}

impl Object {
    /// Reads the body into memory.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] if the connection closes early,
    /// [`ErrorKind::Other`] if the body has more than `max` bytes.
    ///
    /// # Cancel safety
    /// Dropping the call closes the connection.
    pub async fn bytes(mut self, max: usize) -> Result<Bytes> {
        let length = self.range.end - self.range.start;
        let Some(length) = usize::try_from(length).ok().filter(|length| *length <= max) else {
            let why = format!("the object has {length} bytes, more than the maximum of {max}");
            let error = Error::new(ErrorKind::Other, "reading an object", "");
            return Err(error.with_message(why));
        };
        let mut all = BytesMut::with_capacity(length);
        while let Some(bytes) = self.body.next().await.transpose()? {
            all.extend_from_slice(&bytes);
        }
        Ok(all.freeze())
    }
}

impl fmt::Debug for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.head.fmt(f)
    }
}

/// The precondition of a write.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Condition {
    /// Unconditional.
    #[default]
    None,
    /// The object does not exist (`If-None-Match: *`).
    IfAbsent,
    /// The object has this entity tag (`If-Match`).
    IfMatch(String),
}

/// One part of a multipart upload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Its number, from 1.
    pub number: u32,
    /// Length in bytes.
    pub size: u64,
    /// Its tag, as the service sent it.
    pub etag: String,
    /// Upload time, if the service sent it.
    pub modified: Option<SystemTime>,
    /// The writer that [`Cloud::upload_part`](crate::Cloud::upload_part) got, with versioned parts.
    pub writer: Option<String>,
}

impl StoredPart for Part {
    fn number(&self) -> u32 {
        self.number
    }

    fn size(&self) -> u64 {
        self.size
    }

    fn tag(&self) -> &str {
        &self.etag
    }
}

/// An unfinished multipart upload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MultipartUpload {
    /// Key of the future object.
    pub key: String,
    /// Multipart upload id.
    pub upload_id: String,
    /// Creation time, if the service sent it.
    pub initiated: Option<SystemTime>,
}

/// One page of [`list_multiparts`](crate::Cloud::list_multiparts).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MultipartUploadsPage {
    /// Multipart uploads, in key order on AWS; Garage sorts only across pages.
    pub uploads: Vec<MultipartUpload>,
    /// `after` of the next page; `None` on the last page.
    pub next: Option<(String, String)>,
}

/// One object of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedObject {
    /// Object key.
    pub key: String,
    /// Length in bytes.
    pub size: u64,
    /// Modification time, if the service sent it.
    pub modified: Option<SystemTime>,
    /// Entity tag as the service sent it, quoted.
    pub etag: String,
}

/// One page of [`list_objects`](crate::Cloud::list_objects).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ObjectsPage {
    /// Objects in key order.
    pub objects: Vec<ListedObject>,
    /// `after` of the next page; `None` on the last page.
    pub next: Option<String>,
    /// The time of the service, if it sent it.
    pub time: Option<SystemTime>,
}
