//! Incremental checksums.
//!
//! All implementations detect the CPU's instructions at run time (SHA, CRC32, PCLMULQDQ,
//! AVX2/AVX-512), so there is nothing to configure.

use landfall_protocol::{Algorithm, Checksum, ChecksumPlacement};
use sha1::Digest;

/// An incremental checksum.
#[derive(Debug, Clone)]
pub struct Hasher(State);

#[derive(Clone)]
enum State {
    Sha1(sha1::Sha1),
    Md5(md5::Md5),
    Sha256(sha2::Sha256),
    Sha512(Box<sha2::Sha512>),
    Crc(crc_fast::Digest),
    Blake3(Box<blake3::Hasher>),
    Xxh3(Box<xxhash_rust::xxh3::Xxh3>),
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("…")
    }
}

impl Hasher {
    /// Creates the checksum of no bytes.
    #[must_use]
    pub fn new(algorithm: Algorithm) -> Self {
        use crc_fast::CrcAlgorithm::{Crc32Iscsi, Crc32IsoHdlc};
        Self(match algorithm {
            Algorithm::Sha1 => State::Sha1(sha1::Sha1::new()),
            Algorithm::Md5 => State::Md5(md5::Md5::new()),
            Algorithm::Sha256 => State::Sha256(sha2::Sha256::new()),
            Algorithm::Sha512 => State::Sha512(Box::default()),
            Algorithm::Crc32 => State::Crc(crc_fast::Digest::new(Crc32IsoHdlc)),
            Algorithm::Crc32c => State::Crc(crc_fast::Digest::new(Crc32Iscsi)),
            Algorithm::Blake3 => State::Blake3(Box::default()),
            Algorithm::Xxh3 => State::Xxh3(Box::default()),
        })
    }

    /// Adds bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        match &mut self.0 {
            State::Sha1(h) => h.update(bytes),
            State::Md5(h) => h.update(bytes),
            State::Sha256(h) => h.update(bytes),
            State::Sha512(h) => h.update(bytes),
            State::Crc(h) => h.update(bytes),
            State::Blake3(h) => {
                h.update(bytes);
            }
            State::Xxh3(h) => h.update(bytes),
        }
    }

    /// Returns the digest, most significant byte first. `bytes` selects the length of XXH3; other
    /// algorithms ignore it.
    #[must_use]
    pub fn digest(self, bytes: usize) -> Vec<u8> {
        match self.0 {
            State::Sha1(h) => h.finalize().to_vec(),
            State::Md5(h) => h.finalize().to_vec(),
            State::Sha256(h) => h.finalize().to_vec(),
            State::Sha512(h) => h.finalize().to_vec(),
            State::Crc(h) => h.finalize().to_be_bytes()[4..].to_vec(),
            State::Blake3(h) => h.finalize().as_bytes().to_vec(),
            State::Xxh3(h) if bytes == 16 => h.digest128().to_be_bytes().to_vec(),
            State::Xxh3(h) => h.digest().to_be_bytes().to_vec(),
        }
    }
}

#[derive(Debug)]
pub(crate) struct Verifier(Vec<(Algorithm, Hasher)>);

impl Verifier {
    pub(crate) fn new(announced: &ChecksumPlacement) -> Self {
        let hasher = |algorithm| (algorithm, Hasher::new(algorithm));
        Self(match announced {
            ChecksumPlacement::None => Vec::new(),
            ChecksumPlacement::Header(checksum) => vec![hasher(checksum.algorithm)],
            // The algorithm of a trailer is known only at the end.
            ChecksumPlacement::Trailer => Algorithm::ALL.map(hasher).into(),
        })
    }

    pub(crate) fn is_on(&self) -> bool {
        !self.0.is_empty()
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        for (_, hasher) in &mut self.0 {
            hasher.update(bytes);
        }
    }

    pub(crate) fn matches(self, stated: &Checksum) -> bool {
        let mut hashers = self.0.into_iter();
        let found = hashers.find(|(algorithm, _)| *algorithm == stated.algorithm);
        found.is_some_and(|(_, hasher)| hasher.digest(stated.digest.len()) == stated.digest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Digests of "123456789", from the test vectors of the algorithms.
    const VECTORS: &[(&str, &str)] = &[
        ("sha1", "f7c3bc1d808e04732adf679965ccc34ca7ae3441"),
        ("md5", "25f9e794323b453885f5181f1b624d0b"),
        (
            "sha256",
            "15e2b0d3c33891ebb0f1ef609ec419420c20e320ce94c65fbc8c3312448eb225",
        ),
        (
            "sha512",
            "d9e6762dd1c8eaf6d61b3c6192fc408d4d6d5f1176d0c29169bc24e71c3f274a\
             d27fcd5811b313d681f7e55ec02d73d499c95455b6b5bb503acf574fba8ffe85",
        ),
        ("crc32", "cbf43926"),
        ("crc32c", "e3069283"),
        (
            "blake3",
            "b7d65b48420d1033cb2595293263b6f72eabee20d55e699d0df1973b3c9deed1",
        ),
    ];

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|b| format!("{b:02x}")).collect()
    }

    #[test]
    fn known_digests_in_any_pieces() {
        for (name, digest) in VECTORS {
            let algorithm = Algorithm::by_name(name).unwrap();
            for piece in [1, 2, 9] {
                let mut hasher = Hasher::new(algorithm);
                b"123456789".chunks(piece).for_each(|c| hasher.update(c));
                assert_eq!(hex(&hasher.digest(0)), *digest, "{name} by {piece}");
            }
        }
        let xxh3 = Hasher::new(Algorithm::Xxh3);
        assert_eq!(hex(&xxh3.clone().digest(8)), "2d06800538d394c2");
        assert_eq!(hex(&xxh3.digest(16)), "99aa06d3014798d86001c324468d497f");
    }

    #[test]
    fn every_algorithm_accepts_its_digest_length() {
        for algorithm in Algorithm::ALL {
            assert!(algorithm.takes_length(Hasher::new(algorithm).digest(8).len()));
        }
    }

    #[test]
    fn a_trailer_is_checked_with_whatever_it_names() {
        for (name, _) in VECTORS {
            let algorithm = Algorithm::by_name(name).unwrap();
            let mut expected = Hasher::new(algorithm);
            expected.update(b"abc");
            let stated = Checksum {
                algorithm,
                digest: expected.digest(0),
            };
            let mut all = Verifier::new(&ChecksumPlacement::Trailer);
            all.update(b"abc");
            assert!(all.matches(&stated));
            let mut wrong = Verifier::new(&ChecksumPlacement::Trailer);
            wrong.update(b"abd");
            assert!(!wrong.matches(&stated));
        }
    }
}
