use landfall_protocol::{Problem, ProblemKind};

use crate::{
    BoxError,
    error::HandlerError,
    hook::{ClientResponse, IdempotencyError},
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
            _ => None,
        }
    }

    /// Returns whether the failed request has removed its upload.
    pub(crate) fn has_removed(&self) -> bool {
        match self {
            Self::BeyondLength { is_removed, .. } => *is_removed,
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
            Self::Hook(_)
            | Self::Undecided(_)
            | Self::Sink(_)
            | Self::Idempotency(_)
            | Self::Task(_) => true,
        }
    }
}
