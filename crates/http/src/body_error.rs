//! Why a request body ended early.

use std::io;

/// The reason why a request body ended early.
///
/// The data before it is valid, and the service should store it. A response can still be sent, and the
/// connection closes with it. After [`Reset`](Self::Reset) the response may not arrive.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BodyError {
    /// No byte arrived within [`ConnectionLimits::body_timeout`](super::ConnectionLimits::body_timeout).
    #[error("no byte of the request body came for too long")]
    Timeout,
    /// The body was slower than [`ConnectionLimits::min_rate`](super::ConnectionLimits::min_rate).
    #[error("the request body came too slowly")]
    TooSlow,
    /// The client reset the connection or, in HTTP/2 and HTTP/3, the stream.
    #[error("the client reset the connection")]
    Reset,
    /// The client closed its side before the end of the body.
    #[error("the request body ended before it was complete")]
    UnexpectedEnd,
    /// The server is shutting down.
    #[error("the server is shutting down")]
    ShuttingDown,
    /// The framing of the body is invalid: a chunk size, the end of a chunk, or a trailer.
    #[error("the request body is malformed: {0}")]
    Malformed(String),
    /// Another error of the connection.
    #[error("the connection failed")]
    Connection(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl BodyError {
    pub(super) fn from_hyper(error: hyper::Error) -> Self {
        let Some(io) =
            std::error::Error::source(&error).and_then(|s| s.downcast_ref::<io::Error>())
        else {
            return if error.is_incomplete_message() {
                Self::UnexpectedEnd
            } else {
                // The rest are lost connections.
                Self::Reset
            };
        };
        if let Some(reason) = io.get_ref().and_then(|inner| inner.downcast_ref()) {
            return match reason {
                AbortReason::Timeout => Self::Timeout,
                AbortReason::TooSlow => Self::TooSlow,
                AbortReason::ShuttingDown => Self::ShuttingDown,
            };
        }
        match io.kind() {
            io::ErrorKind::UnexpectedEof => Self::UnexpectedEnd,
            io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData => {
                Self::Malformed(io.to_string())
            }
            io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe => Self::Reset,
            _ => Self::Connection(Box::new(error)),
        }
    }
}

/// hyper passes it on, as an I/O error, to the reader of the body.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("stopped by the server")]
pub(super) enum AbortReason {
    Timeout,
    TooSlow,
    ShuttingDown,
}

impl From<AbortReason> for io::Error {
    fn from(reason: AbortReason) -> Self {
        Self::other(reason)
    }
}
