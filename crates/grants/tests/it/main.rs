//! Grants and the queue, on real databases.
#![allow(missing_docs, clippy::unwrap_used, unreachable_pub)]

mod api;
mod asked;
mod caller;
mod deliveries;
mod gate;
mod policy;
mod queue;
