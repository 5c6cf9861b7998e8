//! The error of all operations: its problem for clients, its form for hooks, and whether it is logged.
//!
//! A [`Problem`] must contain no path and no internal cause. `is_ours` selects the errors of the server, which are
//! logged.

use std::sync::Arc;

use http::{HeaderMap, StatusCode, header};
use landfall_protocol::{Operation, Problem, ProblemKind};

use crate::{
    BoxError,
    error::HandlerError,
    hook::{ClientResponse, HookError, IdempotencyError},
    lease::LeaseError,
    store::StoreError,
};

#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(transparent)]
    Problem(#[from] Problem),
    #[error("mismatched offset, the upload has {0} bytes")]
    Offset(u64),
    #[error("the content continues after the {length} bytes of the upload")]
    BeyondLength {
        length: u64,
        /// Nothing of the upload is left; otherwise the request has changed nothing.
        is_removed: bool,
    },
    #[error("denied by a hook")]
    Rejected(ProblemKind, Box<ClientResponse>),
    #[error("store: {0}")]
    Store(#[from] StoreError),
    #[error("lease: {0}")]
    Lease(#[from] LeaseError),
    #[error("hook: {0}")]
    Hook(#[source] BoxError),
    /// All bytes are stored, and a hook has not decided on the completion.
    #[error("hook: {0}")]
    Undecided(#[source] BoxError),
    #[error("events: {0}")]
    Sink(#[source] BoxError),
    #[error("idempotency key: {0}")]
    Idempotency(#[source] BoxError),
    #[error("task: {0}")]
    Task(#[from] tokio::task::JoinError),
    /// Of a completion that several requests wait for.
    #[error("{error}")]
    Shared {
        error: Arc<Self>,
        /// The request that began it logs it.
        is_first: bool,
    },
}

impl From<Error> for HandlerError {
    fn from(error: Error) -> Self {
        match error {
            Error::Store(error) => Self::Store(error),
            Error::Lease(error) => Self::Lease(error),
            error => Self::Other(error.into()),
        }
    }
}

impl From<Error> for HookError {
    fn from(error: Error) -> Self {
        let problem = error.problem();
        let denied = error.hook_response();
        let chosen = denied.and_then(|reply| Some(reply.status?.as_u16()));
        let operation = Some(Operation::Create);
        let (status, retry_after) = problem.kind.response_status(operation, chosen);
        let mut hook_error = Self {
            status: StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
            headers: HeaderMap::new(),
            message: problem.to_string().trim().to_owned(),
            cause: None,
        };
        if let Some(seconds) = retry_after {
            let headers = &mut hook_error.headers;
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        if let Some(reply) = denied {
            hook_error.headers.extend(reply.headers.clone());
            if let Some(body) = &reply.body {
                hook_error.message = String::from_utf8_lossy(body).trim().to_owned();
            }
        }
        let has_no_answer = denied.is_some() && problem.kind == ProblemKind::Internal;
        if error.is_ours() || has_no_answer {
            hook_error.cause = Some(error.into());
        }
        hook_error
    }
}

impl From<IdempotencyError> for Error {
    fn from(error: IdempotencyError) -> Self {
        match error {
            IdempotencyError::Lost(reply) => Self::Rejected(ProblemKind::Rejected, reply),
            IdempotencyError::Failed(cause) => Self::Idempotency(cause),
        }
    }
}

impl From<ProblemKind> for Error {
    fn from(fault: ProblemKind) -> Self {
        Self::Problem(fault.into())
    }
}

impl Error {
    /// Content after the length of an upload, or after its maximum if the length is unknown.
    pub(super) fn beyond_length(length: Option<u64>, is_removed: bool) -> Self {
        match length {
            Some(length) => Self::BeyondLength { length, is_removed },
            None => ProblemKind::SizeExceeded.into(),
        }
    }

    /// Omits paths and causes, which clients must not see.
    pub(crate) fn problem(&self) -> Problem {
        match self {
            Self::Shared { error, .. } => error.problem(),
            Self::Problem(problem) => problem.clone(),
            Self::Offset(_) => ProblemKind::MismatchedOffset.into(),
            Self::BeyondLength { .. } => ProblemKind::SizeExceeded.into(),
            Self::Rejected(fault, _) => (*fault).into(),
            Self::Store(error) => match error {
                StoreError::NotFound(_) => ProblemKind::NotFound.into(),
                StoreError::Gone(_) => {
                    ProblemKind::Gone.with_detail("the storage no longer has its bytes")
                }
                StoreError::AlreadyExists(_) => ProblemKind::AlreadyExists.into(),
                StoreError::InvalidMetadata(reason) => {
                    ProblemKind::InvalidMetadata.with_detail(reason)
                }
                StoreError::Full(_) => ProblemKind::StorageFull.into(),
                StoreError::TooLarge { limit } => ProblemKind::MaxSizeExceeded.with_detail(
                    format_args!("this server stores at most {limit} bytes of it"),
                ),
                // Another writer has the upload: the client resumes at that writer's offset.
                StoreError::LeaseLost(_) => ProblemKind::Locked.into(),
                StoreError::Unavailable { .. } => ProblemKind::Unavailable.into(),
                StoreError::Refused { reason, .. } => {
                    ProblemKind::StorageRefused.with_detail(reason)
                }
                StoreError::Damaged { .. } => ProblemKind::Damaged.into(),
                _ => ProblemKind::Internal.into(),
            },
            Self::Lease(LeaseError::Locked) => ProblemKind::Locked.into(),
            Self::Lease(LeaseError::Unavailable(cause))
                if matches!(cause.downcast_ref(), Some(StoreError::Full(_))) =>
            {
                ProblemKind::StorageFull.into()
            }
            Self::Lease(_) | Self::Sink(_) | Self::Idempotency(_) => {
                ProblemKind::Unavailable.into()
            }
            Self::Undecided(_) => ProblemKind::CompletionPending.into(),
            Self::Hook(_) | Self::Task(_) => ProblemKind::Internal.into(),
        }
    }

    /// The response of the hook that denied the request, or failed.
    pub(crate) fn hook_response(&self) -> Option<&ClientResponse> {
        match self {
            Self::Rejected(_, response) => Some(response),
            Self::Shared { error, .. } => error.hook_response(),
            _ => None,
        }
    }

    /// Returns whether the failed request has removed its upload.
    pub(crate) fn has_removed(&self) -> bool {
        match self {
            Self::BeyondLength { is_removed, .. } => *is_removed,
            Self::Shared { error, .. } => error.has_removed(),
            error => matches!(
                error.problem().kind,
                ProblemKind::Rejected | ProblemKind::Stopped | ProblemKind::DigestMismatch
            ),
        }
    }

    pub(crate) fn is_ours(&self) -> bool {
        match self {
            Self::Problem(problem) => problem.kind == ProblemKind::Internal,
            Self::Offset(_) | Self::BeyondLength { .. } | Self::Rejected(..) => false,
            Self::Store(error) => !matches!(
                error,
                StoreError::NotFound(_)
                    | StoreError::Gone(_)
                    | StoreError::AlreadyExists(_)
                    | StoreError::InvalidMetadata(_)
                    | StoreError::TooLarge { .. }
                    | StoreError::LeaseLost(_)
            ),
            Self::Lease(error) => !matches!(error, LeaseError::Locked),
            Self::Shared { error, is_first } => *is_first && error.is_ours(),
            Self::Hook(_)
            | Self::Undecided(_)
            | Self::Sink(_)
            | Self::Idempotency(_)
            | Self::Task(_) => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_pass_has_retry_after_and_a_denial_has_the_words_of_the_hook() {
        let rejected = |kind, status, text: &'static str| {
            Error::Rejected(kind, Box::new(ClientResponse::text(status, text)))
        };
        for (error, status, message, retry_after, has_cause) in [
            (
                rejected(ProblemKind::Rejected, 403, "no\n"),
                403,
                "no",
                None,
                false,
            ),
            (
                rejected(ProblemKind::Rejected, 503, "never"),
                503,
                "never",
                None,
                false,
            ),
            (
                rejected(ProblemKind::Forbidden, 429, "slow"),
                429,
                "slow",
                Some("5"),
                false,
            ),
            (
                rejected(ProblemKind::Internal, 502, "bad"),
                502,
                "bad",
                Some("5"),
                true,
            ),
            (
                Error::Hook("away".into()),
                500,
                "ERR_INTERNAL_SERVER_ERROR: internal server error",
                Some("5"),
                true,
            ),
            (
                LeaseError::Unavailable(StoreError::Full("no inodes".into()).into()).into(),
                507,
                "ERR_STORAGE_FULL: no space is left for this upload, try again later",
                Some("60"),
                true,
            ),
            (
                ProblemKind::MaxSizeExceeded.into(),
                413,
                "ERR_MAX_SIZE_EXCEEDED: maximum size exceeded",
                None,
                false,
            ),
        ] {
            let error = HookError::from(error);
            assert_eq!((error.status.as_u16(), &*error.message), (status, message));
            let wait = error.headers.get(header::RETRY_AFTER);
            assert_eq!(
                wait.and_then(|wait| wait.to_str().ok()),
                retry_after,
                "{message}"
            );
            assert_eq!(error.cause.is_some(), has_cause, "{message}");
        }
    }
}
