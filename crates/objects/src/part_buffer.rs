//! The bytes of a part until it is full, in blocks of memory from the budget of all uploads.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use parking_lot::Mutex;
use sha2::{Digest as _, Sha256};

use crate::{memory::MemoryPermit, payload::Payload};

const MIN_BLOCK_SIZE: usize = 4 * 1024;

/// The bytes of a part, which may grow while a payload of it is sent.
#[derive(Debug)]
pub struct PartBuffer {
    chunks: Vec<Bytes>,
    block: Option<Block>,
    len: u64,
    hasher: Option<Sha256>,
    memory: MemoryPermit,
    pool: BlockPool,
}

impl PartBuffer {
    /// Creates an empty buffer; `hashed`: its payloads have a digest.
    pub fn new(hashed: bool, pool: BlockPool) -> Self {
        Self {
            chunks: Vec::new(),
            block: None,
            len: 0,
            hasher: hashed.then(Sha256::new),
            memory: MemoryPermit::default(),
            pool,
        }
    }

    /// Returns the memory of its bytes.
    pub fn memory(&self) -> &MemoryPermit {
        &self.memory
    }

    /// Returns the number of bytes.
    pub fn size(&self) -> u64 {
        self.len
    }

    /// Copies bytes into the buffer, which keeps `memory` for them.
    pub fn push(&mut self, mut bytes: Bytes, memory: MemoryPermit) {
        self.count(&bytes, memory);
        while !bytes.is_empty() {
            let block = self.block.get_or_insert_with(|| {
                let buffered = usize::try_from(self.len).unwrap_or(BLOCK_SIZE);
                self.pool.take(buffered.clamp(MIN_BLOCK_SIZE, BLOCK_SIZE))
            });
            block.push(&bytes.split_to(block.remaining().min(bytes.len())));
            if block.remaining() == 0 {
                self.seal();
            }
        }
    }

    /// Adds at most `max` bytes of a stream, and one more if it has more. Returns how many.
    ///
    /// # Errors
    /// The first error of the stream.
    pub async fn push_stream<E>(
        &mut self,
        mut stream: impl Stream<Item = Result<Bytes, E>> + Unpin,
        max: usize,
        memory: MemoryPermit,
    ) -> Result<usize, E> {
        self.memory.add(memory);
        let mut len = 0;
        while let Some(bytes) = stream.next().await {
            let mut bytes = bytes?;
            bytes.truncate((max - len).saturating_add(1));
            len += bytes.len();
            self.push(bytes, MemoryPermit::default());
            if len > max {
                break;
            }
        }
        Ok(len)
    }

    fn count(&mut self, bytes: &Bytes, memory: MemoryPermit) {
        if let Some(hasher) = &mut self.hasher {
            hasher.update(bytes);
        }
        self.len += bytes.len() as u64;
        self.memory.add(memory);
    }

    fn seal(&mut self) {
        if let Some(block) = self.block.take() {
            self.chunks.push(Bytes::from_owner(block));
        }
    }

    /// Adds the bytes of another buffer.
    pub fn append(&mut self, mut after: Self) {
        self.seal();
        after.seal();
        self.memory.add(after.memory);
        for chunk in after.chunks {
            self.count(&chunk, MemoryPermit::default());
            self.chunks.push(chunk);
        }
    }

    /// Returns a payload of the bytes so far.
    pub fn payload(&self) -> Payload {
        let mut chunks = self.chunks.clone();
        // The last block may still grow, so it is copied.
        let last = self.block.as_ref();
        chunks.extend(last.map(|block| Bytes::copy_from_slice(block.as_ref())));
        Payload::new(chunks, self.hash())
    }

    fn hash(&self) -> Option<[u8; 32]> {
        self.hasher.clone().map(|hasher| hasher.finalize().into())
    }

    /// Takes all bytes and their memory.
    pub fn take(&mut self) -> (Payload, MemoryPermit) {
        let fresh = Self::new(self.hasher.is_some(), self.pool.clone());
        let mut taken = std::mem::replace(self, fresh);
        taken.seal();
        let hash = taken.hash();
        (Payload::new(taken.chunks, hash), taken.memory)
    }
}

const BLOCK_SIZE: usize = 64 * 1024;

/// Reused blocks of memory.
///
/// One size of them keeps the process within its memory budget: buffers of many sizes that
/// are freed on other threads fragment the heap and can double its size.
#[derive(Clone, Debug, Default)]
pub struct BlockPool(Arc<Mutex<Vec<Vec<u8>>>>);

