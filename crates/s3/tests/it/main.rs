//! The S3 store and its client against real services.
#![allow(clippy::unwrap_used, missing_docs)]

mod client;
mod crashes;
mod damaged;
mod denials;
mod etag;
mod faults;
mod idempotency;
mod layout;
mod lease_loss;
mod leases;
mod nodes;
mod refusals;
mod remains;
mod requests;
mod sizes;
mod stale;
mod store;
mod support;
mod sweeps;
mod takeovers;
