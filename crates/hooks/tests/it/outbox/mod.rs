//! The outbox, on SQLite and on PostgreSQL.

mod basics;
mod failing;
#[cfg(feature = "postgres")]
mod faults;
mod headers;
mod kills;
mod nodes;
mod outage;
mod poison;
mod post;
mod progress;
mod site;
