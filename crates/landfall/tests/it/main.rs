//! Integration tests of the library, over real sockets.
#![allow(clippy::unwrap_used)]

#[cfg(feature = "axum")]
mod axum;
mod blocking_hooks;
mod cleaners;
mod conformance;
mod cut;
mod dropped;
mod events;
#[cfg(unix)]
mod examples;
mod external;
mod file_store;
mod harness;
mod idempotency;
mod interrupted;
mod leases;
mod memory;
mod progress;
mod rejected;
mod resolve;
mod rufh;
mod shutdown;
mod single_handlers;
mod temporary;
mod tus;
