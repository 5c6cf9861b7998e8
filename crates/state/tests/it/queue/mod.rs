//! The queue on SQLite and PostgreSQL.

mod bad_input;
mod basics;
mod crashes;
mod deliveries;
mod events;
mod harness;
mod hook_policy;
mod limits;
mod load;
mod maintenance;
mod model;
mod policy;
mod start;
