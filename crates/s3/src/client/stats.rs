use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

macro_rules! operations {
    ($($(#[$doc:meta])* $name:ident => $tusd_label:expr,)*) => {
        /// The operations of S3 and of the token service that the client uses.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(usize)]
        #[non_exhaustive]
        pub enum Operation {
            $($(#[$doc])* $name,)*
        }

        impl Operation {
            /// All operations, in declaration order.
            pub const ALL: [Self; 17] = [$(Self::$name),*];

            /// Returns the name in S3's API reference, such as `UploadPart`.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($name),)*
                }
            }

            /// Returns the label in tusd's metric `tusd_s3_request_duration_ms`, if there is one.
            pub const fn tusd_label(self) -> Option<&'static str> {
                match self {
                    $(Self::$name => $tusd_label,)*
                }
            }
        }
    };
}

operations! {
    /// Creates a multipart upload.
    CreateMultipartUpload => Some("create_multipart_upload"),
    /// Uploads a part.
    UploadPart => Some("upload_part"),
    /// Copies an object, or a range of it, into a part.
    UploadPartCopy => Some("upload_part_copy"),
    /// Lists the parts of a multipart upload.
    ListParts => Some("list_parts"),
    /// Completes a multipart upload.
    CompleteMultipartUpload => Some("complete_multipart_upload"),
    /// Aborts a multipart upload.
    AbortMultipartUpload => Some("abort_multipart_upload"),
    /// Lists unfinished multipart uploads.
    ListMultipartUploads => None,
    /// Writes an object.
    PutObject => Some("put_object"),
    /// Reads an object.
    GetObject => Some("get_object"),
    /// Reads an object's headers and metadata.
    HeadObject => Some("head_object"),
    /// Deletes an object.
    DeleteObject => Some("delete_object"),
    /// Lists objects.
    ListObjectsV2 => None,
    /// Checks that a bucket exists.
    HeadBucket => None,
    /// Reads a bucket's CORS rules.
    GetBucketCors => None,
    /// Sets a bucket's CORS rules.
    PutBucketCors => None,
    /// Requests temporary credentials of the client's own user.
    GetFederationToken => None,
    /// Requests temporary credentials of a role.
    AssumeRole => None,
}

/// Counters of one client and its clones, all atomic.
#[derive(Debug, Default)]
pub struct Stats {
    operations: [OperationStats; Operation::ALL.len()],
}

impl Stats {
    /// Returns the counters of one operation.
    pub fn operation(&self, operation: Operation) -> &OperationStats {
        &self.operations[operation as usize]
    }

    /// Returns the number of calls of all operations.
    pub fn calls(&self) -> u64 {
        self.operations.iter().map(OperationStats::calls).sum()
    }

    /// Returns the number of requests of all operations, including retries.
    pub fn requests(&self) -> u64 {
        let operations = self.operations.iter();
        operations.map(|one| one.calls() + one.retries()).sum()
    }
}

/// Upper bounds of the buckets of [`OperationStats::durations`], in milliseconds.
///
/// One more bucket follows the last bound.
pub const DURATION_BOUNDS_MS: [u64; 12] =
    [1, 2, 5, 10, 25, 50, 100, 250, 500, 1_000, 5_000, 30_000];

/// Monotonic counters of one operation.
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
    /// Returns the number of finished calls, each counted once; dropped calls are not counted.
    pub fn calls(&self) -> u64 {
        self.calls.load(Relaxed)
    }

    /// Returns the number of calls that failed, including those for missing objects.
    pub fn failures(&self) -> u64 {
        self.failures.load(Relaxed)
    }

    /// Returns the number of retries.
    pub fn retries(&self) -> u64 {
        self.retries.load(Relaxed)
    }

    /// Returns the number of payload bytes sent, over all attempts.
    pub fn bytes_out(&self) -> u64 {
        self.bytes_out.load(Relaxed)
    }

    /// Returns the number of body bytes received.
    pub fn bytes_in(&self) -> u64 {
        self.bytes_in.load(Relaxed)
    }

    /// Returns the total duration of the calls.
    ///
    /// A call lasts from the start of its first attempt to the response's head (`GetObject`) or end
    /// (all others).
    pub fn total_duration(&self) -> Duration {
        Duration::from_micros(self.micros.load(Relaxed))
    }

    /// Returns the number of calls in each bucket of [`DURATION_BOUNDS_MS`].
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
