//! The library from outside.
#![allow(clippy::unwrap_used)]

mod asking;
mod claims;
mod direct;
mod dropped;
mod emitting;
#[cfg(unix)]
mod examples;
mod file_store;
mod leases;
mod memory;
mod progress;
mod rejected;
mod requirements;
mod settling;
mod shutdown;
mod site;
