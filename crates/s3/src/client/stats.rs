//! Counters of calls by operation.

use std::time::Duration;

use parking_lot::Mutex;

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

/// Counters of one client and its clones.
#[derive(Debug, Default)]
pub struct Stats {
    operations: Mutex<[OperationStats; Operation::ALL.len()]>,
}

impl Stats {
    /// Returns the counters of one operation.
    pub fn operation(&self, operation: Operation) -> OperationStats {
        self.operations.lock()[operation as usize]
    }

    /// Returns the number of calls of all operations.
    pub fn calls(&self) -> u64 {
        self.operations.lock().iter().map(|one| one.calls).sum()
    }

    /// Returns the number of requests of all operations, including retries.
    pub fn requests(&self) -> u64 {
        let operations = self.operations.lock();
        operations.iter().map(|one| one.calls + one.retries).sum()
    }

    pub(super) fn count(&self, operation: Operation, count: impl FnOnce(&mut OperationStats)) {
        count(&mut self.operations.lock()[operation as usize]);
    }
}

/// Upper bounds of the buckets of [`OperationStats::durations`], in milliseconds.
///
/// One more bucket follows the last bound.
pub const DURATION_BOUNDS_MS: [u64; 12] =
    [1, 2, 5, 10, 25, 50, 100, 250, 500, 1_000, 5_000, 30_000];

/// Counters of one operation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct OperationStats {
    /// Finished calls, each counted once; dropped calls are not counted.
    pub calls: u64,
    /// Calls that failed, including those for missing objects.
    pub failures: u64,
    /// Retries.
    pub retries: u64,
    /// Payload bytes sent, over all attempts.
    pub bytes_out: u64,
    /// Body bytes received.
    pub bytes_in: u64,
    /// The total duration of the calls.
    ///
    /// A call lasts from the start of its first attempt to the response's head (`GetObject`) or end
    /// (all others).
    pub total_duration: Duration,
    /// Calls in each bucket of [`DURATION_BOUNDS_MS`].
    pub durations: [u64; DURATION_BOUNDS_MS.len() + 1],
}

impl OperationStats {
    pub(super) fn end_call(&mut self, took: Duration, failed: bool) {
        self.calls += 1;
        self.failures += u64::from(failed);
        self.total_duration = self.total_duration.saturating_add(took);
        let is_below = |&bound: &u64| Duration::from_millis(bound) < took;
        self.durations[DURATION_BOUNDS_MS.partition_point(is_below)] += 1;
    }
}
