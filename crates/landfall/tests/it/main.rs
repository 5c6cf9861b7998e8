//! The library from outside.
#![allow(clippy::unwrap_used)]

#[cfg(unix)]
mod examples;
mod file_store;
mod leases;
mod requirements;
