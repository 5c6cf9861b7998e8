//! The state of Landfall in a database: SQLite in a file, or PostgreSQL for several nodes.
//!
//! [`sql`] connects to the database and knows no stored row. [`outbox`] stores events until
//! they are delivered, and [`queue`] the upload jobs with their tokens, quotas and events; a job's event
//! and its deliveries are written in one transaction. `outbox` does not know the queue.
//!
//! It must not serve HTTP, call receivers otherwise than by a `Transport`, or read the store of uploads.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod outbox;
pub mod queue;
pub mod sql;
mod writer;
