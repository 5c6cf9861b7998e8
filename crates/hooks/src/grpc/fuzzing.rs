//! What the fuzz targets reach; not part of the interface.

use landfall::BoxError;
use prost::Message as _;

use super::{generated::HookResponse, translate};
use crate::Reaction;

/// Reads a `HookResponse`.
///
/// # Errors
/// It is none, or asks for what cannot be done.
pub fn reaction(bytes: &[u8]) -> Result<Reaction, BoxError> {
    Ok(translate::reaction(HookResponse::decode(bytes)?)?)
}
