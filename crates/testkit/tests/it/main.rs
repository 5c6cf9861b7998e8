//! Landfall's own stores, lockers and engine against the suites and the model.

#![allow(clippy::unwrap_used)]

mod conformance;
mod engine;
mod faults;
mod mutants;
