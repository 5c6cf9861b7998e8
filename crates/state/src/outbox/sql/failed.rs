//! Deliveries that failed, and dead letters.

use std::time::SystemTime;

use super::{DEAD, OrderingKey, PENDING};
use crate::sql::{Statement, Value, replace_nul, unix_millis};

/// Releases deliveries that have not failed and that `me` owns. Those after the failed event become due at `due`; one that
/// was emitted late comes before the failed one and keeps its own.
pub(crate) fn release(behind: &[Behind<'_>], me: &str) -> Statement {
    Statement::new(format!(
        "UPDATE outbox_deliveries SET owner_node = '', {DUE} FROM"
    ))
    .with(me)
    .rows(
        rows_behind(behind),
        KEY_TYPES,
        "WHERE outbox_deliveries.ordering_key = v.column1 \
             AND outbox_deliveries.route = v.column2 AND outbox_deliveries.state = 1 \
             AND outbox_deliveries.first_failed_at IS NULL AND outbox_deliveries.owner_node = $1",
    )
}

/// Sets the due time of deliveries after an event that have no owner and have not failed.
pub(crate) fn reschedule(behind: &[Behind<'_>]) -> Statement {
    let head = format!("UPDATE outbox_deliveries SET {DUE} FROM");
    Statement::from_rows(
        &head,
        rows_behind(behind),
        KEY_TYPES,
        "WHERE outbox_deliveries.ordering_key = v.column1 \
         AND outbox_deliveries.route = v.column2 AND outbox_deliveries.state = 1 \
         AND outbox_deliveries.first_failed_at IS NULL AND outbox_deliveries.owner_node = ''",
    )
}

const DUE: &str = "due_at = CASE WHEN outbox_deliveries.sequence > v.column4 THEN v.column3 \
    ELSE outbox_deliveries.due_at END";

/// The deliveries of a key after one with this sequence number, and their due time.
#[derive(Debug, Clone)]
pub(crate) struct Behind<'a> {
    pub(crate) key: OrderingKey<'a>,
    pub(crate) sequence: i64,
    pub(crate) due: i64,
}

const KEY_TYPES: [&str; 4] = ["TEXT", "TEXT", "BIGINT", "BIGINT"];

fn rows_behind(behind: &[Behind<'_>]) -> impl Iterator<Item = [Value; 4]> {
    behind.iter().map(|one| {
        let (key, route) = one.key;
        [
            key.into(),
            route.into(),
            one.due.into(),
            one.sequence.into(),
        ]
    })
}

#[derive(Debug, Clone)]
pub(crate) struct Failed<'a> {
    pub(crate) event: &'a str,
    pub(crate) route: &'a str,
    pub(crate) attempts: i64,
    /// `None` for a dead letter.
    pub(crate) due: Option<i64>,
    pub(crate) error: &'a str,
}

/// `me` owns the deliveries or has just [released](release) them.
pub(crate) fn record_failures(failed: &[Failed<'_>], me: &str, now: i64) -> Statement {
    let rows = failed.iter().map(|one| {
        let state = if one.due.is_some() { PENDING } else { DEAD };
        [
            one.event.into(),
            one.route.into(),
            state.into(),
            one.due.unwrap_or(now).into(),
            one.attempts.into(),
            replace_nul(one.error).into(),
        ]
    });
    Statement::new(
        "UPDATE outbox_deliveries SET state = v.column3, owner_node = '', due_at = v.column4, \
         attempts = v.column5, last_error = v.column6, \
         first_failed_at = CASE WHEN outbox_deliveries.first_failed_at < $1 \
         THEN outbox_deliveries.first_failed_at ELSE CAST($1 AS BIGINT) END, \
         dead_at = CASE v.column3 WHEN 2 THEN CAST($1 AS BIGINT) END, \
         headers = CASE v.column3 WHEN 2 THEN NULL ELSE outbox_deliveries.headers END FROM",
    )
    .with(now)
    .with(me)
    .rows(
        rows,
        ["TEXT", "TEXT", "BIGINT", "BIGINT", "BIGINT", "TEXT"],
        "WHERE outbox_deliveries.event_id = v.column1 \
         AND outbox_deliveries.route = v.column2 AND outbox_deliveries.state = 1 \
         AND outbox_deliveries.owner_node IN ('', $2)",
    )
}

pub(crate) fn mark_dead(event: &str, route: &str, error: &str, now: i64) -> Statement {
    Statement::new(
        "UPDATE outbox_deliveries SET state = 2, owner_node = '', dead_at = $1, due_at = $1, \
         headers = NULL, last_error = $2 WHERE event_id = $3 AND route = $4",
    )
    .with(now)
    .with(replace_nul(error))
    .with(event)
    .with(route)
}

/// Events that failed since a route went down are delivered at once in order. Running retries of them
/// hold later events as if they failed first now.
pub(crate) fn recover(route: &str, since: i64, now: i64) -> [Statement; 2] {
    [
        "UPDATE outbox_deliveries SET first_failed_at = NULL, due_at = $1 WHERE state = 1 \
         AND owner_node = '' AND first_failed_at IS NOT NULL AND route = $2 \
         AND first_failed_at >= $3",
        "UPDATE outbox_deliveries SET first_failed_at = $1 WHERE state = 1 \
         AND owner_node <> '' AND route = $2 AND first_failed_at >= $3",
    ]
    .map(|sql| Statement::new(sql).with(now).with(route).with(since))
}

/// Restarts the retry time of events that are due after `latest`: the receiver may have been repaired together with this
/// server's restart, or the clock was ahead.
pub(crate) fn retry_now(route: &str, now: i64, latest: i64) -> [Statement; 2] {
    [
        "UPDATE outbox_deliveries SET due_at = $1, first_failed_at = $1 WHERE state = 1 \
         AND owner_node = '' AND first_failed_at IS NOT NULL AND route = $2 AND due_at > $3",
        "UPDATE outbox_deliveries SET due_at = $1 WHERE state = 1 \
         AND owner_node = '' AND first_failed_at IS NULL AND route = $2 AND due_at > $1 AND due_at > $3",
    ]
    .map(|sql| Statement::new(sql).with(now).with(route).with(latest))
}

/// No prepared event that is due after `latest` is resolved later than `then`.
pub(crate) fn resolve_by(then: i64, latest: i64) -> Statement {
    Statement::new(
        "UPDATE outbox_deliveries SET due_at = $1 \
         WHERE state = 0 AND owner_node = '' AND due_at > $1 AND due_at > $2",
    )
    .with(then)
    .with(latest)
}

pub(crate) fn purge_dead(then: SystemTime) -> Statement {
    Statement::new("DELETE FROM outbox_deliveries WHERE state = 2 AND dead_at < $1")
        .with(unix_millis(then))
}

/// No server has the route, and the deliveries were due before `then`.
pub(crate) fn mark_unrouted(route: &str, then: i64, now: i64) -> [Statement; 2] {
    ["IS NULL", "IS NOT NULL"].map(|failed| {
        Statement::new(format!(
            "UPDATE outbox_deliveries SET state = 2, dead_at = $1, due_at = $1, headers = NULL, \
             last_error = 'no server has this route' \
             WHERE state = 1 AND owner_node = '' AND first_failed_at {failed} AND route = $2 \
             AND due_at < $3"
        ))
        .with(now)
        .with(route)
        .with(then)
    })
}
