//! Tests of the services and of the proxy.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod faults;
mod gcs;
mod services;
