//! Leases between processes that share a directory.
#[derive(Debug)]
pub struct FileLocker;
