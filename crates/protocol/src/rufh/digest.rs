//! `Content-Digest`, `Repr-Digest` and the fields that ask for them (RFC 9530).

use http::{HeaderMap, HeaderName, HeaderValue};
use sfv::ListEntry;

use super::field;
use crate::{
    Algorithm, Checksum, Problem, ProblemKind,
    headers::{CONTENT_DIGEST, REPR_DIGEST, WANT_REPR_DIGEST},
};

/// The algorithms and their names in [`Algorithm`], the strongest first.
const ALGORITHMS: [(&str, &str); 2] = [("sha-512", "sha512"), ("sha-256", "sha256")];

/// The value of `Want-Content-Digest` and `Want-Repr-Digest` in a response: the algorithms that the server
/// verifies. `None` if it was built without them.
#[must_use]
pub fn wanted_digests() -> Option<HeaderValue> {
    Algorithm::by_name("sha256").map(|_| HeaderValue::from_static("sha-256=10, sha-512=9"))
}

/// Returns the digest of the request's content.
pub(super) fn content_digest(headers: &HeaderMap) -> Result<Option<Checksum>, Problem> {
    digest(headers, &CONTENT_DIGEST)
}

/// Returns the digest of the whole upload.
pub(super) fn repr_digest(headers: &HeaderMap) -> Result<Option<Box<Checksum>>, Problem> {
    Ok(digest(headers, &REPR_DIGEST)?.map(Box::new))
}

/// Returns the value of `Repr-Digest` if the request's `Want-Repr-Digest` accepts the algorithm of this
/// digest.
#[must_use]
pub fn wanted_repr_digest(headers: &HeaderMap, digest: &Checksum) -> Option<HeaderValue> {
    let wanted = field::dictionary(headers, &WANT_REPR_DIGEST)?;
    let (key, _) = ALGORITHMS
        .into_iter()
        .find(|(_, name)| *name == digest.algorithm.name())?;
    let ListEntry::Item(preference) = wanted.get(key)? else {
        return None;
    };
    let is_acceptable = i64::from(preference.bare_item.as_integer()?) > 0;
    let value = is_acceptable.then(|| field::write_bytes(key, &digest.digest));
    HeaderValue::try_from(value?).ok()
}

/// Returns the digest of the strongest known algorithm. Others are ignored, and so is a malformed field.
fn digest(headers: &HeaderMap, name: &HeaderName) -> Result<Option<Checksum>, Problem> {
    let Some(dictionary) = field::dictionary(headers, name) else {
        return Ok(None);
    };
    for (key, name) in ALGORITHMS {
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

#[cfg(all(test, feature = "checksums"))]
mod tests {
    use super::*;

    #[test]
    fn a_known_digest_is_returned_if_its_algorithm_is_acceptable() {
        let text = "sha-256=:LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=:";
        let mut headers = HeaderMap::new();
        headers.insert(REPR_DIGEST, HeaderValue::from_static(text));
        let digest = repr_digest(&headers).unwrap().unwrap();
        for (wanted, is_sent) in [
            ("sha-256=1", true),
            ("sha-512=10, sha-256=2;x", true),
            ("sha-256=0", false),
            ("sha-512=3", false),
            ("sha-256", false),
            ("(", false),
        ] {
            headers.insert(WANT_REPR_DIGEST, HeaderValue::from_static(wanted));
            let field = wanted_repr_digest(&headers, &digest);
            assert_eq!(field.is_some(), is_sent, "{wanted}");
            assert!(field.is_none_or(|field| field == text));
        }
    }
}
