//! The S3 store and its client against real services.
#![allow(clippy::unwrap_used, missing_docs)]

mod client;
mod kills;
mod store;
mod support;
