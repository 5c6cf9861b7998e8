//! Leases within one process.
#[derive(Debug, Default)]
pub struct MemoryLocker;
