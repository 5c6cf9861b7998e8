//! What the fuzz targets reach; not part of the interface.

use super::keys::{KeyOrigin, KeySet};

/// Reads keys as they come from a URL, or from a file.
///
/// # Errors
/// There is none that can check signatures.
pub fn keys(bytes: &[u8], from_url: bool) -> Result<(), String> {
    let origin = if from_url {
        KeyOrigin::Url
    } else {
        KeyOrigin::File
    };
    KeySet::read(bytes, origin).map(drop)
}
