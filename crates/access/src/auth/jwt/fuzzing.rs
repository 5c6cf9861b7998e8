//! Entry points for fuzz targets; not part of the public API.

use super::keys::{KeyOrigin, KeySet};

/// Parses keys from a URL or a file.
///
/// # Errors
/// There is no usable key.
pub fn keys(bytes: &[u8], from_url: bool) -> Result<(), String> {
    let origin = if from_url {
        KeyOrigin::Url
    } else {
        KeyOrigin::File
    };
    KeySet::read(bytes, origin).map(drop)
}
