//! The statements, the same for both databases.
//!
//! A row is one event for one route: nearly always there is one route, and then an event costs one
//! insert, one update and one delete. `owner` is the process that has it in hand; a row without one
//! is anybody's.

use landfall_database::{Statement, Value};

pub(super) const ANNOUNCED: i64 = 0;
pub(super) const TOLD: i64 = 1;
pub(super) const DEAD: i64 = 2;

/// The name of a lane: its upload and its route.
pub(super) type LaneKey<'a> = (&'a str, &'a str);

/// Parts of `rows` in few sizes, so that few statements have to be prepared.
pub(super) fn parts<T>(mut rows: &[T]) -> impl Iterator<Item = &[T]> {
    std::iter::from_fn(move || {
        let size = [64, 16, 4, 1].into_iter().find(|n| *n <= rows.len())?;
        let (part, rest) = rows.split_at(size);
        rows = rest;
        Some(part)
    })
}

/// A row that is written.
#[derive(Debug, Clone)]
pub(super) struct NewRow<'a> {
    pub(super) event: &'a str,
    pub(super) route: &'a str,
    pub(super) upload: &'a str,
    pub(super) sequence: i64,
    pub(super) hook: &'static str,
    pub(super) owner: Option<String>,
    pub(super) message: &'a str,
}

impl NewRow<'_> {
    fn values(&self, state: i64, now: i64) -> [Value; 9] {
        [
            self.event.into(),
            self.route.into(),
            self.upload.into(),
            self.sequence.into(),
            self.hook.into(),
            state.into(),
            self.owner.clone().into(),
            now.into(),
            self.message.into(),
        ]
    }
}

const INSERT: &str = "INSERT INTO outbox_deliveries \
    (event, route, upload, sequence, hook, state, owner, due, message, since, attempts) \
    SELECT column1, column2, column3, column4, column5, column6, column7, column8, column9, \
    column8, 0 FROM (VALUES ";
const COLUMNS: [&str; 9] = [
    "TEXT", "TEXT", "TEXT", "BIGINT", "TEXT", "BIGINT", "TEXT", "BIGINT", "TEXT",
];

