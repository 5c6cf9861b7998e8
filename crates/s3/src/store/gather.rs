//! Bytes that are gathered until they are a part.

use std::{future::poll_fn, pin::Pin};

use bytes::Bytes;
use futures_core::Stream as _;
use sha2::{Digest as _, Sha256};

use super::{
    blocks::{BLOCK, Block, Blocks},
    memory::Memory,
};
use crate::client::{self, Object, Payload};

/// The first block, where little comes.
const FIRST_BLOCK: usize = 4 * 1024;

/// Bytes in order, the memory they take, and their hash so far.
#[derive(Debug)]
pub(super) struct Gather {
    chunks: Vec<Bytes>,
    /// The bytes at the end, and room for more.
    block: Option<Block>,
    len: u64,
    hasher: Option<Sha256>,
    memory: Memory,
    blocks: Blocks,
}

impl Gather {
    pub(super) fn new(hashed: bool, blocks: Blocks) -> Self {
        Self {
            chunks: Vec::new(),
            block: None,
            len: 0,
            hasher: hashed.then(Sha256::new),
            memory: Memory::default(),
            blocks,
        }
    }

    /// Whether its memory is beyond the budget: what is added to the same part needs none.
    pub(super) fn is_beyond_budget(&self) -> bool {
        self.memory.is_beyond_budget()
    }

    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Takes bytes, for which there is memory, as a copy: frames are pieces of read buffers, which
    /// stay whole for as long as the pieces do, and that would be memory nobody has counted.
    pub(super) fn push(&mut self, mut bytes: Bytes, memory: Memory) {
        self.count(&bytes, memory);
        while !bytes.is_empty() {
            let block = self.block.get_or_insert_with(|| {
                let gathered = usize::try_from(self.len).unwrap_or(BLOCK);
                self.blocks.take(gathered.clamp(FIRST_BLOCK, BLOCK))
            });
            block.push(&bytes.split_to(block.room().min(bytes.len())));
            if block.room() == 0 {
                self.seal();
            }
        }
    }

    /// Takes what a service answers, for which there is memory, and says how much it was: at most
    /// one byte more than `most`.
    ///
    /// # Errors
    /// If the answer is cut.
    pub(super) async fn push_object(
        &mut self,
        object: Object,
        most: usize,
        memory: Memory,
    ) -> client::Result<usize> {
        self.memory.add(memory);
        let mut body = object.body;
        let mut len = 0;
        while let Some(bytes) = poll_fn(|context| Pin::new(&mut body).poll_next(context)).await {
            let mut bytes = bytes?;
            bytes.truncate((most - len).saturating_add(1));
            len += bytes.len();
            self.push(bytes, Memory::default());
            if len > most {
                break;
            }
        }
        Ok(len)
    }

    fn count(&mut self, bytes: &Bytes, memory: Memory) {
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

    /// Takes all of another one behind its own bytes.
    pub(super) fn append(&mut self, mut after: Self) {
        self.seal();
        after.seal();
        self.memory.add(after.memory);
        for chunk in after.chunks {
            self.count(&chunk, Memory::default());
            self.chunks.push(chunk);
        }
    }

    /// All that was gathered, as the body of a request.
    pub(super) fn payload(&self) -> Payload {
        let mut chunks = self.chunks.clone();
        // A block that isn't full yet goes on growing.
        let last = self.block.as_ref();
        chunks.extend(last.map(|block| Bytes::copy_from_slice(block.as_ref())));
        Payload::new(chunks, self.hash())
    }

    fn hash(&self) -> Option<[u8; 32]> {
        self.hasher.clone().map(|hasher| hasher.finalize().into())
    }

    /// Takes everything out, and leaves it empty.
    pub(super) fn take(&mut self) -> (Payload, Memory) {
        let fresh = Self::new(self.hasher.is_some(), self.blocks.clone());
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
    async fn pieces_of_every_size_come_out_in_order_with_their_hash() {
        for sizes in [
            &[1, 4095, 1, 3][..],
            &[BLOCK - 1, 2, BLOCK, 3 * BLOCK + 7],
            &[0, 5],
            &[],
        ] {
            let mut gather = Gather::new(true, Blocks::default());
            let mut all = Vec::new();
            for (seed, size) in sizes.iter().enumerate() {
                let piece = bytes(*size, seed);
                all.extend_from_slice(&piece);
                gather.push(piece.into(), Memory::default());
                // Looking at it on the way changes nothing.
                assert_eq!(content(&gather.payload()).await, all);
            }
            assert_eq!(gather.len(), all.len() as u64);
            let (payload, _) = gather.take();
            assert_eq!(content(&payload).await, all);
            assert_eq!(payload.sha256(), Some(&Sha256::digest(&all).into()));
            assert_eq!(gather.len(), 0);
            assert_eq!(content(&gather.take().0).await, b"");
        }
    }

    #[tokio::test]
    async fn another_one_comes_behind() {
        let blocks = Blocks::default();
        let mut first = Gather::new(true, blocks.clone());
        first.push(bytes(70_000, 1).into(), Memory::default());
        let mut second = Gather::new(true, blocks);
        second.push(bytes(80_000, 2).into(), Memory::default());
        first.append(second);
        first.push(bytes(10, 3).into(), Memory::default());
        let all = [bytes(70_000, 1), bytes(80_000, 2), bytes(10, 3)].concat();
        let (payload, _) = first.take();
        assert_eq!(content(&payload).await, all);
        assert_eq!(payload.sha256(), Some(&Sha256::digest(&all).into()));
    }
}
