//! What can end an operation early.

use landfall_protocol::{Problem, ProblemKind};

use crate::{
    BoxError,
    hook::{ClientResponse, IdempotencyError},
    lease::LeaseError,
    store::StoreError,
};

/// What can end an operation early. It becomes an HTTP answer in one place, `service::answer`.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// Something that has a line in the protocol's table of errors.
    #[error("{0}")]
    Problem(Problem),
    /// The client's offset is not the upload's.
    #[error("mismatched offset, the upload has {0} bytes")]
    Offset(u64),
    /// A hook said no, or stopped the upload.
    #[error("a hook refused")]
    Refused(ProblemKind, Box<ClientResponse>),
    #[error("store: {0}")]
    Store(#[from] StoreError),
    #[error("lease: {0}")]
    Lease(#[from] LeaseError),
    #[error("hook: {0}")]
    Hook(#[source] BoxError),
    /// A sink can't keep what is going to happen.
    #[error("events: {0}")]
    Sink(#[source] BoxError),
    /// Whether there may be an upload can't be found out.
    #[error("claim: {0}")]
    Claim(#[source] BoxError),
    /// A task of ours died.
    #[error("task: {0}")]
    Task(#[from] tokio::task::JoinError),
}

impl From<Problem> for Error {
    fn from(problem: Problem) -> Self {
        Self::Problem(problem)
    }
}

impl From<IdempotencyError> for Error {
    fn from(error: IdempotencyError) -> Self {
        match error {
            IdempotencyError::Lost(reply) => Self::Refused(ProblemKind::Rejected, reply),
            IdempotencyError::Failed(cause) => Self::Claim(cause),
        }
    }
}

impl From<ProblemKind> for Error {
    fn from(fault: ProblemKind) -> Self {
        Self::Problem(fault.into())
    }
}

impl Error {
    /// The line of the protocol's table that this error belongs to. What the client may not know
    /// (paths, causes) stays out of it.
    pub(crate) fn problem(&self) -> Problem {
        match self {
            Self::Problem(problem) => problem.clone(),
            Self::Offset(_) => ProblemKind::MismatchedOffset.into(),
            Self::Refused(fault, _) => (*fault).into(),
            Self::Store(error) => match error {
                StoreError::NotFound(_) => ProblemKind::NotFound.into(),
                StoreError::AlreadyExists(_) => ProblemKind::AlreadyExists.into(),
                StoreError::InvalidMetadata(reason) => {
                    ProblemKind::InvalidMetadata.with_detail(reason)
                }
                StoreError::Full(_) => ProblemKind::StorageFull.into(),
                StoreError::TooLarge { limit } => ProblemKind::MaxSizeExceeded.with_detail(
                    format_args!("this server stores at most {limit} bytes of it"),
                ),
                // Another writer has the upload: the client asks again, and resumes from where that one got.
                StoreError::LeaseLost(_) => ProblemKind::Locked.into(),
                StoreError::Unavailable { .. } => ProblemKind::Unavailable.into(),
                _ => ProblemKind::Internal.into(),
            },
            Self::Lease(LeaseError::Held) => ProblemKind::Locked.into(),
            Self::Lease(_) | Self::Sink(_) | Self::Claim(_) => ProblemKind::Unavailable.into(),
            Self::Hook(_) | Self::Task(_) => ProblemKind::Internal.into(),
        }
    }

    /// Whether the cause belongs in the log.
    pub(crate) fn is_ours(&self) -> bool {
        match self {
            Self::Problem(problem) => problem.kind == ProblemKind::Internal,
            Self::Offset(_) | Self::Refused(..) => false,
            Self::Store(error) => !matches!(
                error,
                StoreError::NotFound(_)
                    | StoreError::AlreadyExists(_)
                    | StoreError::InvalidMetadata(_)
                    | StoreError::TooLarge { .. }
                    | StoreError::LeaseLost(_)
            ),
            Self::Lease(error) => !matches!(error, LeaseError::Held),
            Self::Hook(_) | Self::Sink(_) | Self::Claim(_) | Self::Task(_) => true,
        }
    }
}
