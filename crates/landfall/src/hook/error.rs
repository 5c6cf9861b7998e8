//! The error of hooks and sinks for operations outside the engine, such as those of direct uploads.
//!
//! Status, headers and message may be sent to the client. The cause must not be.

use http::{HeaderMap, StatusCode};

use crate::BoxError;

/// A denial by a hook, or a failure of a hook or sink.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
#[non_exhaustive]
pub struct HookError {
    /// The status of the response.
    pub status: StatusCode,
    /// Headers for the response: `Retry-After` if a retry may succeed, and those of the hook.
    pub headers: HeaderMap,
    /// The message for the client: the hook's, or a default one.
    pub message: String,
    /// The internal error, if it is not a denial: log it; a retry may succeed.
    #[source]
    pub cause: Option<BoxError>,
}
