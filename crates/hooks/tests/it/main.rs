//! Integration tests of the crate's public API.
#![allow(clippy::unwrap_used)]

mod command;
mod docs;
#[cfg(feature = "grpc")]
mod grpc;
#[cfg(feature = "http")]
mod http;
mod samples;
