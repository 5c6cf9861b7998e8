//! Memory for gathered bytes, in blocks that are used again.
//!
//! Blocks of one size that never go back to the allocator keep the process as small as its budget
//! says: buffers of many sizes, freed on other threads than they came from, leave gaps that can take
//! as much again.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

/// The size of blocks that are used again, in bytes. Smaller ones aren't kept.
pub(super) const BLOCK: usize = 64 * 1024;

/// Blocks that nobody uses at the moment: never more than were in use at one time, which the budget
/// bounds. Cloning shares them.
#[derive(Clone, Default)]
pub(super) struct Blocks(Arc<Mutex<Vec<Vec<u8>>>>);

impl Blocks {
    /// An empty block with room for at least `size` bytes, at most [`BLOCK`].
    pub(super) fn take(&self, size: usize) -> Block {
        let used = (size >= BLOCK).then(|| self.free().pop()).flatten();
        Block {
            bytes: used.unwrap_or_else(|| Vec::with_capacity(size.min(BLOCK))),
            home: self.clone(),
        }
    }

    /// A panic elsewhere leaves them as they were.
    fn free(&self) -> std::sync::MutexGuard<'_, Vec<Vec<u8>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Blocks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Blocks({} free)", self.free().len())
    }
}

/// Bytes, and room for more. Dropping it makes the room free for others.
pub(super) struct Block {
    bytes: Vec<u8>,
    home: Blocks,
}

impl Block {
    /// How many bytes it still takes.
    pub(super) fn room(&self) -> usize {
        self.bytes.capacity() - self.bytes.len()
    }

    /// Adds bytes, at most as many as there is room for.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        debug_assert!(bytes.len() <= self.room(), "a block never grows");
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
        if self.bytes.capacity() == BLOCK {
            let mut bytes = std::mem::take(&mut self.bytes);
            bytes.clear();
            self.home.free().push(bytes);
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
    fn blocks_are_used_again_once_they_are_free() {
        let blocks = Blocks::default();
        let mut block = blocks.take(BLOCK);
        assert_eq!(block.room(), BLOCK);
        block.push(b"abc");
        let at = block.as_ref().as_ptr();
        let other = blocks.take(BLOCK);
        assert_ne!(other.as_ref().as_ptr(), at);
        drop(block);
        assert_eq!(blocks.free().len(), 1);
        let again = blocks.take(BLOCK);
        assert_eq!((again.as_ref().as_ptr(), again.as_ref().len()), (at, 0));
        assert_eq!(blocks.free().len(), 0);
    }

    #[test]
    fn small_ones_are_not_kept() {
        let blocks = Blocks::default();
        drop(blocks.take(100));
        assert_eq!(blocks.free().len(), 0);
        assert_eq!(blocks.take(BLOCK + 1).room(), BLOCK);
    }
}
