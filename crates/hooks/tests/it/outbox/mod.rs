//! The outbox, on SQLite and on PostgreSQL.

mod basics;
mod headers;
mod kills;
mod nodes;
mod post;
mod progress;
mod site;
