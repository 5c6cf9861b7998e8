//! Leases between processes that share a directory.

/// Leases kept as locks in a directory.
#[derive(Debug)]
pub struct FileLocker;
