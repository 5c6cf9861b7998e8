//! The arguments and results of the queue's methods.
//!
//! Data without decisions: the rules are in `grant`, `start` and `transition`. Jobs store the fingerprint of their
//! request, so its inputs must not change: repeated requests would conflict.

use std::{
    collections::BTreeMap,
    fmt,
    net::IpAddr,
    time::{Duration, SystemTime},
};

use http::StatusCode;
use landfall::upload::UploadId;
use sha2::{Digest as _, Sha256};

use super::{GrantLimits, Job, JobId, JobState, Token, TokenHash};
use crate::sql::Statement;

/// A request for a grant.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct NewJob {
    /// The principal's name.
    pub subject: String,
    /// The principal's own id for the job.
    pub request_id: String,
    /// The file's name.
    pub filename: String,
    /// The file's type.
    pub filetype: Option<String>,
    /// Its length in bytes, if known.
    pub size: Option<u64>,
    /// Other fields of the request.
    pub metadata: serde_json::Map<String, serde_json::Value>,
    /// The [fingerprint](Self::fingerprint) of the original request, if a policy has changed the
    /// fields above. A policy may change them differently each time.
    pub request_fingerprint: Option<i64>,
    /// The limits of the subject. Those that depend on its other jobs are checked in the same
    /// transaction.
    ///
    /// Of a quota, `max_size` bytes are reserved for an upload of unknown size. Without `max_size`,
    /// the whole rest is reserved and becomes the upload's maximum size.
    pub limits: GrantLimits,
    /// The number of the upload link that requests it: the grant counts as one of its files.
    pub link: Option<i64>,
}

impl NewJob {
    /// Creates a request without optional fields.
    pub fn new(
        subject: impl Into<String>,
        request_id: impl Into<String>,
        filename: impl Into<String>,
    ) -> Self {
        Self {
            subject: subject.into(),
            request_id: request_id.into(),
            filename: filename.into(),
            filetype: None,
            size: None,
            metadata: serde_json::Map::new(),
            request_fingerprint: None,
            limits: GrantLimits::default(),
            link: None,
        }
    }

    /// Returns the job that a grant at `now` creates, without its number and expiry.
    pub fn draft(&self, now: SystemTime) -> Job {
        Job {
            subject: Some(self.subject.clone()),
            filename: Some(self.filename.clone()),
            filetype: self.filetype.clone(),
            size: self.size,
            max_size: self.limits.max_size.filter(|_| self.size.is_none()),
            metadata: self.metadata.clone(),
            ..Job::new(self.request_id.clone(), now)
        }
    }

    /// Returns a hash of the name, type, size and metadata.
    pub fn fingerprint(&self) -> i64 {
        let content = (&self.filename, &self.filetype, self.size, &self.metadata);
        // Serialization of strings and numbers does not fail, and maps are sorted.
        let json = serde_json::to_vec(&content).unwrap_or_default();
        from_digest(&Sha256::digest(json))
    }
}

pub(super) fn from_digest(digest: &[u8]) -> i64 {
    digest
        .first_chunk()
        .map_or(0, |first| i64::from_be_bytes(*first))
}

/// The outcome of [`Queue::grant`](super::Queue::grant), and with another `New` and no token for an
/// existing job that of [`Queue::grant_and_start`](super::Queue::grant_and_start).
#[derive(Debug, Clone, PartialEq)]
pub enum GrantOutcome<New = Token, Existing = Option<Token>> {
    /// A new job, and its token or the outcome of its start. It has no upload unless that is
    /// [`StartOutcome::Bound`].
    Created(Box<Job>, New),
    /// The job of an earlier, equal request. If it was granted a token and has not ended, it gets
    /// another one, since the first response may be lost. A job keeps its newest five tokens.
    Existing(Box<Job>, Existing),
    /// The job of another request with this id; nothing was written.
    Conflict(Box<Job>),
    /// A limit is exceeded; nothing was written.
    LimitExceeded(LimitExceeded),
}

/// A limit that does not allow a grant now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LimitExceeded {
    /// The maximum number of active jobs.
    #[error("maximum of {0} active uploads reached; finish or cancel one")]
    Active(u32),
    /// The rate limit; time until the next grant.
    #[error("rate limit for new uploads exceeded")]
    Rate(Duration),
    /// The quota, in bytes.
    #[error("quota exceeded; {used} of {quota} bytes are used or reserved")]
    Quota {
        /// The quota.
        quota: u64,
        /// Reserved and used bytes.
        used: u64,
    },
    /// The number of files of an upload link.
    #[error("this link accepts {}, and no more", Files(*.0))]
    Files(u64),
    /// The upload link was revoked or has expired.
    #[error("this link is no longer valid; ask its sender for another one")]
    LinkEnded,
}

