//! What goes into the queue and what comes out of it.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

use landfall::upload::UploadId;
use landfall_database::Statement;
use sha2::{Digest as _, Sha256};

use super::numbers;
use crate::{Job, JobId, JobState, Limits, Token, TokenHash};

/// An upload that is asked for.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct NewJob {
    /// Who asks.
    pub subject: String,
    /// The caller's own id for it.
    pub request_id: String,
    /// The file's name.
    pub filename: String,
    /// The file's type.
    pub filetype: Option<String>,
    /// Its length in bytes, if known.
    pub size: Option<u64>,
    /// The most bytes it may have, if the length isn't known.
    pub max_size: Option<u64>,
    /// What else was said.
    pub metadata: serde_json::Map<String, serde_json::Value>,
    /// The [fingerprint](Self::fingerprint) of what the caller requested, where a policy has changed it
    /// since: an application may add something else each time. That of the fields above if `None`.
    pub asked: Option<i64>,
    /// What holds for this subject at this moment; checked in the same transaction.
    pub bounds: Bounds,
}

impl NewJob {
    /// A request without anything more.
    #[must_use]
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
            max_size: None,
            metadata: serde_json::Map::new(),
            asked: None,
            bounds: Bounds::default(),
        }
    }

    /// The job as a grant at `now` makes it, without its number and its expiry.
    #[must_use]
    pub fn draft(&self, now: SystemTime) -> Job {
        Job {
            id: JobId(0),
            subject: Some(self.subject.clone()),
            request_id: self.request_id.clone(),
            state: JobState::Received,
            reason: None,
            filename: Some(self.filename.clone()),
            filetype: self.filetype.clone(),
            size: self.size,
            max_size: self.max_size.filter(|_| self.size.is_none()),
            offset: 0,
            etag: None,
            rate: 0,
            metadata: self.metadata.clone(),
            upload_id: None,
            node: None,
            created_at: now,
            expires_at: now,
            started_at: None,
            updated_at: now,
            ended_at: None,
        }
    }

    /// Returns a number that the same name, type, size and metadata lead to again.
    #[must_use]
    pub fn fingerprint(&self) -> i64 {
        let content = (&self.filename, &self.filetype, self.size, &self.metadata);
        // Texts and numbers always have a JSON form, and maps are sorted in it.
        let json = serde_json::to_vec(&content).unwrap_or_default();
        numbers::from_digest(&Sha256::digest(json))
    }
}

/// Limits of a subject that depend on what else it has asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Bounds {
    /// See [`Limits::active`].
    pub active: Option<u32>,
    /// See [`Limits::rate`].
    pub rate: Option<crate::caller::Rate>,
    /// See [`Limits::quota`].
    pub quota: Option<u64>,
    /// What is reserved of the quota while the size isn't known. If 0, all that is left of it is, and
    /// the upload may have no more.
    pub reserve: u64,
}

impl Bounds {
    /// Those of `limits`; what has no known size reserves the most that it may have.
    #[must_use]
    pub fn of(limits: &Limits) -> Self {
        Self {
            active: limits.active,
            rate: limits.rate,
            quota: limits.quota,
            reserve: limits.max_size.unwrap_or_default(),
        }
    }
}

/// The answer to somebody who asks for an upload.
#[derive(Debug, Clone, PartialEq)]
pub enum Granted {
    /// A new job and its token.
    New(Box<Job>, Token),
    /// Asked for before in the same words. A job that hasn't ended gets one more token, beside those
    /// it has (five at most, the oldest go), since nobody knows the first one any more.
    Again(Box<Job>, Option<Token>),
    /// The subject has asked for something else under this id.
    Conflict(Box<Job>),
    /// Not now.
    Refused(Refusal),
}

/// The outcome of [`Queue::grant_and_start`](super::Queue::grant_and_start).
#[derive(Debug, Clone, PartialEq)]
pub enum GrantStarted {
    /// A new job, and what became of its start. If that is not [`Started::Bound`], the job has no upload.
    New(Box<Job>, Started),
    /// The job of the same request before; nothing was written.
    Again(Box<Job>),
    /// The job of another request with this id; nothing was written.
    Conflict(Box<Job>),
    /// A limit is exceeded; nothing was written.
    Refused(Refusal),
}

/// Why no grant is given now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// So many are under way, which is the most.
    Active(u32),
    /// Too many were asked for; how long to wait.
    Rate(Duration),
    /// What is left of the quota, in bytes, is too little.
    Quota {
        /// In all.
        quota: u64,
        /// Reserved or used.
        used: u64,
    },
}

/// An upload that is about to be created under a grant.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Start {
    /// The upload.
    pub upload: UploadId,
    /// Whether it is a part of what was granted (tus concatenation): such are noted beside the job.
    pub is_part: bool,
    /// Its length, if known.
    pub length: Option<u64>,
    /// What the client asked for in its creation, in digest: a second creation must ask for the same.
    pub digest: String,
    /// The upload in whose place this one comes: the one that [was bound](super::Queue::bound) and
    /// turned out never to have been made.
    pub instead_of: Option<UploadId>,
    /// What somebody else who keeps books in the queue's database wants written with it.
    pub along: Option<Statement>,
}

impl Start {
    /// The upload of a job.
    #[must_use]
    pub fn new(upload: UploadId, length: Option<u64>, digest: impl Into<String>) -> Self {
        Self {
            upload,
            is_part: false,
            length,
            digest: digest.into(),
            instead_of: None,
            along: None,
        }
    }

