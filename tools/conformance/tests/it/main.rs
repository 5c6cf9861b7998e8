//! The checks are checked: a reference server passes them, and servers with one fault each are caught.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod command;
mod draft;
mod mutants;
mod reference;
mod reports;
