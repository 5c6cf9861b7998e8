//! Entry points of the fuzz targets; not part of the API.

use crate::HookResponse;
use landfall::BoxError;
use prost::Message as _;

use super::{generated as proto, translate};

/// Parses a `HookResponse`.
///
/// # Errors
/// The bytes are invalid, or the response is.
pub fn response(bytes: &[u8]) -> Result<HookResponse, BoxError> {
    Ok(translate::response(proto::HookResponse::decode(bytes)?)?)
}
