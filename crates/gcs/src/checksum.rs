//! CRC32C as Cloud Storage uses it: of payloads, and of objects made of others. It reads no object.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use crc_fast::{CrcAlgorithm, Digest, checksum_combine};
use landfall_objects::Payload;

const CRC32C: CrcAlgorithm = CrcAlgorithm::Crc32Iscsi;

/// The checksum of some bytes, with their number: two together can be combined.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Checksum {
    pub(crate) size: u64,
    pub(crate) crc32c: u32,
}

impl Checksum {
    /// Reads each byte once, with the processor's instructions for it.
    pub(crate) fn of(payload: &Payload) -> Self {
        let mut digest = Digest::new(CRC32C);
        payload.chunks().for_each(|chunk| digest.update(chunk));
        Self {
            size: payload.len(),
            crc32c: low_half(digest.finalize()),
        }
    }

    /// Returns the checksum of these bytes and then those of `next`.
    pub(crate) fn followed_by(self, next: Self) -> Self {
        let (first, second) = (self.crc32c.into(), next.crc32c.into());
        Self {
            size: self.size.saturating_add(next.size),
            crc32c: low_half(checksum_combine(CRC32C, first, second, next.size)),
        }
    }

    /// Returns the checksum as the service writes it: base64 of four bytes, the highest first.
    pub(crate) fn encoded(self) -> String {
        STANDARD.encode(self.crc32c.to_be_bytes())
    }
}

/// Reads a checksum as the service writes it.
pub(crate) fn decode(text: &str) -> Option<u32> {
    let bytes = STANDARD.decode(text).ok()?;
    Some(u32::from_be_bytes(bytes.try_into().ok()?))
}

/// The crate returns checksums of all widths in 64 bits.
fn low_half(checksum: u64) -> u32 {
    (checksum & u64::from(u32::MAX)) as u32
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;

    fn of(bytes: &[u8]) -> Checksum {
        Checksum::of(&Payload::from(Bytes::copy_from_slice(bytes)))
    }

    /// The value is RFC 3720's check value; the text is the one of Google's documentation for it.
    #[test]
    fn known_values() {
        assert_eq!(of(b"123456789").crc32c, 0xE306_9283);
        assert_eq!(of(b"").encoded(), "AAAAAA==");
        assert_eq!(of(b"123456789").encoded(), "4waSgw==");
        assert_eq!(decode("4waSgw=="), Some(0xE306_9283));
        for text in ["", "AAAA", "AAAAAAA=", "no"] {
            assert_eq!(decode(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn combination_is_that_of_all_bytes(pieces: Vec<Vec<u8>>) {
            let combined = pieces.iter().fold(Checksum::default(), |all, piece| all.followed_by(of(piece)));
            prop_assert_eq!(combined, of(&pieces.concat()));
        }
    }
}
