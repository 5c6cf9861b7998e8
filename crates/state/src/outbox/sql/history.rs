//! The history of delivered events.

use std::time::SystemTime;

use crate::sql::{Statement, unix_millis};

/// Older rows are deleted.
const MAX_ROWS: i64 = 100_000;
/// Of one statement, which is executed about once a second.
const MAX_PURGED: i64 = 10_000;
const COLUMNS: &str = "event_id, route, ordering_key, event_name, created_at, attempts, last_error";
const INSERT: &str = "INSERT INTO outbox_history (event_id, route, ordering_key, event_name, created_at, attempts, \
    last_error, delivered_at) SELECT event_id, route, ordering_key, event_name, created_at, \
    earlier_attempts + attempts + 1, substr(last_error, 1, 300), CAST($2 AS BIGINT) FROM";

/// Copies delivered rows to the history. On PostgreSQL, the same statement deletes them.
pub(crate) fn record_delivered(
    route: &str,
    events: &[&str],
    now: i64,
    is_postgres: bool,
) -> Statement {
    let head = match is_postgres {
        true => "WITH delivered AS (DELETE FROM outbox_deliveries".to_owned(),
        false => format!("{INSERT} outbox_deliveries"),
    };
    let mut statement = Statement::new(format!("{head} WHERE route = $1 AND event_id IN "))
        .with(route)
        .with(now)
        .list(events.iter().copied());
    if is_postgres {
        statement.push(&format!(
            " RETURNING {COLUMNS}, earlier_attempts) {INSERT} delivered"
        ));
    }
    statement
}

/// Returns the newest deliveries of an ordering key first.
pub(crate) fn history(key: &str, limit: i64) -> Statement {
    Statement::new(format!(
        "SELECT {COLUMNS}, delivered_at FROM outbox_history WHERE ordering_key = $1 \
         ORDER BY number DESC LIMIT $2"
    ))
    .with(key)
    .with(limit)
}

/// Deletes the oldest rows: those before the first that was delivered at `then` or later, and those beyond the maximum.
pub(crate) fn purge_history(then: SystemTime, is_postgres: bool) -> Statement {
    // Nodes that purge at once do not wait for each other.
    let (max, lock) = match is_postgres {
        true => ("GREATEST", " FOR UPDATE SKIP LOCKED"),
        false => ("MAX", ""),
    };
    Statement::new(format!(
        "DELETE FROM outbox_history WHERE number IN (SELECT number FROM outbox_history WHERE number <= {max}(\
         (SELECT MAX(number) - {MAX_ROWS} FROM outbox_history), \
         COALESCE((SELECT number - 1 FROM outbox_history WHERE delivered_at >= $1 ORDER BY number LIMIT 1), \
         (SELECT MAX(number) FROM outbox_history))) ORDER BY number LIMIT {MAX_PURGED}{lock})"
    ))
    .with(unix_millis(then))
}
