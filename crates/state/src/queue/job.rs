//! Jobs, their states and their events: the vocabulary of the queue.
//!
//! States and kinds of events are stored as their positions in the enums, so the order of the variants must not change.
//! Stored events contain a job as JSON: a new field must be readable where it is absent (`#[serde(default)]`).

use std::{fmt, net::IpAddr, str::FromStr, time::SystemTime};

use landfall_hooks::{HookName, UnknownName};
use serde::{Deserialize, Serialize};

/// The number of a job, ascending. It is internal: clients see the request id.
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

/// The state of a job. The last five are final.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum JobState {
    /// Granted; the upload is not created yet.
    Received,
    /// The upload is created and empty.
    Started,
    /// Some bytes are stored.
    Progress,
    /// All bytes are stored, and blocking hooks have passed.
    Completed,
    /// Cancelled by the client, the application or an operator.
    Cancelled,
    /// Rejected or stopped by a hook, or missing in the store.
    Failed,
    /// Not started or not completed in time.
    Expired,
    /// Completed, and deleted since. There is no event for it; nodes of earlier releases leave such jobs out.
    Removed,
}

impl JobState {
    /// All states, in order.
    pub const ALL: [Self; 8] = [
        Self::Received,
        Self::Started,
        Self::Progress,
        Self::Completed,
        Self::Cancelled,
        Self::Failed,
        Self::Expired,
        Self::Removed,
    ];

    /// Returns its name: `received`, `started`, …
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Received => "received",
            Self::Started => "started",
            Self::Progress => "progress",
            Self::Completed => "completed",
            Self::Cancelled => "cancelled",
            Self::Failed => "failed",
            Self::Expired => "expired",
            Self::Removed => "removed",
        }
    }

    /// Returns whether the state is final.
    pub const fn is_terminal(self) -> bool {
        matches!(
            self,
            Self::Completed | Self::Cancelled | Self::Failed | Self::Expired | Self::Removed
        )
    }
}

impl fmt::Display for JobState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for JobState {
    type Err = UnknownName;

    fn from_str(name: &str) -> Result<Self, UnknownName> {
        let found = Self::ALL.into_iter().find(|state| state.as_str() == name);
        found.ok_or_else(|| UnknownName("state", name.to_owned()))
    }
}

/// A granted or tracked upload and its state.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Job {
    /// Its number.
    pub id: JobId,
    /// The principal that requested it; `None` for an upload without a grant.
    pub subject: Option<String>,
    /// The principal's id for the job, unique per subject. Without a grant, the upload id.
    pub request_id: String,
    /// Its state.
    pub state: JobState,
    /// Why it failed or was cancelled, for users.
    pub reason: Option<String>,
    /// The file's name.
    pub filename: Option<String>,
    /// The file's type.
    pub filetype: Option<String>,
    /// The length in bytes; `None` while unknown.
    pub size: Option<u64>,
    /// The maximum length while the length is unknown.
    pub max_size: Option<u64>,
    /// Bytes stored; never decreases, except to the size when that becomes known.
    ///
    /// Until then, partial uploads that are not in the final one count too.
    pub offset: u64,
    /// The entity tag of the completed object, if the store has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
    /// Bytes per second, a moving average.
    pub rate: u64,
    /// When its last byte was received.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub received_at: Option<SystemTime>,
    /// Other fields of the request.
    pub metadata: serde_json::Map<String, serde_json::Value>,
    /// The upload, once it is created.
    pub upload_id: Option<String>,
    /// The address of the client that created the upload, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<IpAddr>,
    /// The node that last received data for it.
    pub node: Option<String>,
    /// When it was requested.
    pub created_at: SystemTime,
    /// The upload must be created before this time.
    pub expires_at: SystemTime,
    /// When the upload was created.
    pub started_at: Option<SystemTime>,
    /// When a field last changed.
    pub updated_at: SystemTime,
    /// When it reached a final state.
    pub ended_at: Option<SystemTime>,
}

impl Job {
    pub(crate) fn new(request_id: String, now: SystemTime) -> Self {
        Self {
            id: JobId(0),
            subject: None,
            request_id,
            state: JobState::Received,
            reason: None,
            filename: None,
            filetype: None,
            size: None,
            max_size: None,
            offset: 0,
            etag: None,
            rate: 0,
            received_at: None,
            metadata: serde_json::Map::new(),
            upload_id: None,
            client: None,
            node: None,
            created_at: now,
            expires_at: now,
            started_at: None,
            updated_at: now,
            ended_at: None,
        }
    }
}

/// The kind of a job event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[allow(clippy::enum_variant_names, reason = "as in messages")]
pub enum JobEventKind {
    /// The upload was created, or granted with
    /// [`QueueSettings::started_at_grant`](crate::queue::QueueSettings::started_at_grant).
    UploadStarted,
    /// More bytes are stored.
    UploadProgress,
    /// All bytes are stored.
    UploadCompleted,
    /// See [`JobState::Cancelled`].
    UploadCancelled,
    /// See [`JobState::Failed`].
    UploadFailed,
    /// See [`JobState::Expired`].
    UploadExpired,
}

impl JobEventKind {
    /// All kinds.
    pub const ALL: [Self; 6] = [
        Self::UploadStarted,
        Self::UploadProgress,
        Self::UploadCompleted,
        Self::UploadCancelled,
        Self::UploadFailed,
        Self::UploadExpired,
    ];

    pub(crate) const fn hook(self) -> HookName {
        match self {
            Self::UploadStarted => HookName::UploadStarted,
            Self::UploadProgress => HookName::UploadProgress,
            Self::UploadCompleted => HookName::UploadCompleted,
            Self::UploadCancelled => HookName::UploadCancelled,
            Self::UploadFailed => HookName::UploadFailed,
            Self::UploadExpired => HookName::UploadExpired,
        }
    }

    /// Returns its name: `UploadStarted`, `UploadProgress`, …
    pub const fn as_str(self) -> &'static str {
        self.hook().as_str()
    }
}

/// An event of a job.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct JobEvent {
    /// Its number in the queue. Once it was read, no event with a lower number appears.
    pub number: i64,
    /// Its kind.
    pub kind: JobEventKind,
    /// Its time.
    pub at: SystemTime,
    /// The job at that time.
    pub job: Job,
}
