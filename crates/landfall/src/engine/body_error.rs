//! Reasons why a request body ended too early, which decide the response of the interrupted request.
//!
//! A typed reason anywhere among the sources of an error takes precedence over the kind of an I/O error. Keeping or
//! discarding the received bytes is not decided here.

use std::io;

use http_body_util::LengthLimitError;
use landfall_protocol::ProblemKind;

/// Why a request's body ended too early.
///
/// An HTTP server or a middleware that knows the reason puts this into its body's error or its sources. The
/// limits of axum and tower-http are recognized ([`LengthLimitError`]). All other errors are classified by
/// the I/O error that caused them; one without is [`Failed`](Self::Failed).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RequestBodyError {
    /// The connection ended before the body did.
    #[error("the connection ended before the body did")]
    UnexpectedEnd,
    /// The peer reset the connection.
    #[error("the peer reset the connection")]
    Reset,
    /// The client sent nothing for too long.
    #[error("the client sent nothing for too long")]
    Timeout,
    /// The client sent too little for too long.
    #[error("the client sent too little for too long")]
    TooSlow,
    /// The server is shutting down.
    #[error("the server is shutting down")]
    ShuttingDown,
    /// The body was malformed, for example a broken chunk size.
    #[error("the body's framing is broken")]
    Malformed,
    /// A middleware limits bodies, and this one is longer. The bytes received before are kept.
    #[error("the body is longer than the server accepts")]
    TooLarge,
    /// The body failed for another reason, such as the time limit of a middleware: the client resumes.
    #[error("the body failed")]
    Failed,
}

impl RequestBodyError {
    /// Classifies an error by itself and its sources.
    #[must_use]
    pub fn classify(error: &(dyn std::error::Error + Send + Sync + 'static)) -> Self {
        let mut next: Option<&(dyn std::error::Error + 'static)> = Some(error);
        let mut by_kind = Self::Failed;
        while let Some(error) = next {
            if let Some(fault) = error.downcast_ref::<Self>() {
                return *fault;
            }
            if error.is::<LengthLimitError>() {
                return Self::TooLarge;
            }
            let Some(io) = error.downcast_ref::<io::Error>() else {
                next = error.source();
                continue;
            };
            if matches!(by_kind, Self::Failed | Self::UnexpectedEnd) {
                by_kind = match io.kind() {
                    io::ErrorKind::ConnectionReset
                    | io::ErrorKind::ConnectionAborted
                    | io::ErrorKind::BrokenPipe => Self::Reset,
                    io::ErrorKind::TimedOut => Self::Timeout,
                    io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput => Self::Malformed,
                    _ => Self::UnexpectedEnd,
                };
            }
            // An I/O error exposes its inner error by `get_ref`, not by `source`.
            next = io.get_ref().map(|inner| inner as _);
        }
        by_kind
    }
}

impl From<RequestBodyError> for ProblemKind {
    fn from(fault: RequestBodyError) -> Self {
        match fault {
            RequestBodyError::UnexpectedEnd | RequestBodyError::Malformed => Self::UnexpectedEof,
            RequestBodyError::Reset => Self::ConnectionReset,
            RequestBodyError::Timeout | RequestBodyError::TooSlow => Self::ReadTimeout,
            RequestBodyError::ShuttingDown => Self::ShuttingDown,
            RequestBodyError::TooLarge => Self::AppendTooLarge,
            RequestBodyError::Failed => Self::Unavailable,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_cause_wherever_it_hides() {
        let wrapped = io::Error::other(RequestBodyError::ShuttingDown);
        assert_eq!(
            RequestBodyError::classify(&wrapped),
            RequestBodyError::ShuttingDown
        );
        let reset = io::Error::from(io::ErrorKind::ConnectionReset);
        assert_eq!(RequestBodyError::classify(&reset), RequestBodyError::Reset);
        let other = io::Error::other("x");
        assert_eq!(
            RequestBodyError::classify(&other),
            RequestBodyError::UnexpectedEnd
        );
    }

    #[test]
    fn errors_of_middlewares_are_no_ends_of_connections() {
        #[derive(Debug, thiserror::Error)]
        #[error("it took too long")]
        struct TooLong;

        let failed = RequestBodyError::classify(&TooLong);
        assert_eq!(failed, RequestBodyError::Failed);
        assert_eq!(ProblemKind::from(failed).describe().0, 503);
        let inner = io::Error::new(io::ErrorKind::BrokenPipe, TooLong);
        assert_eq!(RequestBodyError::classify(&inner), RequestBodyError::Reset);
    }
}
