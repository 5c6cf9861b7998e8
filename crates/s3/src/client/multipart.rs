//! The entity tag of an object that was made of parts.

use hex::FromHex;
use md5::{Digest, Md5};

/// Returns true if the object with this entity tag consists of these parts.
///
/// Compares the digest of the parts' digests or, if `leniently`, only the number of parts.
pub(super) fn is_made_of(etag: &str, parts: &[(u32, String)], leniently: bool) -> bool {
    let etag = etag.trim_matches('"');
    let mut md5 = Md5::new();
    let mut all_md5 = true;
    for (_, part) in parts {
        match <[u8; 16]>::from_hex(part.trim_matches('"')) {
            Ok(digest) => md5.update(digest),
            Err(_) => all_md5 = false,
        }
    }
    let suffix = format!("-{}", parts.len());
    (all_md5 && etag == format!("{}{suffix}", hex::encode(md5.finalize())))
        || (leniently && etag.ends_with(&suffix))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(etags: &[&str]) -> Vec<(u32, String)> {
        (1..)
            .zip(etags)
            .map(|(number, etag)| (number, format!("\"{etag}\"")))
            .collect()
    }

    /// The parts are "a" and "b"; the digests are from md5sum.
    #[test]
    fn entity_tag_of_a_multipart_object() {
        let two = parts(&[
            "0cc175b9c0f1b6a831c399e269772661",
            "92eb5ffee6ae2fec3ad71c777531578f",
        ]);
        let real = "\"96e024ba2074fe77e8e965ba43a704be-2\"";
        let not_md5 = "\"of-another-kind-2\"";
        assert!(is_made_of(real, &two, false));
        assert!(!is_made_of(real, &two[..1], true));
        assert!(!is_made_of(not_md5, &two, false));
        assert!(is_made_of(not_md5, &two, true), "the number of parts fits");
        assert!(!is_made_of(
            "\"0cc175b9c0f1b6a831c399e269772661\"",
            &two,
            true
        ));
        let other = parts(&["kms", "é"]);
        assert!(!is_made_of(real, &other, false));
        assert!(is_made_of(real, &other, true));
    }
}
