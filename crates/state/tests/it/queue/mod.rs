//! The queue on SQLite and PostgreSQL.

mod bad_input;
mod basics;
#[cfg(feature = "postgres")]
mod contention;
mod crashes;
mod deliveries;
mod events;
mod harness;
mod hook_policy;
mod limits;
mod links;
mod load;
mod maintenance;
mod model;
#[cfg(feature = "postgres")]
mod order;
mod policy;
mod start;
