//! Landfall's own stores and lockers against the suites.

mod conformance;
mod engine;
mod faults;
