//! Bytes that are gathered until they are a part.

use bytes::{Bytes, BytesMut};
use sha2::{Digest as _, Sha256};

use super::memory::Memory;
use crate::client::Payload;

/// Frames shorter than this are copied together: they may be small pieces of large buffers, which
/// would stay for as long as they do.
const COPY_BELOW: usize = 8 * 1024;
/// How much is copied together.
const BLOCK: usize = 64 * 1024;

/// Bytes in order, the memory they take, and their hash so far.
#[derive(Debug, Default)]
pub(super) struct Gather {
    chunks: Vec<Bytes>,
    /// The small frames at the end.
    block: BytesMut,
    len: u64,
    hasher: Option<Sha256>,
    memory: Memory,
}

impl Gather {
    pub(super) fn new(hashed: bool) -> Self {
        Self {
            hasher: hashed.then(Sha256::new),
            ..Self::default()
        }
    }

    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Takes bytes, for which there is memory.
    pub(super) fn push(&mut self, bytes: Bytes, memory: Memory) {
        if let Some(hasher) = &mut self.hasher {
            hasher.update(&bytes);
        }
        self.len += bytes.len() as u64;
        self.memory.add(memory);
        if bytes.len() < COPY_BELOW {
            self.block.extend_from_slice(&bytes);
            if self.block.len() >= BLOCK {
                self.seal();
            }
        } else {
            self.seal();
            self.chunks.push(bytes);
        }
    }

    fn seal(&mut self) {
        if !self.block.is_empty() {
            self.chunks.push(self.block.split().freeze());
        }
    }

    /// Takes the bytes that come before those that were gathered.
    pub(super) fn prepend(&mut self, bytes: Bytes, memory: Memory) {
        self.seal();
        let after = std::mem::replace(self, Self::new(self.hasher.is_some()));
        self.memory = after.memory;
        self.push(bytes, memory);
        for chunk in after.chunks {
            self.push(chunk, Memory::default());
        }
    }

    /// All that was gathered, as the body of a request.
    pub(super) fn payload(&mut self) -> Payload {
        self.seal();
        let hash = self.hasher.clone().map(|hasher| hasher.finalize().into());
        Payload::new(self.chunks.clone(), hash)
    }

    /// Takes everything out, and leaves it empty.
    pub(super) fn take(&mut self) -> (Payload, Memory) {
        let payload = self.payload();
        let taken = std::mem::replace(self, Self::new(self.hasher.is_some()));
        (payload, taken.memory)
    }
}
