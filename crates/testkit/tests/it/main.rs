//! Landfall's own stores, lockers and engine against the suites and the model.

#![allow(clippy::unwrap_used)]

mod conformance;
mod damaged;
mod engine;
mod engine_suite;
mod faults;
mod found;
mod model;
mod mutants;
mod power_loss;
mod sink_mutants;

#[path = "../../../landfall/examples/locker/locker.rs"]
mod own_locker;
#[path = "../../../landfall/examples/store/store.rs"]
mod own_store;
