//! `Upload-Checksum` (tus 1.0.0, Checksum and Checksum Trailer).

use std::fmt;

use base64::{Engine, engine::general_purpose::STANDARD};

/// A checksum algorithm. Names are lower case and case-sensitive (E-29).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// SHA-1, mandatory for servers with checksums (T-SUM-8).
    Sha1,
    /// MD5.
    Md5,
    /// SHA-256.
    Sha256,
    /// SHA-512.
    Sha512,
    /// CRC-32 (ISO-HDLC, as in zip and gzip), 4 bytes, most significant first.
    Crc32,
    /// CRC-32C (Castagnoli), 4 bytes, most significant first.
    Crc32c,
    /// BLAKE3, 32 bytes.
    Blake3,
    /// XXH3, 64 bits (8 bytes) or 128 bits (16 bytes), most significant first.
    Xxh3,
}

impl Algorithm {
    /// All algorithms, in the order in which they are advertised.
    pub const ALL: [Self; 8] = [
        Self::Sha1,
        Self::Md5,
        Self::Sha256,
        Self::Sha512,
        Self::Crc32,
        Self::Crc32c,
        Self::Blake3,
        Self::Xxh3,
    ];

    /// The value of `Tus-Checksum-Algorithm`: the names of [`Algorithm::ALL`].
    pub const LIST: &'static str = "sha1,md5,sha256,sha512,crc32,crc32c,blake3,xxh3";

    /// Returns the name in `Upload-Checksum`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sha1 => "sha1",
            Self::Md5 => "md5",
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
            Self::Crc32 => "crc32",
            Self::Crc32c => "crc32c",
            Self::Blake3 => "blake3",
            Self::Xxh3 => "xxh3",
        }
    }

    /// Returns the algorithm with that name.
    #[must_use]
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|algorithm| algorithm.name() == name)
    }

    /// Returns whether a digest may have this many bytes.
    #[must_use]
    pub const fn takes_length(self, bytes: usize) -> bool {
        match self {
            Self::Sha1 => bytes == 20,
            Self::Md5 => bytes == 16,
            Self::Sha256 | Self::Blake3 => bytes == 32,
            Self::Sha512 => bytes == 64,
            Self::Crc32 | Self::Crc32c => bytes == 4,
            Self::Xxh3 => bytes == 8 || bytes == 16,
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A checksum of the body of one request (T-SUM-12).
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
    /// Parses the value of `Upload-Checksum` (T-SUM-11, E-25).
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
        let digest = STANDARD
            .decode(digest)
            .map_err(|_| InvalidChecksum::Syntax)?;
        if !algorithm.takes_length(digest.len()) {
            return Err(InvalidChecksum::Length {
                algorithm,
                bytes: digest.len(),
            });
        }
        Ok(Self { algorithm, digest })
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
    fn list_and_names_agree() {
        let names: Vec<_> = Algorithm::ALL.iter().map(|a| a.name()).collect();
        assert_eq!(names.join(","), Algorithm::LIST);
    }

    #[test]
    fn parses_and_prints() {
        let value = "sha1 Kq5sNclPz7QV2+lfQIuc6R7oRu0=";
        assert_eq!(Checksum::parse(value).unwrap().to_string(), value);
        assert_eq!(Checksum::parse("crc32 AAAAAA==").unwrap().digest, [0; 4]);
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
            Checksum::parse("md5 AAAA"),
            Err(InvalidChecksum::Length { .. })
        ));
    }
}
