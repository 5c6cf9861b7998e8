//! Checksums of a payload, in base64, as the service verifies them.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use crc_fast::CrcAlgorithm::Crc64Nvme;
use landfall_objects::Payload;
use md5::{Digest as _, Md5};

pub(crate) fn md5(payload: &Payload) -> String {
    let mut md5 = Md5::new();
    payload.chunks().for_each(|chunk| md5.update(chunk));
    STANDARD.encode(md5.finalize())
}

/// The checksum of blocks: CRC-64/NVME, the lowest byte first.
pub(crate) fn crc64(payload: &Payload) -> String {
    let mut crc = crc_fast::Digest::new(Crc64Nvme);
    payload.chunks().for_each(|chunk| crc.update(chunk));
    STANDARD.encode(crc.finalize().to_le_bytes())
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    /// Computed by other programs.
    #[test]
    fn checksums_of_chunks() {
        let chunks = ["he", "", "llo"].map(Bytes::from);
        let payload = Payload::new(chunks.into(), None);
        assert_eq!(md5(&payload), "XUFAKrxLKna5cZ2REBfFkg==");
        assert_eq!(crc64(&payload), "V0JSBnCFdzM=");
    }
}
