//! The state of a direct upload that its job in the queue does not have.
//!
//! Plain data: decisions are in `uploads::decide`, reads and writes in `repository`. Modes and statuses are stored as
//! numbers, so the order of their variants must not change.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use landfall::upload::{Upload, UploadId};
use landfall_objects::ObjectRef;
use landfall_state::queue::JobId;

/// The transfer mode of an upload: the requests that carry its bytes to the bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TransferMode {
    /// One presigned PUT.
    Put,
    /// One form with a signed POST policy.
    Post,
    /// A multipart upload that this server creates and completes.
    Multipart,
    /// A multipart upload that the client creates and completes by signed requests.
    SignedMultipart,
    /// An upload that continues after an interruption, in the cloud's own way: a session of Google, blocks of Azure.
    Resumable,
}

impl TransferMode {
    pub(crate) const fn is_multipart(self) -> bool {
        matches!(self, Self::Multipart | Self::SignedMultipart)
    }
}

/// The status of an upload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Status {
    /// Recorded; its multipart upload may not exist yet.
    Creating,
    /// Its client can send bytes.
    Open,
    /// Its bytes are verified, and hooks and sinks are being called. The object exists, or is being
    /// assembled.
    Completing,
    /// Completed, and all events are emitted.
    Completed,
    /// Denied, cancelled, failed or expired. Its data in the bucket is removed, now or later.
    Removed,
}

/// The age after which an upload in [`Status::Creating`] is abandoned.
pub(crate) const CREATION_TIMEOUT: Duration = Duration::from_secs(60);

/// One direct upload.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Record {
    /// The description for hooks and sinks: id, length, metadata, labels; `storage` has `Type`
    /// (such as `s3store`), `Bucket` (`Container` in Azure) and `Key`.
    pub upload: Arc<Upload>,
    /// The job in the upload queue.
    pub job: JobId,
    /// The subject of the principal that requested it.
    pub subject: String,
    /// The transfer mode.
    pub mode: TransferMode,
    /// The bucket and key of its object.
    pub object: ObjectRef,
    /// The id of its multipart upload, once it exists.
    pub multipart: Option<String>,
    /// The status.
    pub status: Status,
    /// The number of bytes that the bucket is known to have.
    pub stored: u64,
    /// The time of its client's last activity, or of the last check that found more bytes.
    pub active_at: SystemTime,
    /// The time of the next check; `None` once it has ended and no data is left to remove.
    pub next_check_at: Option<SystemTime>,
    /// The number of checks since it was last active; the interval grows with it.
    pub check_count: u32,
    /// The number of writes. A change applies only to the version from which it was made.
    pub version: u64,
}

impl Record {
    /// Creates the record of an upload without any bytes, in [`Status::Creating`] and due at once.
    #[must_use]
    pub fn new(
        upload: impl Into<Arc<Upload>>,
        job: JobId,
        subject: impl Into<String>,
        mode: TransferMode,
        object: ObjectRef,
        now: SystemTime,
    ) -> Self {
        Self {
            upload: upload.into(),
            job,
            subject: subject.into(),
            mode,
            object,
            multipart: None,
            status: Status::Creating,
            stored: 0,
            active_at: now,
            next_check_at: Some(now),
            check_count: 0,
            version: 0,
        }
    }

    /// Returns the upload's id.
    #[must_use]
    pub fn id(&self) -> &UploadId {
        &self.upload.id
    }

    /// Returns the maximum size in bytes, if it is limited.
    #[must_use]
    pub fn size_limit(&self) -> Option<u64> {
        self.upload.length.or(self.upload.max_size)
    }
}
