//! SQL statements, the same for both databases.
//!
//! A row is one event for one route. With one route, the usual case, an event costs one insert, one
//! update and one delete. `owner_node` is the node that delivers or resolves the row; it is empty
//! if no node does. States and owners in conditions of partial indexes are literals.

use crate::sql::{Statement, Value};

mod claim;
mod counts;
mod failed;
mod history;
mod nodes;
#[cfg(test)]
mod tests;

pub(super) use self::{claim::*, counts::*, failed::*, history::*, nodes::*};

pub(super) const PREPARED: i64 = 0;
pub(super) const PENDING: i64 = 1;
pub(super) const DEAD: i64 = 2;

pub(super) const UNOWNED: &str = "";

/// Deliveries with the same key stay in order.
pub(super) type OrderingKey<'a> = (&'a str, &'a str);

#[derive(Debug, Clone)]
pub(super) struct NewRow<'a> {
    pub(super) event: &'a str,
    pub(super) route: &'a str,
    pub(super) key: &'a str,
    pub(super) sequence: i64,
    pub(super) hook: &'static str,
    pub(super) owner: String,
    pub(super) message: &'a str,
    /// Encrypted.
    pub(super) headers: Option<String>,
}

impl NewRow<'_> {
    pub(super) fn key_of(&self) -> (String, String) {
        (self.event.to_owned(), self.route.to_owned())
    }

    fn values(&self, state: i64, now: i64) -> [Value; 11] {
        [
            self.event.into(),
            self.route.into(),
            self.key.into(),
            self.sequence.into(),
            self.hook.into(),
            state.into(),
            self.owner.as_str().into(),
            now.into(),
            self.message.into(),
            (length(self.message) + self.headers.as_deref().map_or(0, length)).into(),
            self.headers.clone().into(),
        ]
    }
}

pub(super) fn length(message: &str) -> i64 {
    i64::try_from(message.len()).unwrap_or(i64::MAX)
}

const INSERT: &str = "INSERT INTO outbox_deliveries \
    (event_id, route, ordering_key, sequence, event_name, state, owner_node, due_at, message, bytes, \
    headers, created_at, attempts) \
    SELECT column1, column2, column3, column4, column5, column6, column7, column8, column9, \
    column10, column11, column8, 0 FROM";
const COLUMNS: [&str; 11] = [
    "TEXT", "TEXT", "TEXT", "BIGINT", "TEXT", "BIGINT", "TEXT", "BIGINT", "TEXT", "BIGINT", "TEXT",
];

