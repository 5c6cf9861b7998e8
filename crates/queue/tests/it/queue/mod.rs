//! The queue on SQLite and PostgreSQL.

mod bad_input;
mod basics;
mod crashes;
mod events;
pub(crate) mod harness;
mod limits;
mod load;
mod maintenance;
mod model;
mod start;
