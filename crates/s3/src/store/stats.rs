//! What the store is doing at the moment.

use super::Inner;

/// What an [`S3Store`](crate::S3Store) is doing at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoreStats {
    /// Memory for bytes on their way to S3, in bytes.
    pub memory_limit: usize,
    /// How much of it is taken.
    pub memory_used: usize,
    /// Uploads that wait for memory.
    pub memory_waiting: usize,
    /// Parts that may be on their way at one time.
    pub parts_limit: usize,
    /// Parts that are on their way.
    pub parts_in_flight: usize,
}

impl Inner {
    pub(super) fn stats(&self) -> StoreStats {
        let free = self.slots.available_permits();
        StoreStats {
            memory_limit: self.budget.total(),
            memory_used: self.budget.used(),
            memory_waiting: self.budget.waiting(),
            parts_limit: self.options.concurrent_parts,
            parts_in_flight: self.options.concurrent_parts.saturating_sub(free),
        }
    }
}
