//! Entry points for fuzz targets; not part of the public API.

use super::keys::{KeyOrigin, KeySet};

/// Parses keys from a URL or a file.
///
/// # Errors
/// There is no usable key.
pub fn keys(bytes: &[u8], from_url: bool) -> Result<(), String> {
    let origins = [KeyOrigin::File, KeyOrigin::Url];
    KeySet::read(bytes, origins[usize::from(from_url)]).map(drop)
}
