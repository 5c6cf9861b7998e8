use super::Inner;

/// The current load of an [`S3Store`](crate::S3Store).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoreStats {
    /// Memory budget of part buffers, in bytes.
    pub memory_limit: usize,
    /// Used part of it, in bytes.
    pub memory_used: usize,
    /// Uploads that wait for memory.
    pub memory_waiting: usize,
    /// Maximum number of concurrent part uploads.
    pub parts_limit: usize,
    /// Part uploads in flight.
    pub parts_in_flight: usize,
}

impl Inner {
    pub(super) fn stats(&self) -> StoreStats {
        let free = self.part_slots.available_permits();
        StoreStats {
            memory_limit: self.budget.total(),
            memory_used: self.budget.used(),
            memory_waiting: self.budget.waiting(),
            parts_limit: self.options.concurrent_parts,
            parts_in_flight: self.options.concurrent_parts.saturating_sub(free),
        }
    }
}
