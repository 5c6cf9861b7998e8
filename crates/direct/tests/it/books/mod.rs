//! The books, on each database.

mod holds;
mod looks;
mod rows;
pub(crate) mod site;
