//! Grants and the queue, on real databases.
#![allow(missing_docs, clippy::unwrap_used, unreachable_pub)]

mod api;
mod auth;
mod deliveries;
mod enforce;
mod hook_policy;
mod policy;
mod queue;