struct Files(u64);

impl fmt::Display for Files {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            1 => f.write_str("one file"),
            files => write!(f, "{files} files"),
        }
    }
}

impl LimitExceeded {
    /// Returns the time after which to try again, a minute if it is unknown; `None` if that is of no use.
    pub const fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Rate(wait) => Some(*wait),
            Self::Active(_) | Self::Quota { .. } => Some(Duration::from_secs(60)),
            Self::Files(_) | Self::LinkEnded => None,
        }
    }
}

/// A request to bind an upload to a job.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct StartRequest {
    /// The upload.
    pub upload: UploadId,
    /// True if the upload is a partial upload (tus concatenation).
    pub is_part: bool,
    /// Its length, if known.
    pub length: Option<u64>,
    /// A fingerprint of the creation; a repeated creation must have the same.
    pub fingerprint: String,
    /// The address of the client that creates it, if known.
    pub client: Option<IpAddr>,
    /// The [bound upload](super::Queue::bound_upload) to replace, because it does not exist in the
    /// store.
    pub replaces: Option<UploadId>,
    /// A statement to execute in the same transaction.
    pub extra_statement: Option<Statement>,
}

impl StartRequest {
    /// Binds the upload of a job.
    pub fn new(upload: UploadId, length: Option<u64>, fingerprint: impl Into<String>) -> Self {
        Self {
            upload,
            is_part: false,
            length,
            fingerprint: fingerprint.into(),
            client: None,
            replaces: None,
            extra_statement: None,
        }
    }

    /// Binds a partial upload.
    pub fn part(upload: UploadId, length: Option<u64>) -> Self {
        Self {
            is_part: true,
            ..Self::new(upload, length, "")
        }
    }

    /// Replaces a bound upload that does not exist in the store.
    #[must_use]
    pub fn replacing(mut self, bound: Option<UploadId>) -> Self {
        self.replaces = bound;
        self
    }

    /// Sets the address of the client.
    #[must_use]
    pub fn from_client(mut self, client: Option<IpAddr>) -> Self {
        self.client = client;
        self
    }

    /// Executes a statement in the transaction that binds the upload, if it is bound.
    ///
    /// The transaction contains commands of other callers and may be repeated after a commit. The
    /// statement must therefore be valid and idempotent. Statements that [insert a
    /// row](Statement::insert) are batched.
    #[must_use]
    pub fn with_statement(mut self, statement: Statement) -> Self {
        self.extra_statement = Some(statement);
        self
    }
}

/// The outcome of [`Queue::start`](super::Queue::start).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StartOutcome {
    /// The upload is bound.
    Bound,
    /// Another upload is bound, and it is not the one to be [replaced](StartRequest::replacing). If
    /// the store does not have it, start again and replace it.
    Other(UploadId),
    /// The grant expired before the upload was created.
    Expired,
    /// The job has ended in this state.
    Ended(JobState),
    /// The upload of an earlier creation has another fingerprint, the length is less than granted, or
    /// the whole upload is bound and this is a partial one.
    Conflict,
    /// The upload has more bytes, or more parts, than granted.
    TooLarge,
    /// The job does not exist, or no longer.
    NotFound,
}

/// The progress of an upload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The job, from the upload's labels.
    pub job: JobId,
    /// The partial upload, if it is one.
    pub part: Option<UploadId>,
    /// Bytes stored.
    pub offset: u64,
    /// The length, if known.
    pub length: Option<u64>,
    /// When the last byte was received.
    pub at: SystemTime,
}

/// How a job ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JobEnd {
    /// All bytes are stored.
    Completed(Completion),
    /// Cancelled; the reason, for users.
    Cancelled(String),
    /// Failed; the reason, for users.
    Failed(String),
    /// Failed before it was started, without which it changes nothing; the reason, and the client's address.
    Denied(String, Option<IpAddr>),
    /// Not started or not completed in time.
    Expired,
    /// Deleted after its completion, without which it changes nothing; the reason, for users.
    Removed(String),
}

