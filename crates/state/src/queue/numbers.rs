//! Assigns the numbers of jobs and events, and derives the keys of advisory locks.
//!
//! Event numbers must become visible in order. On PostgreSQL, the lock for them is held until the transaction ends, so
//! take them last. Numbers of jobs may be committed in any order. Both can have gaps.

use sha2::{Digest as _, Sha256};

use super::QueueError;
use crate::sql::{Connections, Statement, Transaction};

#[derive(Debug, Clone, Copy)]
pub(super) enum Sequence {
    /// Concurrent transactions may commit their numbers in any order.
    Jobs,
    /// Readers resume after a number, so events become visible in the order of their numbers: only
    /// one transaction at a time may take numbers, until it ends.
    Events,
}

pub(super) fn from_digest(digest: &[u8]) -> i64 {
    digest
        .first_chunk()
        .map_or(0, |first| i64::from_be_bytes(*first))
}

pub(super) async fn take(
    transaction: &mut Transaction,
    sequence: Sequence,
    count: usize,
) -> Result<Vec<i64>, QueueError> {
    if count == 0 {
        return Ok(Vec::new());
    }
    let count = i64::try_from(count).unwrap_or(i64::MAX);
    if !transaction.is_postgres() {
        let table = match sequence {
            Sequence::Jobs => "queue_jobs",
            Sequence::Events => "queue_events",
        };
        let next = Statement::new(
            "UPDATE sqlite_sequence SET seq = seq + $1 WHERE name = $2 RETURNING seq",
        );
        let rows = transaction.fetch(next.with(count).with(table)).await?;
        let last = rows.first().map_or(Ok(0), |row| row.number("seq"))?;
        return Ok((last - count + 1..=last).collect());
    }
    let next = match sequence {
        Sequence::Jobs => {
            "SELECT nextval('queue_job_number') AS number FROM generate_series(1, $1)"
        }
        Sequence::Events => {
            let lock = "SELECT pg_advisory_xact_lock(7002461339)";
            transaction.execute(Statement::new(lock)).await?;
            "SELECT nextval('queue_event_number') AS number FROM generate_series(1, $1)"
        }
    };
    let rows = transaction.fetch(Statement::new(next).with(count)).await?;
    Ok(rows
        .iter()
        .map(|row| row.number("number"))
        .collect::<Result<_, _>>()?)
}

/// Returns the number of the last event, whose row may not be visible yet.
pub(super) async fn last_event(database: &Connections) -> Result<i64, QueueError> {
    let last = if database.is_postgres() {
        "SELECT CASE WHEN is_called THEN last_value ELSE 0 END AS seq FROM queue_event_number"
    } else {
        "SELECT seq FROM sqlite_sequence WHERE name = 'queue_events'"
    };
    let rows = database.read(Statement::new(last)).await?;
    Ok(rows.first().map_or(Ok(0), |row| row.number("seq"))?)
}

/// A collision only causes waiting.
pub(super) fn lock_key(kind: &str, name: &str) -> i64 {
    let mut hash = Sha256::new();
    for text in ["landfall queue", kind, name] {
        hash.update(text);
        hash.update([0]);
    }
    from_digest(&hash.finalize())
}
