//! `Content-Digest` (RFC 9530).

use http::{HeaderMap, HeaderName};
use sfv::ListEntry;

use super::field;
use crate::{Algorithm, Checksum, Problem, ProblemKind};

const CONTENT_DIGEST: HeaderName = HeaderName::from_static("content-digest");

/// Returns the digest of the request's content, of the strongest known algorithm. Others are ignored, and
/// so is a malformed field.
pub(super) fn content_digest(headers: &HeaderMap) -> Result<Option<Checksum>, Problem> {
    let Some(dictionary) = field::dictionary(headers, &CONTENT_DIGEST) else {
        return Ok(None);
    };
    for (key, name) in [("sha-512", "sha512"), ("sha-256", "sha256")] {
        let Some(algorithm) = Algorithm::by_name(name) else {
            continue;
        };
        let Some(ListEntry::Item(item)) = dictionary.get(key) else {
            continue;
        };
        let Some(digest) = item.bare_item.as_byte_sequence() else {
            continue;
        };
        if !algorithm.takes_length(digest.len()) {
            return Err(ProblemKind::InvalidDigest.with_detail(format_args!(
                "a digest of {key} cannot have {} bytes",
                digest.len()
            )));
        }
        return Ok(Some(Checksum {
            algorithm,
            digest: digest.to_vec(),
        }));
    }
    Ok(None)
}
