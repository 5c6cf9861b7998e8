//! What the fuzz targets reach; not part of the interface.

use bytes::Bytes;
use http::{HeaderValue, Response};

pub use super::jwt::fuzzing::keys;
use super::{
    Caller,
    application::{Answer, read},
};

/// What the application says of who asks.
#[derive(Debug)]
pub enum Verdict {
    /// It knows them.
    Known(Caller),
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
        Answer::Known(caller) => Verdict::Known(caller),
        Answer::Unknown(challenge) => Verdict::Unknown(challenge),
        Answer::Forbidden(reason) => Verdict::Forbidden(reason),
    })
}
