//! The errors of direct uploads, the same for all APIs.
//!
//! Chooses no response: `api::problem` does. It translates errors of the bucket, the queue and the database, whose causes
//! clients must not see. The other texts are for clients.

use landfall::hook::HookError;
use landfall_objects as objects;
use landfall_state::queue::{LimitExceeded, QueueError, policy::PolicyDenial};
use landfall_state::sql::DatabaseError;

/// An error of a direct upload. `api::problem` turns it into an HTTP response.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DirectError {
    /// A field of the request is invalid (400).
    #[error("{message}")]
    Invalid {
        /// The field of the JSON, or the query parameter.
        field: &'static str,
        /// The reason.
        message: String,
    },
    /// The upload does not exist, or belongs to another principal (404).
    #[error("there is no such upload")]
    NotFound,
    /// The object does not exist yet (409): the client may still be sending it.
    #[error("the file has not arrived yet")]
    NotUploaded,
    /// The request conflicts with the state or the transfer mode (409), or the upload is gone
    /// (410).
    #[error("{message}")]
    Conflict {
        /// True if the upload is gone.
        gone: bool,
        /// The reason.
        message: String,
    },
    /// More bytes arrived than were granted; they are removed (413).
    #[error("{stored} bytes exceed the limit of {limit} bytes")]
    TooLarge {
        /// The number of bytes that arrived.
        stored: u64,
        /// The limit.
        limit: u64,
    },
    /// The listed parts differ from those in S3 (400).
    #[error("{0}")]
    InvalidParts(String),
    /// A policy denies the upload.
    #[error("{0}")]
    Policy(#[from] PolicyDenial),
    /// A limit, the rate limit or the quota is exceeded.
    #[error(transparent)]
    LimitExceeded(#[from] LimitExceeded),
    /// A hook denies the upload or failed.
    #[error("{0}")]
    Hook(#[source] Box<HookError>),
    /// The bucket failed or returned an error.
    #[error("the storage: {0}")]
    Storage(#[from] objects::Error),
    /// The bucket is of a cloud that does not have this (501).
    #[error("{0}")]
    Unsupported(String),
    /// The queue failed.
    #[error("the queue: {0}")]
    Queue(#[from] QueueError),
    /// The database failed.
    #[error("the database: {0}")]
    Database(#[from] DatabaseError),
    /// Another request holds the lease of the upload (503): retry soon.
    #[error("this upload is being completed by another request")]
    Locked,
    /// An internal error (500).
    #[error("{0}")]
    Internal(String),
}

impl From<HookError> for DirectError {
    fn from(declined: HookError) -> Self {
        Self::Hook(Box::new(declined))
    }
}

impl DirectError {
    /// Creates an error about an invalid field.
    #[must_use]
    pub fn invalid(field: &'static str, message: impl Into<String>) -> Self {
        Self::Invalid {
            field,
            message: message.into(),
        }
    }

    pub(crate) fn conflict(message: impl Into<String>) -> Self {
        Self::Conflict {
            gone: false,
            message: message.into(),
        }
    }

    pub(crate) fn ended(message: impl Into<String>) -> Self {
        Self::Conflict {
            gone: true,
            message: message.into(),
        }
    }

    pub(crate) fn conflicting_request(what: &str) -> Self {
        let why = format!("another upload was requested with this {what} before");
        Self::conflict(why)
    }

    pub(crate) fn gone() -> Self {
        Self::ended("this upload was cancelled, has failed or expired; create a new one")
    }

    pub(crate) fn interrupted(error: tokio::task::JoinError) -> Self {
        Self::Internal(format!("a task failed: {error}"))
    }
}