impl BlockPool {
    fn take(&self, size: usize) -> Block {
        let used = (size >= BLOCK_SIZE).then(|| self.0.lock().pop()).flatten();
        Block {
            bytes: used.unwrap_or_else(|| Vec::with_capacity(size.min(BLOCK_SIZE))),
            pool: self.clone(),
        }
    }
}

#[derive(Debug)]
struct Block {
    bytes: Vec<u8>,
    pool: BlockPool,
}

impl Block {
    fn remaining(&self) -> usize {
        self.bytes.capacity() - self.bytes.len()
    }

    fn push(&mut self, bytes: &[u8]) {
        debug_assert!(bytes.len() <= self.remaining(), "a block never grows");
        self.bytes.extend_from_slice(bytes);
    }
}

impl AsRef<[u8]> for Block {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        if self.bytes.capacity() == BLOCK_SIZE {
            let mut bytes = std::mem::take(&mut self.bytes);
            bytes.clear();
            self.pool.0.lock().push(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    async fn content(payload: &Payload) -> Vec<u8> {
        let body = payload.body().collect().await.unwrap();
        body.to_bytes().to_vec()
    }

    fn bytes(count: usize, seed: usize) -> Vec<u8> {
        (0..count)
            .map(|at| ((at + seed) * 31 % 251) as u8)
            .collect()
    }

    #[tokio::test]
    async fn chunks_of_every_size_stay_in_order_with_their_hash() {
        for sizes in [
            &[1, 4095, 1, 3][..],
            &[BLOCK_SIZE - 1, 2, BLOCK_SIZE, 3 * BLOCK_SIZE + 7],
            &[0, 5],
            &[],
        ] {
            let mut buffer = PartBuffer::new(true, BlockPool::default());
            let mut all = Vec::new();
            for (seed, size) in sizes.iter().enumerate() {
                let piece = bytes(*size, seed);
                all.extend_from_slice(&piece);
                buffer.push(piece.into(), MemoryPermit::default());
                // Building a payload meanwhile changes nothing.
                assert_eq!(content(&buffer.payload()).await, all);
            }
            assert_eq!(buffer.size(), all.len() as u64);
            let (payload, _) = buffer.take();
            assert_eq!(content(&payload).await, all);
            assert_eq!(payload.sha256(), Some(&Sha256::digest(&all).into()));
            assert_eq!(buffer.size(), 0);
            assert_eq!(content(&buffer.take().0).await, b"");
        }
    }

    #[tokio::test]
    async fn appended_buffer_follows() {
        let pool = BlockPool::default();
        let mut first = PartBuffer::new(true, pool.clone());
        first.push(bytes(70_000, 1).into(), MemoryPermit::default());
        let mut second = PartBuffer::new(true, pool);
        second.push(bytes(80_000, 2).into(), MemoryPermit::default());
        first.append(second);
        first.push(bytes(10, 3).into(), MemoryPermit::default());
        let all = [bytes(70_000, 1), bytes(80_000, 2), bytes(10, 3)].concat();
        let (payload, _) = first.take();
        assert_eq!(content(&payload).await, all);
        assert_eq!(payload.sha256(), Some(&Sha256::digest(&all).into()));
    }
}

#[cfg(test)]
mod block_pool_tests {
    use super::*;

    #[test]
    fn free_blocks_are_reused() {
        let pool = BlockPool::default();
        let mut block = pool.take(BLOCK_SIZE);
        assert_eq!(block.remaining(), BLOCK_SIZE);
        block.push(b"abc");
        let at = block.as_ref().as_ptr();
        let other = pool.take(BLOCK_SIZE);
        assert_ne!(other.as_ref().as_ptr(), at);
        drop(block);
        assert_eq!(pool.0.lock().len(), 1);
        let again = pool.take(BLOCK_SIZE);
        assert_eq!((again.as_ref().as_ptr(), again.as_ref().len()), (at, 0));
        assert_eq!(pool.0.lock().len(), 0);
    }

    #[test]
    fn small_blocks_are_freed() {
        let pool = BlockPool::default();
        drop(pool.take(100));
        assert_eq!(pool.0.lock().len(), 0);
        assert_eq!(pool.take(BLOCK_SIZE + 1).remaining(), BLOCK_SIZE);
    }
}
