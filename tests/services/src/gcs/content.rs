//! The bytes of an object, as a list of shared segments: a compose copies no byte, however large its sources are.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::{Bytes, BytesMut};
use crc_fast::{CrcAlgorithm, checksum, checksum_combine};
use md5::{Digest as _, Md5};

const CRC32C: CrcAlgorithm = CrcAlgorithm::Crc32Iscsi;

/// Bytes in segments, with their length and their CRC32C.
#[derive(Debug, Clone, Default)]
pub(super) struct Content {
    segments: Vec<Bytes>,
    size: u64,
    crc32c: u64,
}

impl From<Bytes> for Content {
    fn from(bytes: Bytes) -> Self {
        let mut content = Self::default();
        content.push(bytes);
        content
    }
}

impl From<String> for Content {
    fn from(text: String) -> Self {
        Bytes::from(text).into()
    }
}

impl Content {
    pub(super) fn push(&mut self, bytes: Bytes) {
        if !bytes.is_empty() {
            let (sum, size) = (checksum(CRC32C, &bytes), bytes.len() as u64);
            self.add(sum, size);
            self.segments.push(bytes);
        }
    }

    /// Appends the bytes of another one.
    pub(super) fn append(&mut self, other: &Self) {
        self.add(other.crc32c, other.size);
        self.segments.extend_from_slice(&other.segments);
    }

    fn add(&mut self, sum: u64, size: u64) {
        self.crc32c = match (self.size, size) {
            (0, _) => sum,
            (_, 0) => self.crc32c,
            _ => checksum_combine(CRC32C, self.crc32c, sum, size),
        };
        self.size += size;
    }

    pub(super) const fn size(&self) -> u64 {
        self.size
    }

    /// Returns the checksum as in an object's resource: base64 of four bytes, the most significant one first.
    pub(super) fn crc32c(&self) -> String {
        let sum = u32::try_from(self.crc32c).unwrap();
        STANDARD.encode(sum.to_be_bytes())
    }

    pub(super) fn md5(&self) -> String {
        let mut sum = Md5::new();
        for segment in &self.segments {
            sum.update(segment);
        }
        STANDARD.encode(sum.finalize())
    }

    /// Returns `length` bytes from `start` on, which must be in there.
    pub(super) fn slice(&self, start: u64, length: u64) -> Self {
        let (mut skip, mut rest) = (index(start), index(length));
        let mut part = Self::default();
        for segment in &self.segments {
            let from = skip.min(segment.len());
            let to = (from + rest).min(segment.len());
            skip -= from;
            rest -= to - from;
            part.push(segment.slice(from..to));
        }
        part
    }

    pub(super) fn to_bytes(&self) -> Bytes {
        if let [only] = &*self.segments {
            return only.clone();
        }
        let mut bytes = BytesMut::with_capacity(index(self.size));
        for segment in &self.segments {
            bytes.extend_from_slice(segment);
        }
        bytes.freeze()
    }

    pub(super) fn into_segments(self) -> Vec<Bytes> {
        self.segments
    }
}

/// In memory, so it is an index.
fn index(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap()
}
