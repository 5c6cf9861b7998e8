//! Rows of the queue: what was asked for, and what became of it.

use std::{fmt, str::FromStr, time::SystemTime};

use serde::{Deserialize, Serialize};

/// The number of a job: later ones have larger ones. Callers don't see it; labels of uploads hold it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct JobId(pub i64);

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for JobId {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

/// Where a job stands. The last four never change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum JobState {
    /// Asked for and granted; nothing was created yet.
    Received,
    /// The upload is created; none of its bytes are stored.
    Started,
    /// Some of its bytes are stored.
    Progress,
    /// All bytes are stored, and the application's hooks had nothing against it.
    Completed,
    /// Its owner, the application or an operator didn't want it any more.
    Cancelled,
    /// It can't go on: refused or stopped by a hook, or gone from the store.
    Failed,
    /// It wasn't begun or ended in time.
    Expired,
}

impl JobState {
    /// All of them, in order.
    pub const ALL: [Self; 7] = [
        Self::Received,
        Self::Started,
        Self::Progress,
        Self::Completed,
        Self::Cancelled,
        Self::Failed,
        Self::Expired,
    ];

    /// Its name: `received`, `started`, …
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Received => "received",
            Self::Started => "started",
            Self::Progress => "progress",
            Self::Completed => "completed",
            Self::Cancelled => "cancelled",
            Self::Failed => "failed",
            Self::Expired => "expired",
        }
    }

    /// Whether it never changes again.
    #[must_use]
    pub const fn is_terminal(self) -> bool {
        matches!(
            self,
            Self::Completed | Self::Cancelled | Self::Failed | Self::Expired
        )
    }
}

impl fmt::Display for JobState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// No state has this name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no state {0:?}")]
pub struct UnknownState(pub String);

impl FromStr for JobState {
    type Err = UnknownState;

    fn from_str(name: &str) -> Result<Self, UnknownState> {
        let found = Self::ALL.into_iter().find(|state| state.as_str() == name);
        found.ok_or_else(|| UnknownState(name.to_owned()))
    }
}

/// A row of the queue.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Job {
    /// Its number.
    pub id: JobId,
    /// Who asked for it; `None` for an upload that came without a grant and is only followed.
    pub subject: Option<String>,
    /// The caller's own id for it, unique among those of one subject. That of an upload without a
    /// grant is the upload's id.
    pub request_id: String,
    /// Where it stands.
    pub state: JobState,
    /// Why it failed or was cancelled, for people.
    pub reason: Option<String>,
    /// The file's name.
    pub filename: Option<String>,
    /// The file's type.
    pub filetype: Option<String>,
    /// The length in bytes; `None` while unknown.
    pub size: Option<u64>,
    /// The most bytes it may have while the length is unknown.
    #[serde(default)]
    pub max_size: Option<u64>,
    /// How many bytes are stored. Never falls.
    pub offset: u64,
    /// The entity tag of the object, once it is complete, where the store knows one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
    /// How many bytes came in per second when it was last looked at.
    pub rate: u64,
    /// What else the caller said when it asked.
    pub metadata: serde_json::Map<String, serde_json::Value>,
    /// The upload, once there is one.
    pub upload_id: Option<String>,
    /// The node that had it in hand last.
    pub node: Option<String>,
    /// When it was asked for.
    pub created_at: SystemTime,
    /// Until when (that moment excluded) the upload must have been created.
    pub expires_at: SystemTime,
    /// When the upload was created.
    pub started_at: Option<SystemTime>,
    /// When anything about it last changed.
    pub updated_at: SystemTime,
    /// When it reached a state that is final.
    pub ended_at: Option<SystemTime>,
}

/// What is told about jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[allow(clippy::enum_variant_names, reason = "these are their names outside")]
pub enum JobEventKind {
    /// The upload was created (or granted, where the queue was told to say so then).
    UploadStarted,
    /// More of its bytes are stored.
    UploadProgress,
    /// All of its bytes are stored.
    UploadCompleted,
    /// See [`JobState::Cancelled`].
    UploadCancelled,
    /// See [`JobState::Failed`].
    UploadFailed,
    /// See [`JobState::Expired`].
    UploadExpired,
}

impl JobEventKind {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::UploadStarted,
        Self::UploadProgress,
        Self::UploadCompleted,
        Self::UploadCancelled,
        Self::UploadFailed,
        Self::UploadExpired,
    ];

    /// Its name: `UploadStarted`, `UploadProgress`, …
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::UploadStarted => "UploadStarted",
            Self::UploadProgress => "UploadProgress",
            Self::UploadCompleted => "UploadCompleted",
            Self::UploadCancelled => "UploadCancelled",
            Self::UploadFailed => "UploadFailed",
            Self::UploadExpired => "UploadExpired",
        }
    }
}

/// Something that happened to a job.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct JobEvent {
    /// Its place among all events of the queue: nothing with a smaller number appears once this one
    /// can be read.
    pub number: i64,
    /// What.
    pub kind: JobEventKind,
    /// When.
    pub at: SystemTime,
    /// The job as it was then.
    pub job: Job,
}
