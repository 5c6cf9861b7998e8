//! Direct uploads, on real services.
#![allow(missing_docs, clippy::unwrap_used, unreachable_pub)]

mod api;
mod books;
mod sweep;
mod uploads;
