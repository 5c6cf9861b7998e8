//! What is known of one direct upload.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use landfall::upload::{Upload, UploadId};
use landfall_grants::JobId;
use landfall_s3::client::ObjectRef;

/// How its bytes get to S3.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Way {
    /// One presigned PUT.
    Put,
    /// One form with a signed policy (POST).
    Post,
    /// A multipart upload that this server began and completes.
    Multipart,
    /// A multipart upload that the client begins and completes itself, by signed requests.
    SignedMultipart,
}

/// Where it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Standing {
    /// Written down; its multipart upload is not known to have been begun.
    Opening,
    /// Its client may send bytes.
    Open,
    /// Its bytes are found to be right, and whoever waits for that is being asked and told. It is an
    /// object of the bucket, or about to become one.
    Finishing,
    /// Complete, and whoever waits for it has been told.
    Finished,
    /// Refused, cancelled, failed or expired; what there was of it is removed, or about to be.
    Gone,
}

/// After this, one that is being opened is taken for left over.
pub(crate) const OPENING: Duration = Duration::from_secs(60);
/// The most bytes that S3 takes in one request.
pub(crate) const MOST_AT_ONCE: u64 = 5 << 30;

/// One direct upload.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Record {
    /// Its description, as hooks and sinks know it: id, length, metadata, labels, and in `storage`
    /// `Type` (`s3store`), `Bucket` and `Key`.
    pub upload: Arc<Upload>,
    /// The row of the queue.
    pub job: JobId,
    /// Who asked for it.
    pub subject: String,
    /// How its bytes get to S3.
    pub way: Way,
    /// Where its object is, or will be.
    pub place: ObjectRef,
    /// What S3 calls the multipart upload, once there is one.
    pub multipart: Option<String>,
    /// Where it stands.
    pub standing: Standing,
    /// How many bytes S3 is known to have.
    pub stored: u64,
    /// When its client was last heard of, or more of its bytes were found.
    pub active_at: SystemTime,
    /// When it is to be looked at next; `None` once it has ended and nothing of it is left to be
    /// removed.
    pub check_at: Option<SystemTime>,
    /// How often it was looked at since it was last active: looks become rarer.
    pub looks: u32,
    /// How often the row was written: a change applies only to the version from which it was made.
    pub version: u64,
}

impl Record {
    /// One that is about to be opened at `now`, by a client that has yet to send something; to be looked
    /// at as soon as somebody looks.
    #[must_use]
    pub fn new(
        upload: impl Into<Arc<Upload>>,
        job: JobId,
        subject: impl Into<String>,
        way: Way,
        place: ObjectRef,
        now: SystemTime,
    ) -> Self {
        Self {
            upload: upload.into(),
            job,
            subject: subject.into(),
            way,
            place,
            multipart: None,
            standing: Standing::Opening,
            stored: 0,
            active_at: now,
            check_at: Some(now),
            looks: 0,
            version: 0,
        }
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> &UploadId {
        &self.upload.id
    }

    /// The most bytes it may have, if that is limited.
    #[must_use]
    pub fn most(&self) -> Option<u64> {
        self.upload.length.or(self.upload.max_size)
    }
}
