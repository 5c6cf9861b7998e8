//! The S3 store and its client against real services.
#![allow(clippy::unwrap_used, missing_docs)]

mod claims;
mod client;
mod damaged;
mod etag;
mod faults;
mod kills;
mod late;
mod layout;
mod leases;
mod nodes;
mod requests;
mod sizes;
mod stale;
mod store;
mod support;
mod sweeps;
mod takeovers;
