//! Integration tests of direct uploads, on real services.
#![allow(missing_docs, clippy::unwrap_used, unreachable_pub)]

mod api;
mod repository;
mod sweep;
mod uploads;
