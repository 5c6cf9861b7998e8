//! The options of a store, and which contradict each other.

use std::time::Duration;

use crate::object::ObjectHeaders;

/// Default of [`StoreOptions::max_object`], in bytes: the object size limit of most services.
pub const MAX_OBJECT: u64 = 5 << 40;
/// Minimum of [`StoreOptions::memory`], in bytes.
pub const MIN_MEMORY: usize = 16 << 20;

/// The form of upload ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum UploadIds {
    /// `object+multipart`, as in tusd, which can then resume the upload.
    #[default]
    Tusd,
    /// The plain id.
    ///
    /// The `.info` object stores the multipart upload id. A small upload in one request then needs
    /// no multipart upload.
    Plain,
}

/// Settings of an [`ObjectStore`](crate::ObjectStore); see [`StoreOptions::new`].
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct StoreOptions {
    /// The bucket.
    ///
    /// A hook may store an upload's object in another bucket; `.info` and `.part` stay in this one.
    pub bucket: String,
    /// Prefix of all object keys. A missing trailing `/` is added; empty means no prefix.
    pub object_prefix: String,
    /// Minimum size of all parts but the last, in bytes. S3 requires 5 MiB.
    pub min_part: u64,
    /// Minimum size of objects to copy in a concatenation, in bytes.
    ///
    /// Some services reject smaller sources; these are read and uploaded instead.
    pub min_copy: u64,
    /// Part size, in bytes, unless the upload's length needs larger parts.
    pub part_size: u64,
    /// Maximum part size, in bytes. S3's limit is 5 GiB.
    pub max_part: u64,
    /// Maximum number of parts of an upload. S3's limit is 10,000.
    pub max_parts: u32,
    /// Maximum object size, in bytes.
    pub max_object: u64,
    /// Memory for part buffers of all uploads, in bytes.
    ///
    /// A part uses at most half of it, so together with `max_parts` it limits the size of uploads:
    /// 256 MiB are enough for 1.2 TiB.
    pub memory: usize,
    /// Maximum number of concurrent part uploads, over all uploads.
    pub concurrent_parts: usize,
    /// Sends a SHA-256 digest with every part, which S3 verifies.
    pub content_hashes: bool,
    /// Form of upload ids.
    pub ids: UploadIds,
    /// Template of object keys below the prefix; `None`: the upload id.
    ///
    /// The placeholders are `{id}`, `{date}` (yyyy/mm/dd), `{filename}` and `{meta:NAME}`. Include
    /// `{id}`: uploads with the same key overwrite each other.
    pub key_template: Option<String>,
    /// Headers of every object.
    ///
    /// Without a content type here, `Content-Type` comes from the upload's metadata. User metadata
    /// is always the upload's.
    pub headers: ObjectHeaders,
    /// The service honors `If-Match` and `If-None-Match` on writes.
    ///
    /// For S3, `landfall_s3::lease::probe_conditional_writes` finds out.
    pub conditional_writes: bool,
    /// An object stays as it is if a request that overwrites it breaks. `false`: the service may delete it, as a cluster
    /// of Garage does; then an incomplete part is written to two objects, one after the other. Not with conditional writes.
    pub safe_overwrites: bool,
    /// Other processes write to the same bucket and prefix.
    ///
    /// Their lockers must be shared too. A locker that numbers leases consecutively saves requests;
    /// one that cannot must skip numbers (see [`Fence`](landfall::lease::Fence)).
    pub shared: bool,
    /// Age from which a multipart upload without a description is listed as an orphan.
    ///
    /// A younger one may belong to a creation in progress.
    pub orphan_age: Duration,
    /// Key prefixes that other components own and clean up themselves.
    ///
    /// Objects and multipart uploads with these prefixes are listed neither as uploads nor as
    /// orphans. Empty prefixes are ignored.
    pub excluded_prefixes: Vec<String>,
    /// Lifetime of the presigned URL that answers a download; `None`: the server sends the bytes.
    pub redirect: Option<Duration>,
}

impl StoreOptions {
    /// Returns the default options for a bucket.
    #[must_use]
    pub fn new(bucket: impl Into<String>) -> Self {
        Self {
            bucket: bucket.into(),
            object_prefix: String::new(),
            min_part: 5 << 20,
            min_copy: 5 << 20,
            part_size: 8 << 20,
            max_part: 5 << 30,
            max_parts: 10_000,
            max_object: MAX_OBJECT,
            memory: 256 << 20,
            concurrent_parts: 10,
            content_hashes: true,
            ids: UploadIds::default(),
            key_template: None,
            headers: ObjectHeaders::default(),
            conditional_writes: false,
            safe_overwrites: true,
            shared: false,
            orphan_age: Duration::from_secs(60),
            excluded_prefixes: Vec::new(),
            redirect: None,
        }
    }

    pub(crate) fn check(&self) -> Result<(), InvalidOptions> {
        let wrong = |what: &str| Err(InvalidOptions(what.to_owned()));
        if self.bucket.is_empty() {
            return wrong("the bucket name is empty");
        }
        if crate::store::has_dot_segment(&self.object_prefix) {
            return wrong(
                "object_prefix contains the segment . or .., which HTTP clients resolve: leave it out",
            );
        }
        if self.min_part == 0 || self.part_size < self.min_part {
            return wrong("part_size must be at least min_part, and min_part at least 1");
        }
        if self.max_part < self.part_size {
            return wrong("part_size must be at most max_part");
        }
        if self.max_parts == 0 || self.concurrent_parts == 0 {
            return wrong("max_parts and concurrent_parts must be at least 1");
        }
        if self.memory < MIN_MEMORY {
            return wrong("memory must be at least 16 MiB");
        }
        if self.part_size > self.memory as u64 / 2 {
            return wrong("part_size must be at most half of memory");
        }
        Ok(())
    }
}

/// Contradictory options.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidOptions(pub String);