/// Announces. What is announced already has a new owner; what is told or dead stays as it is.
pub(super) fn announce(rows: &[NewRow<'_>], now: i64) -> Statement {
    let mut statement = Statement::new(INSERT);
    statement.push_rows(rows.iter().map(|row| row.values(ANNOUNCED, now)), COLUMNS);
    // `WHERE true` parts the two meanings of ON for SQLite.
    statement.push(
        ") AS v WHERE true ON CONFLICT (event, route) DO UPDATE SET owner = excluded.owner \
         WHERE outbox_deliveries.state = 0",
    );
    statement
}

/// Tells what may or may not have been announced. Gives back the keys of what wasn't told before.
pub(super) fn tell_anyway(rows: &[NewRow<'_>], now: i64) -> Statement {
    let mut statement = Statement::new(INSERT);
    statement.push_rows(rows.iter().map(|row| row.values(TOLD, now)), COLUMNS);
    statement.push(
        ") AS v WHERE true ON CONFLICT (event, route) DO UPDATE SET state = 1, \
         sequence = excluded.sequence, owner = excluded.owner, due = excluded.due, \
         since = excluded.since, message = excluded.message \
         WHERE outbox_deliveries.state = 0 RETURNING event, route",
    );
    statement
}

/// Stores pending deliveries that no node owns. One that exists stays as it is.
pub(super) fn insert_pending(rows: &[NewRow<'_>], now: i64) -> Statement {
    let mut statement = Statement::new(INSERT);
    statement.push_rows(rows.iter().map(|row| row.values(TOLD, now)), COLUMNS);
    statement.push(") AS v WHERE true ON CONFLICT (event, route) DO NOTHING");
    statement
}

/// Tells what this process announced. Gives back the keys of what wasn't told by another already.
pub(super) fn tell(rows: &[NewRow<'_>], now: i64) -> Statement {
    let mut statement = Statement::new(
        "UPDATE outbox_deliveries SET state = 1, sequence = v.column4, owner = v.column7, \
         due = v.column8, since = v.column8, message = v.column9 FROM (VALUES ",
    );
    statement.push_rows(rows.iter().map(|row| row.values(TOLD, now)), COLUMNS);
    statement.push(
        ") AS v WHERE outbox_deliveries.event = v.column1 \
         AND outbox_deliveries.route = v.column2 AND outbox_deliveries.state = 0 \
         RETURNING outbox_deliveries.event, outbox_deliveries.route",
    );
    statement
}

/// Deletes events of a name that wait, each lane's older than a number, and that nobody has in hand or
/// has tried to deliver.
pub(super) fn supersede(hook: &str, newest: &[(&str, i64)]) -> Statement {
    let mut statement = Statement::new(
        "DELETE FROM outbox_deliveries WHERE state = 1 AND owner IS NULL AND (event, route) IN \
         (SELECT d.event, d.route FROM (VALUES ",
    );
    let rows = newest
        .iter()
        .map(|(lane, number)| [(*lane).into(), (*number).into()]);
    statement.push_rows(rows, ["TEXT", "BIGINT"]);
    let hook = statement.give(hook);
    statement.push(&format!(
        ") AS v JOIN outbox_deliveries AS d ON d.state = 1 AND d.upload = v.column1 \
         AND d.sequence < v.column2 AND d.owner IS NULL AND d.attempts = 0 AND d.hook = ${hook})"
    ));
    statement
}

fn push_list<'a>(statement: &mut Statement, texts: impl IntoIterator<Item = &'a str>) {
    statement.push("(");
    for (at, text) in texts.into_iter().enumerate() {
        let number = statement.give(text);
        let comma = if at == 0 { "" } else { ", " };
        statement.push(&format!("{comma}${number}"));
    }
    statement.push(")");
}

/// Deletes what has arrived on a route.
pub(super) fn delete(route: &str, events: &[&str]) -> Statement {
    let mut statement =
        Statement::new("DELETE FROM outbox_deliveries WHERE route = $1 AND event IN ").with(route);
    push_list(&mut statement, events.iter().copied());
    statement
}

/// Makes the told events of lanes that `me` has anybody's, each lane not before its time.
pub(super) fn release(lanes: &[(LaneKey<'_>, i64)], me: &str) -> Statement {
    let mut statement =
        Statement::new("UPDATE outbox_deliveries SET owner = NULL, due = v.column3 FROM (VALUES ");
    let rows = lanes
        .iter()
        .map(|((upload, route), due)| [(*upload).into(), (*route).into(), (*due).into()]);
    statement.push_rows(rows, ["TEXT", "TEXT", "BIGINT"]);
    let me = statement.give(me);
    statement.push(&format!(
        ") AS v WHERE outbox_deliveries.upload = v.column1 \
         AND outbox_deliveries.route = v.column2 AND outbox_deliveries.state = 1 \
         AND outbox_deliveries.owner = ${me}"
    ));
    statement
}

/// Makes told events of a route anybody's, behind what is in their lanes.
pub(super) fn disown(route: &str, events: &[&str]) -> Statement {
    let mut statement = Statement::new(
        "UPDATE outbox_deliveries SET owner = NULL, due = COALESCE((SELECT MAX(e.due) \
         FROM outbox_deliveries AS e WHERE e.state = 1 AND e.upload = outbox_deliveries.upload \
         AND e.route = outbox_deliveries.route), due) \
         WHERE state = 1 AND route = $1 AND event IN ",
    )
    .with(route);
    push_list(&mut statement, events.iter().copied());
    statement
}

/// Declares a row dead that can't even be read.
pub(super) fn condemn(event: &str, route: &str, error: &str, now: i64) -> Statement {
    Statement::new(
        "UPDATE outbox_deliveries SET state = 2, owner = NULL, since = $1, due = $1, error = $2 \
         WHERE event = $3 AND route = $4",
    )
    .with(now)
    .with(error)
    .with(event)
    .with(route)
}

/// A delivery that failed.
#[derive(Debug, Clone)]
pub(super) struct Failed<'a> {
    pub(super) event: &'a str,
    pub(super) route: &'a str,
    pub(super) attempts: i64,
    /// When it is tried again; `None` if it is dead.
    pub(super) due: Option<i64>,
    pub(super) error: &'a str,
}

/// Notes failures in rows that were just [released](release).
pub(super) fn note_failed(failed: &[Failed<'_>], now: i64) -> Statement {
    let rows = failed.iter().map(|one| {
        let state = if one.due.is_some() { TOLD } else { DEAD };
        [
            one.event.into(),
            one.route.into(),
            state.into(),
            one.due.unwrap_or(now).into(),
            one.attempts.into(),
            // PostgreSQL keeps no U+0000.
            one.error.replace('\0', "\u{fffd}").into(),
        ]
    });
    // `since` of a dead one is when it died, by which it is kept.
    let mut statement = Statement::new(
        "UPDATE outbox_deliveries SET state = v.column3, due = v.column4, attempts = v.column5, \
         error = v.column6, \
         since = CASE v.column3 WHEN 2 THEN v.column4 ELSE outbox_deliveries.since END \
         FROM (VALUES ",
    );
    statement.push_rows(rows, ["TEXT", "TEXT", "BIGINT", "BIGINT", "BIGINT", "TEXT"]);
    statement.push(
        ") AS v WHERE outbox_deliveries.event = v.column1 \
         AND outbox_deliveries.route = v.column2 AND outbox_deliveries.state = 1 \
         AND outbox_deliveries.owner IS NULL",
    );
    statement
}

/// Of a route's uploads, those of which something told isn't `me`'s.
pub(super) fn not_mine(route: &str, uploads: &[&str], me: &str) -> Statement {
    let mut statement = Statement::new(
        "SELECT DISTINCT upload FROM outbox_deliveries \
         WHERE state = 1 AND (owner IS NULL OR owner <> $1) AND route = $2 AND upload IN ",
    )
    .with(me)
    .with(route);
    push_list(&mut statement, uploads.iter().copied());
    statement
}

/// What is announced of these events.
pub(super) fn announced(events: &[&str]) -> Statement {
    let mut statement = Statement::new(
        "SELECT event, route, message FROM outbox_deliveries WHERE state = 0 AND event IN ",
    );
    push_list(&mut statement, events.iter().copied());
    statement
}

/// Makes something announced told, for anybody to deliver, with the message and its place as they are
/// now. With a `settler`, only if that one still settles it.
pub(super) fn promote(
    event: &str,
    route: &str,
    (message, sequence): (&str, u64),
    by_settler: Option<&str>,
    now: i64,
) -> Statement {
    let mut statement = Statement::new(
        "UPDATE outbox_deliveries SET state = 1, owner = NULL, due = $1, since = $1, \
         attempts = 0, message = $2, sequence = $3 \
         WHERE event = $4 AND route = $5 AND state = 0",
    )
    .with(now)
    .with(message)
    .with(i64::try_from(sequence).unwrap_or(i64::MAX))
    .with(event)
    .with(route);
    if let Some(me) = by_settler {
        let owner = statement.give(settler(me));
        statement.push(&format!(" AND owner = ${owner}"));
    }
    statement
}

/// Forgets something announced that `me` settles and that nobody announced again meanwhile.
pub(super) fn forget(event: &str, me: &str) -> Statement {
    Statement::new("DELETE FROM outbox_deliveries WHERE event = $1 AND state = 0 AND owner = $2")
        .with(event)
        .with(settler(me))
}

/// Puts back announcements that `me` couldn't settle, to be taken again when they are due.
pub(super) fn put_back(events: &[&str], me: &str) -> Statement {
    let mut statement = Statement::new(
        "UPDATE outbox_deliveries SET owner = NULL WHERE state = 0 AND owner = $1 AND event IN ",
    )
    .with(settler(me));
    push_list(&mut statement, events.iter().copied());
    statement
}

/// The owner of what `me` settles, which isn't what it announced.
fn settler(me: &str) -> String {
    format!("{me}?")
}

/// Gives up announcements of `me`, for anybody to settle.
pub(super) fn give_up(events: &[&str], me: &str, now: i64) -> Statement {
    let mut statement =
        Statement::new("UPDATE outbox_deliveries SET owner = NULL, due = $1 FROM (VALUES ")
            .with(now);
    statement.push_rows(events.iter().map(|event| [(*event).into()]), ["TEXT"]);
    let me = statement.give(me);
    statement.push(&format!(
        ") AS v WHERE outbox_deliveries.event = v.column1 AND outbox_deliveries.state = 0 \
         AND outbox_deliveries.owner = ${me}"
    ));
    statement
}

/// Whether something in this state is due and anybody's.
pub(super) fn is_due(state: i64, now: i64) -> Statement {
    // The state stands in the text, so that the partial indexes serve.
    Statement::new(format!(
        "SELECT due FROM outbox_deliveries WHERE state = {state} AND owner IS NULL AND due <= $1 \
         LIMIT 1"
    ))
    .with(now)
}

/// Locks rows against other nodes, and passes over what they have locked. Where a transaction that
/// writes has the database for itself there is no need.
fn lock(is_postgres: bool, what: &str) -> String {
    if is_postgres {
        format!(" FOR UPDATE OF {what} SKIP LOCKED")
    } else {
        String::new()
    }
}

/// Claims lanes whose first event is due: at most `most` of them, with all that is in them. The
/// first of a lane is what has to be delivered next, whoever has it: so nobody claims behind another.
pub(super) fn claim(
    routes: &[&str],
    me: &str,
    now: i64,
    most: i64,
    is_postgres: bool,
) -> Statement {
    let lock = lock(is_postgres, "d");
    // MATERIALIZED, so that the rows are looked for, and locked, once.
    let mut statement = Statement::new(
        "WITH heads AS MATERIALIZED (SELECT d.upload, d.route FROM outbox_deliveries AS d \
         WHERE d.state = 1 AND d.owner IS NULL AND d.due <= $1 \
         AND NOT EXISTS (SELECT 1 FROM outbox_deliveries AS e WHERE e.state = 1 \
         AND e.upload = d.upload AND e.route = d.route AND e.sequence < d.sequence) \
         AND d.route IN ",
    )
    .with(now);
    push_list(&mut statement, routes.iter().copied());
    let most = statement.give(most);
    let me = statement.give(me);
    statement.push(&format!(
        " ORDER BY d.due LIMIT ${most}{lock}) \
         UPDATE outbox_deliveries SET owner = ${me} FROM heads \
         WHERE outbox_deliveries.upload = heads.upload \
         AND outbox_deliveries.route = heads.route \
         AND outbox_deliveries.state = 1 AND outbox_deliveries.owner IS NULL \
         RETURNING outbox_deliveries.event, outbox_deliveries.route, \
         outbox_deliveries.attempts, outbox_deliveries.since, outbox_deliveries.message"
    ));
    statement
}

/// Takes announcements that are due for settling, and puts each off in case this comes to nothing.
pub(super) fn take_unsettled(
    me: &str,
    now: i64,
    (first, longest): (i64, i64),
    most: i64,
    pg: bool,
) -> Statement {
    let lock = lock(pg, "d");
    Statement::new(format!(
        "WITH due AS MATERIALIZED (SELECT d.event, d.route FROM outbox_deliveries AS d \
         WHERE d.state = 0 AND d.owner IS NULL AND d.due <= $1 ORDER BY d.due LIMIT $4{lock}) \
         UPDATE outbox_deliveries SET owner = $5, attempts = outbox_deliveries.attempts + 1, \
         due = $1 + CASE WHEN outbox_deliveries.attempts > 1000 \
         OR $2 * (outbox_deliveries.attempts * outbox_deliveries.attempts + 1) > $3 THEN $3 \
         ELSE $2 * (outbox_deliveries.attempts * outbox_deliveries.attempts + 1) END \
         FROM due WHERE outbox_deliveries.event = due.event \
         AND outbox_deliveries.route = due.route AND outbox_deliveries.state = 0 \
         RETURNING outbox_deliveries.event, outbox_deliveries.route, outbox_deliveries.message"
    ))
    .with(now)
    .with(first)
    .with(longest)
    .with(most)
    .with(settler(me))
}

/// Says that a node lives until a time; changes nothing if it counts as gone.
pub(super) fn renew(me: &str, until: i64) -> Statement {
    Statement::new("UPDATE outbox_nodes SET until = $2 WHERE node = $1")
        .with(me)
        .with(until)
}

/// Makes a node known.
pub(super) fn enter(me: &str, until: i64) -> Statement {
    Statement::new(
        "INSERT INTO outbox_nodes (node, until) VALUES ($1, $2) \
         ON CONFLICT (node) DO UPDATE SET until = excluded.until",
    )
    .with(me)
    .with(until)
}

/// Ends the waits between deliveries.
pub(super) fn hurry(now: i64) -> Statement {
    Statement::new(
        "UPDATE outbox_deliveries SET due = $1 WHERE state = 1 AND owner IS NULL AND due > $1",
    )
    .with(now)
}

/// Strikes this node off.
pub(super) fn leave(me: &str) -> Statement {
    Statement::new("DELETE FROM outbox_nodes WHERE node = $1").with(me)
}

/// What time it is for PostgreSQL.
pub(super) fn time() -> Statement {
    Statement::new("SELECT CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS BIGINT)")
}

/// All nodes and until when they live.
pub(super) fn nodes() -> Statement {
    Statement::new("SELECT node, until FROM outbox_nodes")
}

/// Strikes a node off, if it hasn't said since that it lives.
pub(super) fn strike(node: &str, until: i64) -> Statement {
    Statement::new("DELETE FROM outbox_nodes WHERE node = $1 AND until = $2")
        .with(node)
        .with(until)
}

/// Makes what a node had anybody's.
pub(super) fn inherit(node: &str, state: i64, due: i64) -> Statement {
    Statement::new(format!(
        "UPDATE outbox_deliveries SET owner = NULL, due = $1 \
         WHERE state = {state} AND owner IN ($2, $3)"
    ))
    .with(due)
    .with(node)
    .with(settler(node))
}

/// Makes what nodes had that nobody knows any more anybody's.
pub(super) fn inherit_lost(state: i64, now: i64) -> Statement {
    Statement::new(format!(
        "UPDATE outbox_deliveries SET owner = NULL, due = $1 WHERE state = {state} \
         AND owner IS NOT NULL AND rtrim(owner, '?') NOT IN (SELECT node FROM outbox_nodes)"
    ))
    .with(now)
}

/// Deletes the dead that died before `then`.
pub(super) fn bury(then: i64) -> Statement {
    Statement::new("DELETE FROM outbox_deliveries WHERE state = 2 AND since < $1").with(then)
}

/// Deletes the dead that died first.
pub(super) fn bury_oldest(most: i64) -> Statement {
    Statement::new(
        "DELETE FROM outbox_deliveries WHERE (event, route) IN \
         (SELECT event, route FROM outbox_deliveries WHERE state = 2 ORDER BY since LIMIT $1)",
    )
    .with(most)
}

/// Declares what waits for other routes than these, told before `then`, dead.
pub(super) fn orphans(routes: &[&str], then: i64, now: i64) -> Statement {
    let mut statement = Statement::new(
        "UPDATE outbox_deliveries SET state = 2, owner = NULL, since = $1, due = $1, \
         error = 'no server has this route any more' \
         WHERE state = 1 AND owner IS NULL AND since < $2",
    )
    .with(now)
    .with(then);
    if !routes.is_empty() {
        statement.push(" AND route NOT IN ");
        push_list(&mut statement, routes.iter().copied());
    }
    statement
}

/// How many rows each route has in a state, and since when the oldest.
pub(super) fn count(state: i64) -> Statement {
    Statement::new(format!(
        "SELECT route, COUNT(*), MIN(due) FROM outbox_deliveries WHERE state = {state} \
         GROUP BY route"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_of_few_sizes_and_miss_nothing() {
        let rows: Vec<_> = (0..151).collect();
        let sizes: Vec<_> = parts(&rows).map(<[_]>::len).collect();
        assert_eq!(sizes, [64, 64, 16, 4, 1, 1, 1]);
        assert_eq!(parts(&rows).flatten().copied().collect::<Vec<_>>(), rows);
        assert_eq!(parts(&rows[..0]).count(), 0);
    }
}
