//! `Upload-Checksum` (tus 1.0.0, Checksum and Checksum Trailer).

mod algorithm;
#[cfg(feature = "checksums")]
mod optional;

use std::fmt;

use base64::{Engine, engine::general_purpose::STANDARD};

pub use self::algorithm::{Algorithm, Hasher};

/// A checksum of the body of one request (`tus/checksum/is-of-one-request`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checksum {
    /// The algorithm.
    pub algorithm: Algorithm,
    /// The raw digest.
    pub digest: Vec<u8>,
}

/// A reason why an `Upload-Checksum` is rejected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidChecksum {
    /// Not a name, one space and Base64.
    #[error("the value must be an algorithm, one space and the digest in Base64")]
    Syntax,
    /// An unsupported algorithm.
    #[error("the algorithm {0:?} is not one of {list}", list = Algorithm::LIST)]
    Algorithm(String),
    /// The digest is written in hexadecimal, with or without Base64 around it.
    #[error(
        "the digest of {algorithm} is in hexadecimal; send the Base64 of its {bytes} bytes instead"
    )]
    Hexadecimal {
        /// The algorithm.
        algorithm: Algorithm,
        /// The number of bytes of the digest.
        bytes: usize,
    },
    /// The digest has the wrong number of bytes for its algorithm.
    #[error("a digest of {algorithm} cannot have {bytes} bytes")]
    Length {
        /// The algorithm.
        algorithm: Algorithm,
        /// The number of decoded bytes.
        bytes: usize,
    },
}

impl Checksum {
    /// Parses the value of `Upload-Checksum` (`tus/checksum/without-a-digest-is-rejected`).
    ///
    /// # Errors
    /// [`InvalidChecksum`].
    pub fn parse(value: &str) -> Result<Self, InvalidChecksum> {
        let (name, digest) = value.split_once(' ').ok_or(InvalidChecksum::Syntax)?;
        if name.is_empty() {
            return Err(InvalidChecksum::Syntax);
        }
        let algorithm =
            Algorithm::by_name(name).ok_or_else(|| InvalidChecksum::Algorithm(name.into()))?;
        let text = digest.as_bytes();
        let digest = STANDARD
            .decode(digest)
            .map_err(|_| InvalidChecksum::Syntax)?;
        if algorithm.takes_length(digest.len()) {
            return Ok(Self { algorithm, digest });
        }
        // Several clients do this, and their users would look for damage of the file.
        let is_hexadecimal = |text: &[u8]| {
            algorithm.takes_length(text.len() / 2) && text.iter().all(u8::is_ascii_hexdigit)
        };
        let bytes = digest.len();
        let hexadecimal = [&digest, text]
            .into_iter()
            .find(|text| is_hexadecimal(text));
        Err(match hexadecimal {
            Some(text) => InvalidChecksum::Hexadecimal {
                algorithm,
                bytes: text.len() / 2,
            },
            None => InvalidChecksum::Length { algorithm, bytes },
        })
    }
}

impl fmt::Display for Checksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.algorithm, STANDARD.encode(&self.digest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_and_prints() {
        let value = "sha1 Kq5sNclPz7QV2+lfQIuc6R7oRu0=";
        assert_eq!(Checksum::parse(value).unwrap().to_string(), value);
    }

    #[test]
    fn rejects_malformed_checksums() {
        for bad in [
            "",
            "sha1",
            " Kq5s",
            "sha1  Kq5sNclPz7QV2+lfQIuc6R7oRu0=",
            "sha1 ???",
        ] {
            assert_eq!(
                Checksum::parse(bad),
                Err(InvalidChecksum::Syntax),
                "{bad:?}"
            );
        }
        assert!(matches!(
            Checksum::parse("SHA1 AAAA"),
            Err(InvalidChecksum::Algorithm(_))
        ));
        assert!(matches!(
            Checksum::parse("sha1 AAAA"),
            Err(InvalidChecksum::Length { .. })
        ));
    }

    #[test]
    fn a_hexadecimal_digest_is_named_as_such() {
        let hexadecimal = "2aae6c35c94fcfb415dbe95f408b9ce91ee846ed";
        for sent in [STANDARD.encode(hexadecimal), hexadecimal.to_uppercase()] {
            let error = Checksum::parse(&format!("sha1 {sent}")).unwrap_err();
            let text =
                "the digest of sha1 is in hexadecimal; send the Base64 of its 20 bytes instead";
            assert_eq!(error.to_string(), text);
        }
    }
}