fn insert(rows: &[NewRow<'_>], state: i64, now: i64, on_conflict: &str) -> Statement {
    let rows = rows.iter().map(|row| row.values(state, now));
    // `WHERE true` resolves an ambiguity of ON for SQLite.
    let tail = format!("WHERE true ON CONFLICT (event_id, route) DO {on_conflict}");
    Statement::from_rows(INSERT, rows, COLUMNS, &tail)
}

/// A prepared row gets a new owner; pending and dead rows stay unchanged.
pub(super) fn prepare(rows: &[NewRow<'_>], now: i64) -> Statement {
    let update = "UPDATE SET owner_node = excluded.owner_node WHERE outbox_deliveries.state = 0";
    insert(rows, PREPARED, now, update)
}

/// The events may have been prepared. Returns the keys of those that were not pending.
pub(super) fn emit_unprepared(rows: &[NewRow<'_>], now: i64) -> Statement {
    let update = "UPDATE SET state = 1, \
         sequence = excluded.sequence, owner_node = excluded.owner_node, due_at = excluded.due_at, \
         created_at = excluded.created_at, message = excluded.message, bytes = excluded.bytes, \
         headers = excluded.headers \
         WHERE outbox_deliveries.state = 0 RETURNING event_id, route";
    insert(rows, PENDING, now, update)
}

/// The deliveries have no owner. Existing ones stay unchanged.
pub(super) fn insert_pending(rows: &[NewRow<'_>], now: i64) -> Statement {
    insert(rows, PENDING, now, "NOTHING")
}

/// Returns the keys of events that were still prepared.
pub(super) fn emit(rows: &[NewRow<'_>], now: i64) -> Statement {
    Statement::from_rows(
        "UPDATE outbox_deliveries SET state = 1, sequence = v.column4, owner_node = v.column7, \
         due_at = v.column8, created_at = v.column8, message = v.column9, bytes = v.column10, \
         headers = v.column11 FROM",
        rows.iter().map(|row| row.values(PENDING, now)),
        COLUMNS,
        "WHERE outbox_deliveries.event_id = v.column1 \
         AND outbox_deliveries.route = v.column2 AND outbox_deliveries.state = 0 \
         RETURNING outbox_deliveries.event_id, outbox_deliveries.route",
    )
}

/// The largest sequence number, and the newest time of any event.
pub(super) fn newest() -> Statement {
    Statement::new(
        "SELECT MAX(sequence) AS sequence, MAX(at) AS at FROM \
         (SELECT last AS sequence, NULL AS at FROM outbox_sequence UNION ALL \
         SELECT MAX(sequence) AS sequence, MAX(created_at) AS at FROM outbox_deliveries) AS newest",
    )
}

pub(super) fn record_sequence(last: u64) -> Statement {
    Statement::new("UPDATE outbox_sequence SET last = $1 WHERE last < $1")
        .with(i64::try_from(last).unwrap_or(i64::MAX))
}

/// Deletes untried events that are older than a number of their ordering key.
pub(super) fn supersede(hook: &str, newest: &[(&str, i64)]) -> Statement {
    let rows = newest.iter();
    let rows = rows.map(|(key, number)| [(*key).into(), (*number).into()]);
    Statement::new(
        "DELETE FROM outbox_deliveries WHERE state = 1 AND owner_node = '' \
         AND (event_id, route) IN (SELECT d.event_id, d.route FROM",
    )
    .with(hook)
    .rows(
        rows,
        ["TEXT", "BIGINT"],
        "JOIN outbox_deliveries AS d ON d.state = 1 AND d.ordering_key = v.column1 \
         AND d.sequence < v.column2 AND d.owner_node = '' AND d.attempts = 0 \
         AND d.event_name = $1)",
    )
}

pub(super) fn delete(route: &str, events: &[&str]) -> Statement {
    Statement::new("DELETE FROM outbox_deliveries WHERE route = $1 AND event_id IN ")
        .with(route)
        .list(events.iter().copied())
}

pub(super) fn prepared(events: &[&str]) -> Statement {
    Statement::new(
        "SELECT event_id, route, message FROM outbox_deliveries WHERE state = 0 AND event_id IN ",
    )
    .list(events.iter().copied())
}

/// Any node may deliver the event. With a resolver, this requires that the node still resolves it.
pub(super) fn promote(
    event: &str,
    route: &str,
    (message, sequence): (&str, u64),
    by_resolver: Option<&str>,
    now: i64,
) -> Statement {
    let mut statement = Statement::new(
        "UPDATE outbox_deliveries SET state = 1, owner_node = '', due_at = $1, created_at = $1, \
         attempts = 0, message = $2, sequence = $3, bytes = $4 \
         WHERE event_id = $5 AND route = $6 AND state = 0",
    )
    .with(now)
    .with(message)
    .with(i64::try_from(sequence).unwrap_or(i64::MAX))
    .with(length(message))
    .with(event)
    .with(route);
    if let Some(me) = by_resolver {
        let owner = statement.bind(resolver(me));
        statement.push(&format!(" AND owner_node = ${owner}"));
    }
    statement
}

/// Requires that `me` resolves the event and that it was not prepared again since.
pub(super) fn delete_prepared(event: &str, me: &str) -> Statement {
    Statement::new(
        "DELETE FROM outbox_deliveries WHERE event_id = $1 AND state = 0 AND owner_node = $2",
    )
    .with(event)
    .with(resolver(me))
}

/// `me` could not resolve them. They keep their due time.
pub(super) fn requeue(events: &[&str], me: &str) -> Statement {
    Statement::new(
        "UPDATE outbox_deliveries SET owner_node = '' \
         WHERE state = 0 AND owner_node = $1 AND event_id IN ",
    )
    .with(resolver(me))
    .list(events.iter().copied())
}

/// The owner of rows that `me` resolves, unlike rows that it prepared.
fn resolver(me: &str) -> String {
    format!("{me}?")
}

pub(super) fn abandon_prepared(events: &[&str], me: &str, now: i64) -> Statement {
    Statement::new(
        "UPDATE outbox_deliveries SET owner_node = '', due_at = $1 \
         WHERE state = 0 AND owner_node = $2 AND event_id IN ",
    )
    .with(now)
    .with(me)
    .list(events.iter().copied())
}
