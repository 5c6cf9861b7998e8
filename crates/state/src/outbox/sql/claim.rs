//! Claims of due rows.

use super::resolver;
use crate::sql::{Statement, push_list};

/// `None` is without limit.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OrderHold {
    /// Milliseconds after the first failed attempt.
    pub(crate) limit: Option<i64>,
}

impl OrderHold {
    /// Events that failed first at or before this time hold nothing.
    fn since(self, now: i64) -> i64 {
        self.limit
            .map_or(i64::MIN, |limit| now.saturating_sub(limit))
    }

    pub(crate) fn until(self, now: i64, due: i64) -> i64 {
        self.limit.map_or(due, |limit| now.saturating_add(limit))
    }
}

/// Skips rows that other nodes have locked. On SQLite a write transaction has exclusive access.
fn lock(is_postgres: bool) -> &'static str {
    if is_postgres {
        " FOR UPDATE OF d SKIP LOCKED"
    } else {
        ""
    }
}

/// `$3` is [`OrderHold::since`].
const UNHELD: &str = "NOT EXISTS (SELECT 1 FROM outbox_deliveries AS e WHERE e.state = 1 \
    AND e.ordering_key = d.ordering_key AND e.route = d.route AND e.sequence < d.sequence \
    AND (e.first_failed_at IS NULL OR e.first_failed_at > $3))";

const CLAIMED: &str = " RETURNING outbox_deliveries.event_id, outbox_deliveries.ordering_key, \
    outbox_deliveries.attempts, outbox_deliveries.earlier_attempts, outbox_deliveries.first_failed_at, \
    outbox_deliveries.message, outbox_deliveries.headers";

/// The row has the columns `first_0`, `retry_0`, `first_1` and so on.
pub(crate) fn due(routes: &[&str], now: i64) -> Statement {
    let mut statement = Statement::new("SELECT ");
    let now = statement.bind(now);
    for (at, route) in routes.iter().enumerate() {
        let route = statement.bind(*route);
        for attempt in [Attempt::First, Attempt::Retry] {
            let is_first = at == 0 && attempt == Attempt::First;
            let comma = if is_first { "" } else { ", " };
            let (failed, name) = (attempt.failed(), attempt.name());
            statement.push(&format!(
                "{comma}(SELECT COUNT(*) FROM (SELECT 1 FROM outbox_deliveries WHERE state = 1 \
                 AND owner_node = '' AND first_failed_at {failed} AND route = ${route} \
                 AND due_at <= ${now} ORDER BY due_at LIMIT 1) AS one) AS {name}_{at}"
            ));
        }
    }
    statement
}

/// The row has the columns `first_0`, `retry_0`, `claimed_0`, `first_1` and so on.
pub(crate) fn oldest(routes: &[&str]) -> Statement {
    let mut statement = Statement::new("SELECT ");
    for (at, route) in routes.iter().enumerate() {
        let route = statement.bind(*route);
        let kinds = [
            ("first", "owner_node = '' AND first_failed_at IS NULL"),
            ("retry", "owner_node = '' AND first_failed_at IS NOT NULL"),
            ("claimed", "owner_node <> ''"),
        ];
        for (nth, (name, kind)) in kinds.into_iter().enumerate() {
            let comma = if at == 0 && nth == 0 { "" } else { ", " };
            statement.push(&format!(
                "{comma}(SELECT MIN(due_at) FROM outbox_deliveries WHERE state = 1 AND {kind} \
                 AND route = ${route}) AS {name}_{at}"
            ));
        }
    }
    statement
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Attempt {
    First,
    Retry,
}

impl Attempt {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::Retry => "retry",
        }
    }

    const fn failed(self) -> &'static str {
        match self {
            Self::First => "IS NULL",
            Self::Retry => "IS NOT NULL",
        }
    }
}

/// First attempts: at most `limit` ordering keys, each with all its deliveries that have not failed. The
/// node with the next delivery has the key. Retries: at most `limit` single deliveries.
pub(crate) fn claim(
    attempt: Attempt,
    route: &str,
    me: &str,
    now: i64,
    hold: OrderHold,
    limit: i64,
    is_postgres: bool,
) -> Statement {
    let lock = lock(is_postgres);
    let (column, rest) = match attempt {
        Attempt::First => (
            "ordering_key",
            " AND NOT EXISTS (SELECT 1 FROM outbox_deliveries AS e WHERE e.state = 1 \
             AND e.ordering_key = outbox_deliveries.ordering_key AND e.route = $1 \
             AND e.sequence < outbox_deliveries.sequence AND e.first_failed_at > $3)",
        ),
        Attempt::Retry => ("event_id", ""),
    };
    // MATERIALIZED, so that the rows are searched and locked once. `|| ''` keeps the index of pending
    // rows from being used: the rows of the keys are looked up, not found among all pending ones.
    Statement::new(format!(
        "WITH heads AS MATERIALIZED (SELECT d.{column} FROM outbox_deliveries AS d \
         WHERE d.state = 1 AND d.owner_node = '' AND d.first_failed_at {failed} \
         AND d.route = $1 AND d.due_at <= $2 AND {UNHELD} \
         ORDER BY d.due_at LIMIT $5{lock}) \
         UPDATE outbox_deliveries SET owner_node = $4 FROM heads \
         WHERE outbox_deliveries.{column} = heads.{column} \
         AND outbox_deliveries.route = $1 AND outbox_deliveries.state = 1 \
         AND outbox_deliveries.owner_node || '' = '' \
         AND outbox_deliveries.first_failed_at {failed}{rest}{CLAIMED}",
        failed = attempt.failed(),
    ))
    .with(route)
    .with(now)
    .with(hold.since(now))
    .with(me)
    .with(limit)
}

