//! What can go wrong.

use landfall::direct::HookError;
use landfall_database::DatabaseError;
use landfall_grants::{
    policy::No,
    queue::{QueueError, Refusal},
};
use landfall_s3::client;

/// Why something isn't done. It becomes an HTTP answer in one place, `api::problem`.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DirectError {
    /// Something of the request makes no sense (400).
    #[error("{message}")]
    Bad {
        /// What: a field of the JSON, or a parameter.
        field: &'static str,
        /// Why, for people.
        message: String,
    },
    /// There is no such upload, or it isn't this caller's: nobody is to tell these apart (404).
    #[error("there is no such upload")]
    NotFound,
    /// The object isn't there yet (409): its client may still be sending it.
    #[error("the file has not arrived yet")]
    NotYet,
    /// The upload has ended otherwise, or what is asked for doesn't fit how it is made (409, or 410 if
    /// it is gone).
    #[error("{message}")]
    Conflict {
        /// Whether it is gone.
        gone: bool,
        /// Why, for people.
        message: String,
    },
    /// More bytes arrived than were granted; they are removed (413).
    #[error("{stored} bytes are too many; at most {most} may be uploaded")]
    TooLarge {
        /// How many arrived.
        stored: u64,
        /// How many may.
        most: u64,
    },
    /// The parts that are to make up the file aren't those that S3 has (400).
    #[error("{0}")]
    Parts(String),
    /// A policy doesn't agree.
    #[error("{0}")]
    Policy(#[from] No),
    /// Not now: too many, too often, too much.
    #[error("too much is under way")]
    Refused(Refusal),
    /// A hook refused, or can't be asked.
    #[error("{0}")]
    Declined(#[source] Box<HookError>),
    /// S3 failed or refused.
    #[error("S3: {0}")]
    S3(#[from] client::Error),
    /// The queue failed.
    #[error("the queue: {0}")]
    Queue(#[from] QueueError),
    /// The books failed.
    #[error("the books: {0}")]
    Database(#[from] DatabaseError),
    /// Somebody else is at it: in a moment again (503).
    #[error("somebody else is completing this upload")]
    Busy,
    /// Something of ours isn't as it should be (500).
    #[error("{0}")]
    Fault(String),
}

impl From<HookError> for DirectError {
    fn from(declined: HookError) -> Self {
        Self::Declined(Box::new(declined))
    }
}

impl DirectError {
    /// Something of the request makes no sense.
    #[must_use]
    pub fn bad(field: &'static str, message: impl Into<String>) -> Self {
        Self::Bad {
            field,
            message: message.into(),
        }
    }

    /// Something else was asked for with the same key, id or token.
    pub(crate) fn other_words(what: &str) -> Self {
        Self::Conflict {
            gone: false,
            message: format!("something else was asked for with this {what}"),
        }
    }

    /// The upload has ended, and not well.
    pub(crate) fn gone() -> Self {
        Self::Conflict {
            gone: true,
            message: "this upload was cancelled, or failed, or its time was over: begin it anew"
                .into(),
        }
    }

    /// A task of ours died.
    pub(crate) fn broken_off(error: tokio::task::JoinError) -> Self {
        Self::Fault(format!("a task broke off: {error}"))
    }
}
