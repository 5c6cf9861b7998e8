//! What an [`S3Store`](crate::S3Store) is told.

use std::time::Duration;

use crate::client::ObjectHeaders;

/// The largest object that S3 keeps, in bytes, as most services have it.
pub const MAX_OBJECT: u64 = 5 << 40;
/// The least that memory for parts can be, in bytes.
pub const MIN_MEMORY: usize = 16 << 20;

/// How uploads are named when an engine creates them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum UploadIds {
    /// `object+multipart`, as tusd names them: tusd can go on with such an upload.
    #[default]
    Tusd,
    /// The id as it is; what S3 calls the multipart upload is kept in the `.info` object. A small
    /// upload that comes in one request then costs no multipart upload at all.
    Plain,
}

/// Settings of an [`S3Store`](crate::S3Store). Start from [`S3Options::new`].
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct S3Options {
    /// The bucket. A hook may send the object of an upload to another one; `.info` and `.part` stay
    /// here.
    pub bucket: String,
    /// What all keys begin with; a `/` is added if it doesn't end with one. Empty: nothing.
    pub object_prefix: String,
    /// The smallest part that isn't the last, in bytes. 5 MiB is S3's own limit.
    pub min_part: u64,
    /// The smallest object that parts are copied from when uploads are joined, in bytes; some
    /// services refuse smaller ones. What is below it is read and sent.
    pub min_copy: u64,
    /// The size of parts where nothing asks for larger ones, in bytes.
    pub part_size: u64,
    /// The largest part, in bytes. 5 GiB is S3's own limit.
    pub max_part: u64,
    /// The most parts an upload can have. 10,000 is S3's own limit.
    pub max_parts: u32,
    /// The largest object, in bytes.
    pub max_object: u64,
    /// Memory for bytes on their way to S3, over all uploads, in bytes. A part is at most half of it,
    /// so together with `max_parts` it also limits how large an upload can be: 256 MiB are enough
    /// for 1.2 TiB.
    pub memory: usize,
    /// Parts sent to S3 at one time, over all uploads.
    pub concurrent_parts: usize,
    /// Send a SHA-256 of every part, which S3 checks.
    pub content_hashes: bool,
    /// How uploads are named.
    pub ids: UploadIds,
    /// Where objects go below the prefix: a text with `{id}`, `{date}` (yyyy/mm/dd), `{filename}` and
    /// `{meta:NAME}`. `None`: the id. It should hold `{id}`: two uploads with the same key overwrite
    /// each other.
    pub key_template: Option<String>,
    /// What every object is given. `Content-Type` comes from the upload's metadata where this has
    /// none; user metadata is that of the upload.
    pub headers: ObjectHeaders,
    /// The service honours `If-Match` and `If-None-Match` on writes; see
    /// [`lease::detect`](crate::lease::detect).
    pub conditional_writes: bool,
    /// Other processes write to the same bucket and prefix. Their lockers must be shared, too. A locker
    /// that numbers leases consecutively saves requests; one that can't leaves numbers out (see
    /// [`Fence`](landfall::lease::Fence)).
    pub shared: bool,
    /// How old a multipart upload without a description must be to be listed as an orphan: a
    /// younger one may be about to be described.
    pub orphan_age: Duration,
    /// What keys of others begin with who share the bucket and see to what they leave behind
    /// themselves: multipart uploads and objects there are never listed, neither as uploads nor as
    /// orphans. An empty text means nothing.
    pub leave: Vec<String>,
    /// Answer downloads with a URL of S3's that is good for this long. `None`: pass the bytes through.
    pub redirect: Option<Duration>,
}

impl S3Options {
    /// The usual settings for a bucket.
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
            shared: false,
            orphan_age: Duration::from_secs(60),
            leave: Vec::new(),
            redirect: None,
        }
    }

    /// Says what is wrong with them, if anything.
    pub(crate) fn check(&self) -> Result<(), InvalidOptions> {
        let wrong = |what: &str| Err(InvalidOptions(what.to_owned()));
        if self.bucket.is_empty() {
            return wrong("the bucket has no name");
        }
        if self.min_part == 0 || self.part_size < self.min_part {
            return wrong("the part size must be at least the smallest part");
        }
        if self.max_part < self.part_size {
            return wrong("the part size must be at most the largest part");
        }
        if self.max_parts == 0 || self.concurrent_parts == 0 {
            return wrong("there must be at least one part, and one at a time");
        }
        if self.memory < MIN_MEMORY {
            return wrong("memory for parts must be at least 16 MiB");
        }
        if self.part_size > self.memory as u64 / 2 {
            return wrong("the part size must be at most half of the memory for parts");
        }
        Ok(())
    }
}

/// Settings that contradict each other, in words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidOptions(pub(crate) String);