/// Selects keys with a delivery that holds others and that `me` does not deliver in order.
pub(crate) fn owned_elsewhere(
    route: &str,
    keys: &[&str],
    me: &str,
    now: i64,
    hold: OrderHold,
) -> Statement {
    Statement::new(
        "SELECT DISTINCT ordering_key FROM outbox_deliveries WHERE state = 1 \
         AND (owner_node <> $1 OR first_failed_at IS NOT NULL) \
         AND (first_failed_at IS NULL OR first_failed_at > $2) AND route = $3 AND ordering_key IN ",
    )
    .with(me)
    .with(hold.since(now))
    .with(route)
    .list(keys.iter().copied())
}

/// Releases new pending deliveries of a route until the earlier failed deliveries of their keys no longer hold them.
/// The failed deliveries are locked: a node that is about to record the outcome of one waits, and
/// then reschedules the released ones. A delivery that another node has locked is skipped: nothing
/// delays the deliveries released behind it, and both nodes poll after the commit.
pub(crate) fn release_behind(
    route: &str,
    events: &[(&str, &str)],
    now: i64,
    hold: OrderHold,
    is_postgres: bool,
) -> Statement {
    let mut statement = Statement::new(
        "WITH failed AS MATERIALIZED (SELECT d.ordering_key, d.sequence, d.due_at, d.first_failed_at \
         FROM outbox_deliveries AS d WHERE d.state = 1 AND d.route = $1 \
         AND d.first_failed_at > $2 AND d.ordering_key IN ",
    )
    .with(route)
    .with(hold.since(now));
    push_list(&mut statement, events.iter().map(|(_, key)| *key));
    if is_postgres {
        statement.push(" FOR SHARE OF d SKIP LOCKED");
    }
    let until = match hold.limit {
        None => "f.due_at".to_owned(),
        Some(limit) => format!("f.first_failed_at + ${}", statement.bind(limit)),
    };
    statement.push(&format!(
        ") UPDATE outbox_deliveries SET owner_node = '', due_at = COALESCE((SELECT MAX({until}) \
         FROM failed AS f WHERE f.ordering_key = outbox_deliveries.ordering_key \
         AND f.sequence < outbox_deliveries.sequence), due_at) \
         WHERE state = 1 AND route = $1 AND event_id IN "
    ));
    push_list(&mut statement, events.iter().map(|(event, _)| *event));
    statement
}

/// Has a row if `me` may claim one.
pub(crate) fn is_in_doubt(me: &str, now: i64) -> Statement {
    Statement::new(format!(
        "SELECT 1 AS one WHERE EXISTS (SELECT 1 FROM outbox_deliveries WHERE state = 0 \
         AND owner_node = '' AND due_at <= $1) OR EXISTS (SELECT 1 FROM outbox_deliveries AS d \
         WHERE {KEPT})"
    ))
    .with(now)
    .with(resolver(me))
}

/// Rows that a node found busy and still resolves.
const KEPT: &str = "d.owner_node <> '' AND d.owner_node = $2 AND d.state = 0 AND d.due_at <= $1";

/// Postpones each event in case that fails.
pub(crate) fn claim_in_doubt(
    me: &str,
    now: i64,
    (min_backoff, max_backoff): (i64, i64),
    limit: i64,
    is_postgres: bool,
) -> Statement {
    let lock = lock(is_postgres);
    Statement::new(format!(
        "WITH free AS MATERIALIZED (SELECT d.event_id, d.route FROM outbox_deliveries AS d \
         WHERE d.state = 0 AND d.owner_node = '' AND d.due_at <= $1 \
         ORDER BY d.due_at LIMIT $5{lock}), \
         kept AS MATERIALIZED (SELECT d.event_id, d.route FROM outbox_deliveries AS d \
         WHERE {KEPT} ORDER BY d.due_at LIMIT $5) \
         UPDATE outbox_deliveries SET owner_node = $2, attempts = outbox_deliveries.attempts + 1, \
         due_at = $1 + CASE WHEN outbox_deliveries.attempts > 1000 \
         OR $3 * (outbox_deliveries.attempts * outbox_deliveries.attempts + 1) > $4 THEN $4 \
         ELSE $3 * (outbox_deliveries.attempts * outbox_deliveries.attempts + 1) END \
         FROM (SELECT * FROM free UNION ALL SELECT * FROM kept) AS due \
         WHERE outbox_deliveries.event_id = due.event_id \
         AND outbox_deliveries.route = due.route AND outbox_deliveries.state = 0 \
         RETURNING outbox_deliveries.event_id, outbox_deliveries.route, outbox_deliveries.message"
    ))
    .with(now)
    .with(resolver(me))
    .with(min_backoff)
    .with(max_backoff)
    .with(limit)
}
