//! Entry points for fuzz targets; not part of the public API.

use bytes::Bytes;
use http::{HeaderValue, Response};
use landfall_queue::Principal;

use super::forward_auth::{ForwardAuthResponse, read};
pub use super::jwt::fuzzing::keys;

/// The parsed forward-auth response.
#[derive(Debug)]
pub enum Verdict {
    /// The user is authenticated.
    Known(Principal),
    /// The user is unknown, with the challenge.
    Unknown(HeaderValue),
    /// Access is denied, with a reason.
    Forbidden(String),
}

/// Parses a forward-auth response.
///
/// # Errors
/// The response is invalid.
pub fn application(response: &Response<Bytes>) -> Result<Verdict, String> {
    Ok(match read(response)? {
        ForwardAuthResponse::Known(principal) => Verdict::Known(principal),
        ForwardAuthResponse::Unknown(challenge) => Verdict::Unknown(challenge),
        ForwardAuthResponse::Forbidden(reason) => Verdict::Forbidden(reason),
    })
}