impl JobEnd {
    /// Creates a completion that is proven by the number of bytes only.
    pub const fn completed(bytes: u64) -> Self {
        Self::Completed(Completion { bytes, etag: None })
    }

    /// Returns whether a denial of the creation with this status ends the job; clients repeat a request with another.
    pub fn is_final_denial(status: StatusCode) -> bool {
        status.is_client_error() && !matches!(status.as_u16(), 408 | 409 | 423 | 425 | 429)
    }
}

/// The proof of a completion.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Completion {
    /// Bytes stored.
    pub bytes: u64,
    /// The entity tag of the object, where the store knows one.
    pub etag: Option<String>,
}

/// A filter for running jobs by their last update.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StaleFilter {
    /// Last updated before this time.
    pub before: SystemTime,
    /// Last updated at this time or later.
    pub since: SystemTime,
}

/// A running job that was not updated for a while.
#[derive(Debug, Clone, PartialEq)]
pub struct StaleJob {
    /// The job.
    pub job: Job,
    /// The [prepared end](super::Queue::prepare_end), if its upload is about to be removed.
    pub prepared_end: Option<JobEnd>,
    /// All [uploads bound to it](super::Queue::uploads_of).
    pub uploads: Vec<UploadId>,
}

/// Selects the jobs of one subject or of all.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Scope {
    /// One subject.
    Subject(String),
    /// All subjects.
    All,
}

/// A query for a page of jobs, in the order of their numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Query {
    /// The subjects to include.
    pub scope: Scope,
    /// The states to include; empty for all.
    pub states: Vec<JobState>,
    /// A part of the file name, or the beginning of the subject, request id or upload id, to search for.
    pub search: Option<String>,
    /// Created at this time or later.
    pub created_from: Option<SystemTime>,
    /// Created before this time.
    pub created_before: Option<SystemTime>,
    /// The last job of the previous page.
    pub after: Option<JobId>,
    /// Whether to list the newest jobs first.
    pub newest_first: bool,
    /// Maximum number of jobs.
    pub limit: usize,
    pub(super) numbers: Option<(i64, i64)>,
}

impl Query {
    /// Queries the first hundred jobs of a scope.
    pub fn new(scope: Scope) -> Self {
        Self {
            scope,
            states: Vec::new(),
            search: None,
            created_from: None,
            created_before: None,
            after: None,
            newest_first: false,
            limit: 100,
            numbers: None,
        }
    }

    /// Returns the order, and how the numbers of the next page compare with [`Self::after`].
    pub(super) const fn direction(&self) -> (&'static str, &'static str) {
        if self.newest_first {
            ("DESC", "<")
        } else {
            ("ASC", ">")
        }
    }
}

/// A page of jobs.
#[derive(Debug, Clone, PartialEq)]
pub struct Page {
    /// The jobs.
    pub jobs: Vec<Job>,
    /// True if another page follows.
    pub has_more: bool,
}

/// An API key.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct ApiKey {
    /// Its number, for `landfall keys revoke`.
    pub id: i64,
    /// Its name.
    pub name: String,
    /// The principal that it authenticates.
    pub subject: String,
    /// Its limits.
    pub limits: GrantLimits,
    /// True if it may list and cancel the uploads of all subjects.
    pub is_admin: bool,
    /// Time of creation.
    pub created_at: SystemTime,
    /// Time of expiry, if any.
    pub expires_at: Option<SystemTime>,
    /// Time of the last use, accurate to a minute.
    pub used_at: Option<SystemTime>,
}

/// A new API key.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs, reason = "see `ApiKey`")]
pub struct NewKey {
    pub hash: TokenHash,
    pub name: String,
    pub subject: String,
    pub limits: GrantLimits,
    pub is_admin: bool,
    pub expires_at: Option<SystemTime>,
}

/// Totals over all jobs, updated incrementally.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Totals {
    /// The number of jobs in each state.
    pub jobs: BTreeMap<&'static str, u64>,
    /// Bytes of the completed jobs that are still listed.
    pub completed_bytes: u64,
}

/// Selects activity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ThroughputQuery {
    /// The start.
    pub since: SystemTime,
    /// Minutes per row; the rows start at multiples of it since 1970.
    pub interval: u32,
    /// The node, or all.
    pub node: Option<String>,
}

/// Activity in an interval that starts at `minute`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Throughput {
    pub minute: SystemTime,
    pub bytes: u64,
    pub started: u64,
    pub completed: u64,
    pub failed: u64,
}
