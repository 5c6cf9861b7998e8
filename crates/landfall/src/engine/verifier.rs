//! Verification of a request's checksum while its bytes arrive.

use landfall_protocol::{Algorithm, Checksum, ChecksumPlacement, Hasher};

#[derive(Debug, Default)]
pub(super) struct Verifier(Vec<(Algorithm, Hasher)>);

impl Verifier {
    pub(super) fn new(announced: &ChecksumPlacement) -> Self {
        let hasher = |algorithm: Algorithm| (algorithm, algorithm.hasher());
        Self(match announced {
            ChecksumPlacement::None | ChecksumPlacement::Ignored => Vec::new(),
            ChecksumPlacement::Header(checksum) => vec![hasher(checksum.algorithm)],
            // The algorithm of a trailer is known only at the end.
            ChecksumPlacement::Trailer => Algorithm::ALL.iter().copied().map(hasher).collect(),
        })
    }

    pub(super) fn is_on(&self) -> bool {
        !self.0.is_empty()
    }

    pub(super) fn update(&mut self, bytes: &[u8]) {
        for (_, hasher) in &mut self.0 {
            hasher.update(bytes);
        }
    }

    pub(super) fn matches(self, stated: &Checksum) -> bool {
        let mut hashers = self.0.into_iter();
        let found = hashers.find(|(algorithm, _)| *algorithm == stated.algorithm);
        found.is_some_and(|(_, hasher)| hasher.digest(stated.digest.len()) == stated.digest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trailer_is_checked_with_whatever_it_names() {
        for &algorithm in Algorithm::ALL {
            let mut expected = algorithm.hasher();
            expected.update(b"abc");
            let stated = Checksum {
                algorithm,
                digest: expected.digest(8),
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
