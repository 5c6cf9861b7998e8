//! Position-dependent test data.

use bytes::Bytes;

/// Returns `len` pseudorandom bytes for a seed, so that misplaced bytes are detected.
pub fn bytes(seed: u64, len: usize) -> Bytes {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        bytes.extend_from_slice(&next(&mut state).to_le_bytes());
    }
    bytes.truncate(len);
    bytes.into()
}

pub(crate) fn next(state: &mut u64) -> u64 {
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    state.wrapping_mul(0x2545_f491_4f6c_dd1d)
}

/// Splits `bytes` into chunks of 1 to `most` bytes, without copying.
pub fn chunks(bytes: &Bytes, most: usize, seed: u64) -> Vec<Bytes> {
    let mut state = seed | 1;
    let mut rest = bytes.clone();
    let mut chunks = Vec::new();
    while !rest.is_empty() {
        let len = (next(&mut state) % most.max(1) as u64) as usize + 1;
        chunks.push(rest.split_to(len.min(rest.len())));
    }
    chunks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_bytes() {
        assert_eq!(bytes(1, 1000), bytes(1, 1000));
        assert_eq!(bytes(1, 999), bytes(1, 1000)[..999]);
        assert_ne!(bytes(1, 1000), bytes(2, 1000));
        assert!(bytes(1, 0).is_empty());
    }

    #[test]
    fn chunks_are_the_bytes_in_order() {
        let all = bytes(3, 10_000);
        let cut = chunks(&all, 7, 5);
        assert!(cut.iter().all(|chunk| (1..=7).contains(&chunk.len())));
        assert_eq!(cut.concat(), all);
    }
}
