//! What the fuzz targets reach; not part of the interface.

use bytes::Bytes;
use http::{HeaderValue, Response};

pub use super::jwt::fuzzing::keys;
use super::{
    Principal,
    forward_auth::{ForwardAuthResponse, read},
};

/// What the application says of who asks.
#[derive(Debug)]
pub enum Verdict {
    /// It knows them.
    Known(Principal),
    /// It does not, and this is the challenge.
    Unknown(HeaderValue),
    /// It knows them, and they may not, for this reason.
    Forbidden(String),
}

/// Reads an application's response.
///
/// # Errors
/// It says nothing of who asks.
pub fn application(response: &Response<Bytes>) -> Result<Verdict, String> {
    Ok(match read(response)? {
        ForwardAuthResponse::Known(principal) => Verdict::Known(principal),
        ForwardAuthResponse::Unknown(challenge) => Verdict::Unknown(challenge),
        ForwardAuthResponse::Forbidden(reason) => Verdict::Forbidden(reason),
    })
}
