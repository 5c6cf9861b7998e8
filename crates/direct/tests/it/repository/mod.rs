//! The repository on each database.

mod due_checks;
#[cfg(feature = "postgres")]
mod faults;
pub(crate) mod harness;
mod rows;
