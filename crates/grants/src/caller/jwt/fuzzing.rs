//! What the fuzz targets reach; not part of the interface.

use super::keys::{Keys, Origin};

/// Reads keys as they come from a URL, or from a file.
///
/// # Errors
/// There is none that can check signatures.
pub fn keys(bytes: &[u8], from_url: bool) -> Result<(), String> {
    let origin = if from_url { Origin::Url } else { Origin::File };
    Keys::read(bytes, origin).map(drop)
}
