//! Assigns the numbers of jobs and events, and tells up to which number all events are visible.
//!
//! Numbers of jobs may be committed in any order. Readers of events resume after a number, so they must not pass a
//! number whose transaction has not ended. No lock orders the writers; readers stop at the *horizon* instead:
//!
//! 1. A writer reads the last number `L` of the sequence, takes a shared advisory lock on `L` that it holds until its
//!    transaction ends, and only then takes its numbers. They are greater than `L`. Shared locks never wait.
//! 2. A reader reads the last number `S`, and then the lowest `L` that is locked. The horizon is the lower of both.
//! 3. A number `n` up to the horizon was taken before `S` was read, under a lock on some `L` below `n`. That lock is
//!    not among those of step 2, so it was released, which PostgreSQL does after the commit is visible. A *later* statement
//!    therefore sees the rows of all numbers up to the horizon, and no row of them appears afterwards.
//!
//! Both can have gaps. Locks of 32 bits suffice: no transaction lasts for 2³¹ numbers.
//!
//! Nodes of the release before take an exclusive lock before their numbers and until their end. It is taken shared
//! here, so that they exclude this version's writers, and a reader knows from it that such a node has taken numbers.

use std::time::Duration;

use sha2::{Digest as _, Sha256};
use tokio::time::sleep;

use super::{QueueError, shared::Shared, types::from_digest};
use crate::sql::{Connections, Statement, Transaction};

/// The class of the advisory locks on the numbers of events.
const LOCK_CLASS: i32 = 700_246_134;
/// Between two reads while nodes of the release before write.
const POLL_INTERVAL: Duration = Duration::from_millis(5);
const MAX_POLLS: u32 = 200;

#[derive(Debug, Clone, Copy)]
pub(super) enum Sequence {
    Jobs,
    Events,
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
            "SELECT nextval('queue_job_number') AS number FROM generate_series(1, $1)".to_owned()
        }
        // Materialized: the locks are taken before the first number.
        Sequence::Events => format!(
            "WITH locked AS MATERIALIZED (SELECT pg_advisory_xact_lock_shared(7002461339), \
             pg_advisory_xact_lock_shared({LOCK_CLASS}, CAST(CAST({LAST} AS BIT(32)) AS INTEGER)) \
             FROM queue_event_number) \
             SELECT nextval('queue_event_number') AS number FROM locked, generate_series(1, $1)"
        ),
    };
    let rows = transaction.fetch(Statement::new(next).with(count)).await?;
    Ok(rows
        .iter()
        .map(|row| row.number("number"))
        .collect::<Result<_, _>>()?)
}

/// The columns of a sequence are changed in place: each is read once.
const LAST: &str = "CASE WHEN is_called THEN last_value ELSE 0 END";

/// Returns the number of the last event, whose row may not be visible yet.
pub(super) async fn last_event(database: &Connections) -> Result<i64, QueueError> {
    let last = match database.is_postgres() {
        true => format!("SELECT {LAST} AS seq FROM queue_event_number"),
        false => "SELECT seq FROM sqlite_sequence WHERE name = 'queue_events'".to_owned(),
    };
    let rows = database.read(Statement::new(last)).await?;
    Ok(rows.first().map_or(Ok(0), |row| row.number("seq"))?)
}

/// Returns the number up to which events can be read: later statements see all of them. Waits only for nodes of the release before.
pub(super) async fn horizon(shared: &Shared) -> Result<i64, QueueError> {
    if !shared.database.is_postgres() {
        return last_event(&shared.database).await;
    }
    let mut older: Option<(String, i64)> = None;
    for _ in 0..MAX_POLLS {
        let rows = shared.database.read(horizon_at(shared.visible())).await?;
        let Some(row) = rows.first() else {
            break;
        };
        let issued = row.number("issued")?;
        let lowest = row.opt_number("lowest")?.unwrap_or(issued).min(issued);
        let holder = row.opt_text("holder")?;
        // While a node of the release before has the lock, all other transactions with numbers have ended. Its own
        // has ended once another has the lock.
        let visible = match (&older, &holder) {
            (_, None) => Some(lowest),
            (Some((before, issued)), Some(holder)) if before != holder => Some(*issued),
            _ => None,
        };
        if let Some(visible) = visible {
            return Ok(shared.set_visible(visible));
        }
        if let (None, Some(holder)) = (&older, holder) {
            older = Some((holder, lowest));
        }
        sleep(POLL_INTERVAL).await;
    }
    Ok(shared.visible())
}

/// The locks are listed after the sequence is read, and only if its number is above `known`.
fn horizon_at(known: i64) -> Statement {
    Statement::new(format!(
        "WITH sequence AS MATERIALIZED (SELECT {LAST} AS issued FROM queue_event_number) \
         SELECT issued, lowest, holder FROM sequence LEFT JOIN LATERAL (SELECT \
         MIN(((CAST(objid AS BIGINT) - issued + 2147483648) & 4294967295) - 2147483648 + issued) \
         FILTER (WHERE objsubid = 2) AS lowest, \
         MIN(virtualtransaction) FILTER (WHERE objsubid = 1) AS holder \
         FROM pg_locks WHERE issued > $1 AND locktype = 'advisory' AND granted AND database = \
         (SELECT oid FROM pg_database WHERE datname = current_database()) AND \
         (classid = {LOCK_CLASS} AND objsubid = 2 OR mode = 'ExclusiveLock' AND objsubid = 1 \
         AND classid = 1 AND CAST(objid AS BIGINT) = 7002461339 - 4294967296)) AS locks ON true"
    ))
    .with(known)
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
