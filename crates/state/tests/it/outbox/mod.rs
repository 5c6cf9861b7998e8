//! The outbox, on SQLite and on PostgreSQL.

mod basics;
mod crashes;
mod failures;
mod harness;
mod headers;
mod history;
#[cfg(feature = "postgres")]
mod network_faults;
mod nodes;
mod outage;
mod progress;
mod publish;
mod rejected;
mod sequence;
