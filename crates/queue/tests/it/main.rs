//! The queue and its policies, on real databases.
#![allow(missing_docs, clippy::unwrap_used, unreachable_pub)]

mod deliveries;
mod hook_policy;
mod policy;
mod queue;
