//! Connections, outbox and queue on SQLite and PostgreSQL.
#![allow(missing_docs, clippy::unwrap_used, unreachable_pub)]

mod outbox;
mod queue;
mod sql;
