//! Authentication and grants, with real databases and local servers.
#![allow(missing_docs, clippy::unwrap_used, unreachable_pub)]

mod auth;
mod grants;
#[allow(dead_code, reason = "the queue's tests use the rest")]
#[path = "../../../state/tests/it/queue/harness.rs"]
mod harness;
