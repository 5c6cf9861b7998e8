//! Algorithms and incremental digests.
//!
//! All implementations detect the CPU's instructions at run time (SHA, CRC32, PCLMULQDQ,
//! AVX2/AVX-512), so there is nothing to configure.

use std::fmt;

use sha1::Digest;

/// A checksum algorithm. Names are lower case and case-sensitive.
#[derive(Clone, Copy)]
pub struct Algorithm {
    pub(super) name: &'static str,
    /// The possible lengths of a digest in bytes.
    pub(super) lengths: &'static [usize],
    pub(super) start: fn() -> Box<dyn State>,
}

impl Algorithm {
    /// SHA-1, mandatory for servers with checksums (`tus/options/checksum-algorithms-include-sha1`).
    pub const SHA1: Self = Self {
        name: "sha1",
        lengths: &[20],
        start: cryptographic::<sha1::Sha1>,
    };

    /// All algorithms, in the order in which they are advertised.
    #[cfg(not(feature = "checksums"))]
    pub const ALL: &'static [Self] = &[Self::SHA1];

    /// All algorithms, in the order in which they are advertised.
    #[cfg(feature = "checksums")]
    pub const ALL: &'static [Self] = super::optional::ALL;

    /// The value of `Tus-Checksum-Algorithm`: the names of [`Algorithm::ALL`].
    #[cfg(not(feature = "checksums"))]
    pub const LIST: &'static str = "sha1";

    /// The value of `Tus-Checksum-Algorithm`: the names of [`Algorithm::ALL`].
    #[cfg(feature = "checksums")]
    pub const LIST: &'static str = super::optional::LIST;

    /// Returns the name in `Upload-Checksum`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.name
    }

    /// Returns the algorithm with that name.
    #[must_use]
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|one| one.name == name)
    }

    /// Returns whether a digest may have this many bytes.
    #[must_use]
    pub fn takes_length(self, bytes: usize) -> bool {
        self.lengths.contains(&bytes)
    }

    /// Returns the checksum of no bytes.
    #[must_use]
    pub fn hasher(self) -> Hasher {
        Hasher((self.start)())
    }
}

impl fmt::Debug for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl PartialEq for Algorithm {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Algorithm {}

/// An incremental checksum; [`Algorithm::hasher`] makes one.
pub struct Hasher(Box<dyn State>);

impl Hasher {
    /// Adds bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// Returns the digest, most significant byte first. `bytes` selects the length of XXH3; other
    /// algorithms ignore it.
    #[must_use]
    pub fn digest(self, bytes: usize) -> Vec<u8> {
        self.0.digest(bytes)
    }
}

impl fmt::Debug for Hasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hasher")
    }
}

pub(super) trait State: Send + Sync {
    fn update(&mut self, bytes: &[u8]);
    fn digest(self: Box<Self>, bytes: usize) -> Vec<u8>;
}

struct Cryptographic<D>(D);

pub(super) fn cryptographic<D: Digest + Send + Sync + 'static>() -> Box<dyn State> {
    Box::new(Cryptographic(D::new()))
}

impl<D: Digest + Send + Sync> State for Cryptographic<D> {
    fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn digest(self: Box<Self>, _: usize) -> Vec<u8> {
        self.0.finalize().to_vec()
    }
}
