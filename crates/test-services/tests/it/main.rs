//! The services start, end, and the proxy does what it says.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod faults;
mod services;
