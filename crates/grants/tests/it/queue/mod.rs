//! The queue on SQLite and PostgreSQL.

mod basics;
mod bounds;
mod care;
mod events;
mod kills;
mod many;
mod model;
mod poison;
pub(crate) mod site;
mod starts;
