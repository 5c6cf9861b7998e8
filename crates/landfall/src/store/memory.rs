//! Uploads in memory, for tests.
#[derive(Debug, Default)]
pub struct MemoryStore;
