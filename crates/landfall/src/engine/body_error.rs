use std::io;

use landfall_protocol::ProblemKind;

/// Why a request's body ended too early.
///
/// An HTTP server that knows the reason puts this into its body's error or its sources. All other
/// errors are classified by the I/O error that caused them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RequestBodyError {
    /// The connection ended before the body did.
    #[error("the connection ended before the body did")]
    UnexpectedEnd,
    /// The peer reset the connection.
    #[error("the peer reset the connection")]
    Reset,
    /// The client sent nothing, or too little, for too long.
    #[error("the client sent nothing, or too little, for too long")]
    Timeout,
    /// The server is shutting down.
    #[error("the server is shutting down")]
    ShuttingDown,
    /// The body was malformed, for example a broken chunk size.
    #[error("the body's framing is broken")]
    Malformed,
}

impl RequestBodyError {
    /// Classifies an error by itself and its sources.
    #[must_use]
    pub fn classify(error: &(dyn std::error::Error + Send + Sync + 'static)) -> Self {
        let mut next: Option<&(dyn std::error::Error + 'static)> = Some(error);
        while let Some(error) = next {
            if let Some(fault) = error.downcast_ref::<Self>() {
                return *fault;
            }
            if let Some(io) = error.downcast_ref::<io::Error>() {
                // An I/O error exposes its inner error by `get_ref`, not by `source`.
                if let Some(fault) = io.get_ref().and_then(|inner| inner.downcast_ref::<Self>()) {
                    return *fault;
                }
                match io.kind() {
                    io::ErrorKind::ConnectionReset
                    | io::ErrorKind::ConnectionAborted
                    | io::ErrorKind::BrokenPipe => return Self::Reset,
                    io::ErrorKind::TimedOut => return Self::Timeout,
                    io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput => {
                        return Self::Malformed;
                    }
                    _ => {}
                }
            }
            next = error.source();
        }
        Self::UnexpectedEnd
    }
}

impl From<RequestBodyError> for ProblemKind {
    fn from(fault: RequestBodyError) -> Self {
        match fault {
            RequestBodyError::UnexpectedEnd | RequestBodyError::Malformed => Self::UnexpectedEof,
            RequestBodyError::Reset => Self::ConnectionReset,
            RequestBodyError::Timeout => Self::ReadTimeout,
            RequestBodyError::ShuttingDown => Self::ShuttingDown,
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
}
