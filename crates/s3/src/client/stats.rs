//! What the client did, counted by operation.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

/// The operations of S3, and of the token service beside it, that the client knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(usize)]
#[non_exhaustive]
pub enum Operation {
    /// Begins a multipart upload.
    CreateMultipartUpload,
    /// Uploads one part.
    UploadPart,
    /// Makes a part of an object that is there.
    UploadPartCopy,
    /// Lists the parts of a multipart upload.
    ListParts,
    /// Makes the object of the parts.
    CompleteMultipartUpload,
    /// Drops a multipart upload and its parts.
    AbortMultipartUpload,
    /// Lists unfinished multipart uploads.
    ListMultipartUploads,
    /// Writes an object.
    PutObject,
    /// Reads an object.
    GetObject,
    /// Asks for an object's headers.
    HeadObject,
    /// Removes an object.
    DeleteObject,
    /// Lists objects.
    ListObjects,
    /// Asks whether a bucket is there.
    HeadBucket,
    /// Reads a bucket's CORS rules.
    GetBucketCors,
    /// Sets a bucket's CORS rules.
    PutBucketCors,
    /// Asks the token service for temporary credentials of its own user.
    GetFederationToken,
    /// Asks the token service for temporary credentials of a role.
    AssumeRole,
}

impl Operation {
    /// All of them, in the order of the enum.
    pub const ALL: [Self; 17] = [
        Self::CreateMultipartUpload,
        Self::UploadPart,
        Self::UploadPartCopy,
        Self::ListParts,
        Self::CompleteMultipartUpload,
        Self::AbortMultipartUpload,
        Self::ListMultipartUploads,
        Self::PutObject,
        Self::GetObject,
        Self::HeadObject,
        Self::DeleteObject,
        Self::ListObjects,
        Self::HeadBucket,
        Self::GetBucketCors,
        Self::PutBucketCors,
        Self::GetFederationToken,
        Self::AssumeRole,
    ];

    /// Its name in S3's documentation, as in `UploadPart`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::CreateMultipartUpload => "CreateMultipartUpload",
            Self::UploadPart => "UploadPart",
            Self::UploadPartCopy => "UploadPartCopy",
            Self::ListParts => "ListParts",
            Self::CompleteMultipartUpload => "CompleteMultipartUpload",
            Self::AbortMultipartUpload => "AbortMultipartUpload",
            Self::ListMultipartUploads => "ListMultipartUploads",
            Self::PutObject => "PutObject",
            Self::GetObject => "GetObject",
            Self::HeadObject => "HeadObject",
            Self::DeleteObject => "DeleteObject",
            Self::ListObjects => "ListObjectsV2",
            Self::HeadBucket => "HeadBucket",
            Self::GetBucketCors => "GetBucketCors",
            Self::PutBucketCors => "PutBucketCors",
            Self::GetFederationToken => "GetFederationToken",
            Self::AssumeRole => "AssumeRole",
        }
    }

    /// Its label in tusd's metric `tusd_s3_request_duration_ms`, for the operations that tusd has.
    pub const fn tusd_label(self) -> Option<&'static str> {
        Some(match self {
            Self::CreateMultipartUpload => "create_multipart_upload",
            Self::UploadPart => "upload_part",
            Self::UploadPartCopy => "upload_part_copy",
            Self::ListParts => "list_parts",
            Self::CompleteMultipartUpload => "complete_multipart_upload",
            Self::AbortMultipartUpload => "abort_multipart_upload",
            Self::GetObject => "get_object",
            Self::HeadObject => "head_object",
            Self::DeleteObject => "delete_object",
            Self::PutObject => "put_object",
            _ => return None,
        })
    }
}

/// Counters of one client and its clones. Reading them costs nothing to those who count.
#[derive(Debug, Default)]
pub struct Stats {
    operations: [OperationStats; Operation::ALL.len()],
}

impl Stats {
    /// The counters of one operation.
    pub fn of(&self, operation: Operation) -> &OperationStats {
        &self.operations[operation as usize]
    }

    /// Calls of all operations.
    pub fn calls(&self) -> u64 {
        self.operations.iter().map(OperationStats::calls).sum()
    }

    /// Requests sent for all operations, retries included.
    pub fn requests(&self) -> u64 {
        self.operations
            .iter()
            .map(|one| one.calls() + one.retries())
            .sum()
    }
}

/// Upper bounds, in milliseconds, of the buckets of [`OperationStats::durations`]; above the last is
/// one more bucket.
pub const DURATION_BOUNDS_MS: [u64; 12] =
    [1, 2, 5, 10, 25, 50, 100, 250, 500, 1_000, 5_000, 30_000];

/// Counters of one operation. They only grow.
#[derive(Debug, Default)]
pub struct OperationStats {
    calls: AtomicU64,
    failures: AtomicU64,
    retries: AtomicU64,
    bytes_out: AtomicU64,
    bytes_in: AtomicU64,
    micros: AtomicU64,
    durations: [AtomicU64; DURATION_BOUNDS_MS.len() + 1],
}

impl OperationStats {
    /// Calls that have ended (not those that were dropped), each once however often it was tried.
    pub fn calls(&self) -> u64 {
        self.calls.load(Relaxed)
    }

    /// Calls that gave an error. "No such object" and the like are errors too.
    pub fn failures(&self) -> u64 {
        self.failures.load(Relaxed)
    }

    /// Attempts after the first of each call.
    pub fn retries(&self) -> u64 {
        self.retries.load(Relaxed)
    }

    /// Payload bytes of all attempts.
    pub fn bytes_out(&self) -> u64 {
        self.bytes_out.load(Relaxed)
    }

    /// Body bytes received.
    pub fn bytes_in(&self) -> u64 {
        self.bytes_in.load(Relaxed)
    }

    /// How long the calls took together, from the beginning of the first attempt to the answer's
    /// head (of `GetObject`) or end (of all others).
    pub fn total_duration(&self) -> Duration {
        Duration::from_micros(self.micros.load(Relaxed))
    }

    /// How many calls took up to each of [`DURATION_BOUNDS_MS`] and more than the bound before it;
    /// the last is for those above all bounds.
    pub fn durations(&self) -> [u64; DURATION_BOUNDS_MS.len() + 1] {
        std::array::from_fn(|bucket| self.durations[bucket].load(Relaxed))
    }

    pub(super) fn retried(&self) {
        self.retries.fetch_add(1, Relaxed);
    }

    pub(super) fn sent(&self, bytes: u64) {
        self.bytes_out.fetch_add(bytes, Relaxed);
    }

    pub(super) fn received(&self, bytes: u64) {
        self.bytes_in.fetch_add(bytes, Relaxed);
    }

    pub(super) fn ended(&self, took: Duration, failed: bool) {
        self.calls.fetch_add(1, Relaxed);
        if failed {
            self.failures.fetch_add(1, Relaxed);
        }
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.micros.fetch_add(micros, Relaxed);
        let bucket = DURATION_BOUNDS_MS.partition_point(|&bound| bound * 1_000 < micros);
        self.durations[bucket].fetch_add(1, Relaxed);
    }
}
