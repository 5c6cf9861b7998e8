use bytes::Bytes;
use futures_util::StreamExt as _;
use sha2::{Digest as _, Sha256};

use super::{
    block_pool::{BLOCK_SIZE, Block, BlockPool},
    budget::MemoryPermit,
};
use crate::client::{self, Object, Payload};

const MIN_BLOCK_SIZE: usize = 4 * 1024;

#[derive(Debug)]
pub(super) struct PartBuffer {
    chunks: Vec<Bytes>,
    block: Option<Block>,
    len: u64,
    hasher: Option<Sha256>,
    memory: MemoryPermit,
    pool: BlockPool,
}

impl PartBuffer {
    pub(super) fn new(hashed: bool, pool: BlockPool) -> Self {
        Self {
            chunks: Vec::new(),
            block: None,
            len: 0,
            hasher: hashed.then(Sha256::new),
            memory: MemoryPermit::default(),
            pool,
        }
    }

    pub(super) fn is_overcommitted(&self) -> bool {
        self.memory.is_overcommitted()
    }

    pub(super) fn len(&self) -> u64 {
        self.len
    }

    pub(super) fn push(&mut self, mut bytes: Bytes, memory: MemoryPermit) {
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

    pub(super) async fn push_object(
        &mut self,
        object: Object,
        max: usize,
        memory: MemoryPermit,
    ) -> client::Result<usize> {
        self.memory.add(memory);
        let mut body = object.body;
        let mut len = 0;
        while let Some(bytes) = body.next().await {
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

    pub(super) fn append(&mut self, mut after: Self) {
        self.seal();
        after.seal();
        self.memory.add(after.memory);
        for chunk in after.chunks {
            self.count(&chunk, MemoryPermit::default());
            self.chunks.push(chunk);
        }
    }

    pub(super) fn payload(&self) -> Payload {
        let mut chunks = self.chunks.clone();
        // The last block may still grow, so it is copied.
        let last = self.block.as_ref();
        chunks.extend(last.map(|block| Bytes::copy_from_slice(block.as_ref())));
        Payload::new(chunks, self.hash())
    }

    fn hash(&self) -> Option<[u8; 32]> {
        self.hasher.clone().map(|hasher| hasher.finalize().into())
    }

    pub(super) fn take(&mut self) -> (Payload, MemoryPermit) {
        let fresh = Self::new(self.hasher.is_some(), self.pool.clone());
        let mut taken = std::mem::replace(self, fresh);
        taken.seal();
        let hash = taken.hash();
        (Payload::new(taken.chunks, hash), taken.memory)
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
            assert_eq!(buffer.len(), all.len() as u64);
            let (payload, _) = buffer.take();
            assert_eq!(content(&payload).await, all);
            assert_eq!(payload.sha256(), Some(&Sha256::digest(&all).into()));
            assert_eq!(buffer.len(), 0);
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
