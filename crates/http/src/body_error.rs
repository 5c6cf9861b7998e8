//! Why a request body ended early.

use std::error::Error;
use std::fmt;

use landfall::service::RequestBodyError;

/// The reason why a request body ended early.
///
/// The data before it is valid, and the service should store it. A response can still be sent, and the
/// connection closes with it. After [`Reset`](Self::Reset) the response may not arrive.
#[derive(Debug)]
#[non_exhaustive]
pub enum BodyError {
    /// No byte arrived within [`ConnectionLimits::body_timeout`](super::ConnectionLimits::body_timeout).
    Timeout,
    /// The body was slower than [`ConnectionLimits::min_rate`](super::ConnectionLimits::min_rate).
    TooSlow,
    /// The client reset the connection or, in HTTP/2 and HTTP/3, the stream.
    Reset,
    /// The client closed its side before the end of the body.
    UnexpectedEnd,
    /// The server is shutting down.
    ShuttingDown,
    /// The framing of the body is invalid: a chunk size, the end of a chunk, or a trailer.
    Malformed(String),
    /// Another error of the connection.
    Connection(Box<dyn Error + Send + Sync>),
}

impl fmt::Display for BodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Timeout => "no byte of the request body came for too long",
            Self::TooSlow => "the request body came too slowly",
            Self::Reset => "the client reset the connection",
            Self::UnexpectedEnd => "the request body ended before it was complete",
            Self::ShuttingDown => "the server is shutting down",
            Self::Malformed(reason) => return write!(f, "the request body is malformed: {reason}"),
            Self::Connection(_) => "the connection failed",
        })
    }
}

/// The handler of uploads finds its own reason among the sources.
impl Error for BodyError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(match self {
            Self::Timeout | Self::TooSlow => &RequestBodyError::Timeout,
            Self::Reset => &RequestBodyError::Reset,
            Self::UnexpectedEnd => &RequestBodyError::UnexpectedEnd,
            Self::ShuttingDown => &RequestBodyError::ShuttingDown,
            Self::Malformed(_) => &RequestBodyError::Malformed,
            Self::Connection(error) => &**error,
        })
    }
}
