//! The grant API and the enforcement of grants, on real databases.
#![allow(missing_docs, clippy::unwrap_used, unreachable_pub)]

mod api;
mod enforce;
