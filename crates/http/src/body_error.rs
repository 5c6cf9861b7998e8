//! Why a request body ended early.

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
