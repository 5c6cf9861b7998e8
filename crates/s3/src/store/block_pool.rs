//! Reusable memory blocks for part buffers.
//!
//! Reused blocks of one size keep the process within its memory budget: buffers of many sizes that
//! are freed on other threads fragment the heap and can double its size.

use std::{fmt, sync::Arc};

use parking_lot::Mutex;

pub(super) const BLOCK_SIZE: usize = 64 * 1024;

#[derive(Clone, Default)]
pub(super) struct BlockPool(Arc<Mutex<Vec<Vec<u8>>>>);

impl BlockPool {
    pub(super) fn take(&self, size: usize) -> Block {
        let used = (size >= BLOCK_SIZE).then(|| self.0.lock().pop()).flatten();
        Block {
            bytes: used.unwrap_or_else(|| Vec::with_capacity(size.min(BLOCK_SIZE))),
            pool: self.clone(),
        }
    }
}

impl fmt::Debug for BlockPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BlockPool({} free)", self.0.lock().len())
    }
}

pub(super) struct Block {
    bytes: Vec<u8>,
    pool: BlockPool,
}

impl Block {
    pub(super) fn remaining(&self) -> usize {
        self.bytes.capacity() - self.bytes.len()
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
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

impl fmt::Debug for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Block({} of {})",
            self.bytes.len(),
            self.bytes.capacity()
        )
    }
}

#[cfg(test)]
mod tests {
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
