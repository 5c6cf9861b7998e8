//! Direct uploads, on real services.
#![allow(missing_docs, clippy::unwrap_used, unreachable_pub)]

mod books;
mod uploads;
