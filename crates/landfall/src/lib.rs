//! Landfall.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod lease;
pub mod store;
pub mod upload;

mod compose;

pub use compose::Composer;
