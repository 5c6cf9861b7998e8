//! The library from outside.

#[cfg(unix)]
mod file_store;
mod leases;
