//! The bytes that are uploaded, known again from their place in the upload.

/// Length of the repeated pattern: a prime, so that bytes which land off by any power of two, or
/// by a whole number of requests, do not happen to be right.
pub(crate) const PERIOD: usize = 1_048_573;

/// Pseudo-random bytes, repeated with [`PERIOD`]. Each upload begins at its own phase, so that
/// bytes of one upload found in another are wrong too.
#[derive(Debug)]
pub(crate) struct Pattern {
    bytes: Vec<u8>,
}

impl Pattern {
    /// Makes the pattern; the same in every run.
    pub(crate) fn new() -> Self {
        let mut random = Random::new(1);
        let mut bytes = Vec::with_capacity(PERIOD + 8);
        while bytes.len() < PERIOD {
            bytes.extend_from_slice(&random.next().to_le_bytes());
        }
        bytes.truncate(PERIOD);
        Self { bytes }
    }

    /// The bytes of an upload of this `phase` from `offset` on: at most `limit` of them, and at
    /// least one if `limit` is not 0.
    pub(crate) fn slice(&self, phase: u64, offset: u64, limit: u64) -> &[u8] {
        let start = ((phase + offset) % PERIOD as u64) as usize;
        let rest = &self.bytes[start..];
        &rest[..rest.len().min(usize::try_from(limit).unwrap_or(usize::MAX))]
    }

    /// Appends `length` bytes of the upload to `to`.
    pub(crate) fn copy_to(&self, to: &mut Vec<u8>, phase: u64, mut offset: u64, length: u64) {
        let end = offset + length;
        while offset < end {
            let slice = self.slice(phase, offset, end - offset);
            to.extend_from_slice(slice);
            offset += slice.len() as u64;
        }
    }

    /// Compares what a server gave back with what was sent.
    ///
    /// # Errors
    /// The offset of the first chunk that differs.
    pub(crate) fn check(&self, phase: u64, mut offset: u64, mut got: &[u8]) -> Result<(), String> {
        while !got.is_empty() {
            let want = self.slice(phase, offset, got.len() as u64);
            if got[..want.len()] != *want {
                let at = want.iter().zip(got).take_while(|(a, b)| a == b).count();
                return Err(format!("wrong byte at offset {}", offset + at as u64));
            }
            got = &got[want.len()..];
            offset += want.len() as u64;
        }
        Ok(())
    }
}

/// A small generator (xorshift64*): the same sizes and choices in every run, for every server.
#[derive(Debug)]
pub(crate) struct Random(u64);

impl Random {
    /// Starts a sequence; different seeds give unrelated sequences.
    pub(crate) fn new(seed: u64) -> Self {
        // Any odd constant keeps the state from being 0, where xorshift stays for ever.
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    /// The next 64 bits.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// A number in `0..bound`; `bound` must not be 0.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// A size in `min..=max` whose logarithm is uniform: as many uploads of 1 to 2 KiB as of 32
    /// to 64 KiB.
    pub(crate) fn log_uniform(&mut self, min: u64, max: u64) -> u64 {
        let unit = (self.next() >> 11) as f64 / (1u64 << 53) as f64;
        let ratio = (max + 1) as f64 / min as f64;
        ((min as f64 * ratio.powf(unit)) as u64).clamp(min, max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_known_by_their_place() {
        let pattern = Pattern::new();
        let mut sent = Vec::new();
        pattern.copy_to(&mut sent, 5, PERIOD as u64 - 100, 300);
        assert_eq!(sent.len(), 300);
        assert_eq!(pattern.check(5, PERIOD as u64 - 100, &sent), Ok(()));
        assert!(pattern.check(6, PERIOD as u64 - 100, &sent).is_err());
        assert!(pattern.check(5, PERIOD as u64 - 101, &sent).is_err());
        sent[250] ^= 1;
        let error = pattern
            .check(5, 0, &sent[100..])
            .expect_err("a flipped bit");
        assert_eq!(error, "wrong byte at offset 150");
        let error = pattern
            .check(5, PERIOD as u64 - 100, &sent)
            .expect_err("a flipped bit");
        assert_eq!(error, format!("wrong byte at offset {}", PERIOD + 150));
    }

    #[test]
    fn sizes_are_log_uniform() {
        let mut random = Random::new(3);
        let sizes: Vec<u64> = (0..6000).map(|_| random.log_uniform(1024, 65536)).collect();
        assert!(sizes.iter().all(|size| (1024..=65536).contains(size)));
        for octave in 0..6 {
            let low = 1024u64 << octave;
            let count = sizes
                .iter()
                .filter(|size| (low..low * 2).contains(*size))
                .count();
            assert!(
                (850..1150).contains(&count),
                "{count} sizes from {low} on, of 6000"
            );
        }
    }
}