    /// A part of it.
    #[must_use]
    pub fn part(upload: UploadId, length: Option<u64>) -> Self {
        Self {
            is_part: true,
            ..Self::new(upload, length, "")
        }
    }

    /// Takes the place of an upload that was bound and isn't in the store.
    #[must_use]
    pub fn instead_of(mut self, bound: Option<UploadId>) -> Self {
        self.instead_of = bound;
        self
    }

    /// Executes a statement in the transaction that binds the upload, and only if it is bound: then
    /// both are kept, or neither. The transaction is that of others, too, and may be tried again after
    /// it was kept, so the statement must hold nothing that a database refuses, and do no harm twice. Those that
    /// [insert a row](Statement::insert) are executed together.
    #[must_use]
    pub fn along(mut self, statement: Statement) -> Self {
        self.along = Some(statement);
        self
    }
}

/// What became of a start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Started {
    /// It is bound.
    Bound,
    /// This upload is bound already, and isn't the one that the start would have replaced: if it is in
    /// the store, it is the one that was granted; if not, start again [instead of](Start::instead_of)
    /// it.
    Other(UploadId),
    /// Its time to start is over.
    TooLate,
    /// The job has ended so.
    Ended(JobState),
    /// Another creation asked for something else.
    Differs,
    /// There would be more bytes (or parts) than were granted.
    TooMuch,
    /// There is no such job any more.
    Unknown,
}

/// How far an upload got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The job, from the upload's labels.
    pub job: JobId,
    /// The part, if it is one.
    pub part: Option<UploadId>,
    /// Bytes stored.
    pub offset: u64,
    /// The length, if known by now.
    pub length: Option<u64>,
}

/// The end of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// Complete.
    Completed(Completion),
    /// Not wanted any more; by whom or why, for people.
    Cancelled(String),
    /// It can't go on; why.
    Failed(String),
    /// Its time was over.
    Expired,
}

impl End {
    /// Makes a completion whose only evidence is the number of bytes.
    #[must_use]
    pub const fn completed(bytes: u64) -> Self {
        Self::Completed(Completion { bytes, etag: None })
    }
}

/// The evidence of a completion.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Completion {
    /// Bytes stored.
    pub bytes: u64,
    /// The entity tag of the object, where the store knows one.
    pub etag: Option<String>,
}

/// Selects running jobs by the time of their last update.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StaleFilter {
    /// Not updated since this moment.
    pub before: SystemTime,
    /// Updated at this moment or later.
    pub since: SystemTime,
}

/// A running job that was not updated for a while.
#[derive(Debug, Clone, PartialEq)]
pub struct StaleJob {
    /// The job.
    pub job: Job,
    /// How it ends if its upload is gone: see [`Queue::set_ending`](super::Queue::set_ending).
    pub ending: Option<End>,
    /// All uploads bound to it: see [`Queue::uploads_of`](super::Queue::uploads_of).
    pub uploads: Vec<UploadId>,
}

/// Whose jobs.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Scope {
    /// Those of one subject.
    Subject(String),
    /// All.
    All,
}

/// Which jobs, a page at a time by number.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Query {
    /// Whose.
    pub scope: Scope,
    /// In which states; empty = all.
    pub states: Vec<JobState>,
    /// What the name, the subject, the request id or the upload's id begins with.
    pub search: Option<String>,
    /// The number of the last one of the page before.
    pub after: Option<JobId>,
    /// Newest first, instead of oldest.
    pub newest_first: bool,
    /// How many at most.
    pub limit: usize,
}

impl Query {
    /// The first hundred of them.
    #[must_use]
    pub fn new(scope: Scope) -> Self {
        Self {
            scope,
            states: Vec::new(),
            search: None,
            after: None,
            newest_first: false,
            limit: 100,
        }
    }
}

/// Some jobs.
#[derive(Debug, Clone, PartialEq)]
pub struct Page {
    /// They.
    pub jobs: Vec<Job>,
    /// Whether there are more after the last of them.
    pub has_more: bool,
}

/// A key of an application.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct ApiKey {
    /// Its number, for `landfall keys revoke`.
    pub id: i64,
    /// What people call it.
    pub name: String,
    /// Who uses it.
    pub subject: String,
    /// What it may ask for.
    pub limits: Limits,
    /// Whether it may see and cancel everybody's uploads.
    pub is_admin: bool,
    /// When it was made.
    pub created_at: SystemTime,
    /// When it stops being one, if it does.
    pub expires_at: Option<SystemTime>,
    /// When it was used last, give or take a minute.
    pub used_at: Option<SystemTime>,
}

/// A key to be.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs, reason = "see `ApiKey`")]
pub struct NewKey {
    pub hash: TokenHash,
    pub name: String,
    pub subject: String,
    pub limits: Limits,
    pub is_admin: bool,
    pub expires_at: Option<SystemTime>,
}

/// The queue in numbers, counted as it changes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Totals {
    /// Jobs in each state.
    pub jobs: BTreeMap<&'static str, u64>,
    /// Bytes of the jobs that are complete and still listed.
    pub completed_bytes: u64,
}

/// What came in during one minute, over all nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the words say it")]
pub struct Throughput {
    pub minute: SystemTime,
    pub bytes: u64,
    pub started: u64,
    pub completed: u64,
    pub failed: u64,
}
