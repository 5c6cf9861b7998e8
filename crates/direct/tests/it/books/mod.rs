//! The books, on each database.

#[cfg(feature = "postgres")]
mod faults;
mod holds;
mod looks;
mod rows;
pub(crate) mod site;
