//! Errors of orders and of the certificate store, worded for the operator's log.
//!
//! `problem_text` and `is_problem` read the problem documents of the authority (RFC 8555 section 6.7).
//! `OrderError::is_validation` decides whether another challenge type is worth an attempt.

use instant_acme::{Error as ProtocolError, Problem};
use landfall_state::sql::DatabaseError;

use crate::challenge::ChallengeMethod;

/// An error of the store of accounts and certificates.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    /// A file cannot be read or written.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: std::path::PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// The database failed.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// Nothing is stored under an older lease.
    #[error("another node has a newer lease of the certificates")]
    LeaseLost,
    /// The shared certificate cannot be used.
    #[error("the shared certificate cannot be used: {0}")]
    Certificate(String),
}

/// Why a certificate was not obtained.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OrderError {
    #[error(
        "{} of {name} failed: {reason}; check that the DNS records of {name} lead to this server, and that \
         its port {} can be reached",
        method.name(), method.port()
    )]
    Validation {
        name: String,
        method: ChallengeMethod,
        reason: String,
    },
    #[error("the authority offers no {} for {name}", method.name())]
    NoChallenge {
        name: String,
        method: ChallengeMethod,
    },
    #[error("{0}")]
    Protocol(String),
    #[error("the authority rejected the request: {}", problem_text(.0))]
    Rejected(Problem),
    #[error("the authority did not finish the order in time")]
    Timeout,
    #[error("the certificate of the authority cannot be used: {0}")]
    Certificate(String),
    #[error("cannot store the account or the certificate: {0}")]
    Store(#[from] StoreError),
}

impl OrderError {
    /// Another challenge type may succeed.
    pub(crate) const fn is_validation(&self) -> bool {
        matches!(self, Self::Validation { .. } | Self::NoChallenge { .. })
    }
}

impl From<ProtocolError> for OrderError {
    fn from(error: ProtocolError) -> Self {
        match error {
            ProtocolError::Timeout(_) => Self::Timeout,
            ProtocolError::Api(problem) => Self::Rejected(problem),
            error => Self::Protocol(error.to_string()),
        }
    }
}

/// Details first: they are more useful than the type.
pub(crate) fn problem_text(problem: &Problem) -> String {
    let parts = problem.subproblems.iter().map(ToString::to_string);
    let detail = problem.detail.clone().into_iter().chain(parts);
    let detail = detail.collect::<Vec<_>>().join("; ");
    match &problem.r#type {
        Some(kind) if detail.is_empty() => kind.clone(),
        Some(kind) => format!("{detail} ({kind})"),
        None => detail,
    }
}

/// Returns whether a problem is of this type.
pub(crate) fn is_problem(problem: &Problem, kind: &str) -> bool {
    let found = problem.r#type.as_deref().unwrap_or_default();
    found.strip_prefix("urn:ietf:params:acme:error:") == Some(kind)
}
