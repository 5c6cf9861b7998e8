//! Lists, retries and deletes stored events for an operator, next to a running server or without one.
//!
//! Changes neither prepared events nor deliveries that a server has claimed. `Events::open` creates no file, and only
//! checks the version of existing tables.

use std::{collections::BTreeSet, time::SystemTime};

use landfall_hooks::{Message, rfc3339};
use serde::{Deserialize, Serialize};

use super::{Outbox, OutboxError, migrate, sql};
use crate::sql::{
    Connections, Database, DatabaseError, Durability, Row, Statement, Transaction, Value,
    from_unix_millis, push_list, replace_nul, unsigned,
};

/// A condition: the event is pending, has failed and is retried.
const RETRYING: &str = "(state = 1 AND first_failed_at IS NOT NULL)";

/// An event that has been due for longer waits for something.
const LATE_MILLIS: i64 = 5000;

/// The events in the database of an outbox. Running servers notice changes within seconds.
///
/// # Errors
/// All methods fail if the database fails.
///
/// # Cancel safety
/// Dropped, a change was done completely or not at all.
#[derive(Debug)]
pub struct Events {
    database: Connections,
}

/// A query for stored events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    /// The states; dead by default.
    pub states: Vec<EventState>,
    /// Also pending events that have failed and are retried, or whose attempt is late: their receiver fails, or no
    /// server runs.
    pub retrying: bool,
    /// Only this route.
    pub route: Option<String>,
    /// Only this upload or job, as in [`StoredEvent::upload`].
    pub upload: Option<String>,
    /// Only these failed events, whatever the states.
    pub group: Option<EventGroup>,
    /// The order; newest first by default.
    pub order: SortOrder,
    /// Maximum number of events; 100 by default.
    pub limit: usize,
}

impl Default for Query {
    fn default() -> Self {
        Self {
            states: vec![EventState::Dead],
            retrying: false,
            route: None,
            upload: None,
            group: None,
            order: SortOrder::Newest,
            limit: 100,
        }
    }
}

/// The order of listed events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SortOrder {
    /// The newest first.
    #[default]
    Newest,
    /// The oldest first.
    Oldest,
}

/// A selection of events to retry or delete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EventSelection {
    /// Dead letters and pending events with these ids, for all routes.
    Ids(Vec<String>),
    /// Dead letters with these ids, for all routes.
    DeadIds(Vec<String>),
    /// All dead letters of a route, or of all.
    Dead(Option<String>),
    /// All dead letters, and pending events that have failed; of a route, or of all.
    Failed(Option<String>),
    /// All of a group.
    Group(EventGroup),
}

/// Identifies events of one name and route whose last attempts failed with the same error: dead letters, or pending ones
/// that are retried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EventGroup {
    /// The route.
    #[serde(rename = "transport")]
    pub route: String,
    /// The event name.
    pub event: String,
    /// The error; empty if there is none.
    pub error: String,
    /// Dead or pending.
    pub state: EventState,
}

/// The number of events of a group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct FailedEvents {
    /// The group.
    #[serde(flatten)]
    pub group: EventGroup,
    /// The number of events.
    pub count: u64,
    /// The time at which the first of them became a dead letter, or failed.
    #[serde(with = "rfc3339")]
    pub since: SystemTime,
}

/// The result of a retry or deletion of events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changed {
    /// The number of deliveries, one per event and route.
    pub count: u64,
    /// Their [uploads](StoredEvent::upload), if the events were selected by their ids.
    pub uploads: BTreeSet<String>,
}

/// The state of a stored event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EventState {
    /// The event may happen.
    Prepared,
    /// The event happened and is to be delivered.
    Pending,
    /// The event is a dead letter.
    Dead,
}

impl EventState {
    const fn from_number(number: i64) -> Self {
        match number {
            sql::PREPARED => Self::Prepared,
            sql::PENDING => Self::Pending,
            _ => Self::Dead,
        }
    }

    const fn number(self) -> i64 {
        match self {
            Self::Prepared => sql::PREPARED,
            Self::Pending => sql::PENDING,
            Self::Dead => sql::DEAD,
        }
    }
}

/// A stored event for one route.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct StoredEvent {
    /// The event id.
    pub id: String,
    /// The route.
    #[serde(rename = "transport")]
    pub route: String,
    /// The event name.
    pub event: String,
    /// The upload id, or `job:` and the job number for job events.
    #[serde(rename = "upload_id")]
    pub upload: String,
    /// The state.
    pub state: EventState,
    /// Failed attempts.
    pub attempts: u64,
    /// The error of the last attempt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The time at which the event was prepared, or became pending.
    #[serde(with = "rfc3339")]
    pub created_at: SystemTime,
    /// The time at which the event became a dead letter.
    #[serde(with = "rfc3339::option", skip_serializing_if = "Option::is_none")]
    pub dead_at: Option<SystemTime>,
    /// The time of the next attempt of a pending event.
    #[serde(with = "rfc3339::option", skip_serializing_if = "Option::is_none")]
    pub due_at: Option<SystemTime>,
    /// The message; `None` if it cannot be parsed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<Message>,
}

/// An event that was delivered to one route.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct DeliveredEvent {
    /// The event id.
    pub id: String,
    /// The route.
    #[serde(rename = "transport")]
    pub route: String,
    /// The event name.
    pub event: String,
    /// Attempts, with the successful one.
    pub attempts: u64,
    /// The time at which the event became pending.
    #[serde(with = "rfc3339")]
    pub created_at: SystemTime,
    /// The time at which it was delivered.
    #[serde(with = "rfc3339")]
    pub delivered_at: SystemTime,
    /// The beginning of the error of the last failed attempt.
    pub error: Option<String>,
}

impl StoredEvent {
    /// Returns since when the event is in its state.
    #[must_use]
    pub fn since(&self) -> SystemTime {
        self.dead_at.unwrap_or(self.created_at)
    }
}

impl Outbox {
    /// Returns the stored events, over the outbox's connections.
    #[must_use]
    pub fn events(&self) -> Events {
        let database = self.shared.database.clone();
        Events { database }
    }
}

impl Events {
    /// Opens the database of an outbox.
    ///
    /// # Errors
    /// The database cannot be opened, or the file does not exist.
    pub async fn open(database: &Database) -> Result<Self, OutboxError> {
        if let Database::Sqlite(file) = database
            && let Err(source) = std::fs::metadata(file)
        {
            let path = file.clone();
            return Err(DatabaseError::Create { path, source }.into());
        }
        let database = database.open(Durability::PowerLoss).await?;
        let database = database.without_migrations();
        migrate(&database).await?;
        Ok(Self { database })
    }

    /// Lists events.
    pub async fn list(&self, query: &Query) -> Result<Vec<StoredEvent>, OutboxError> {
        let mut statement = Statement::new(
            "SELECT event_id, route, event_name, ordering_key, state, attempts + earlier_attempts AS attempts, \
             last_error, created_at, dead_at, due_at, message FROM outbox_deliveries WHERE ",
        );
        if query.states.is_empty() {
            return Ok(Vec::new());
        }
        // Literals: the indexes are partial.
        let states = query.states.iter();
        let mut states: Vec<_> = states
            .map(|state| format!("state = {}", state.number()))
            .collect();
        if query.retrying {
            let late = self.database.clock().millis() - LATE_MILLIS;
            states.push(format!("{RETRYING} OR (state = 1 AND due_at < {late})"));
        }
        if query.group.is_some() {
            states = vec!["TRUE".to_owned()];
        }
        statement.push(&format!("({})", states.join(" OR ")));
        for (column, value) in [("route", &query.route), ("ordering_key", &query.upload)] {
            if let Some(value) = value {
                let number = statement.bind(value.as_str());
                statement.push(&format!(" AND {column} = ${number}"));
            }
        }
        if let Some(group) = &query.group {
            push_group(&mut statement, group);
        }
        let limit = statement.bind(i64::try_from(query.limit).unwrap_or(i64::MAX));
        let direction = match query.order {
            SortOrder::Newest => "DESC",
            SortOrder::Oldest => "ASC",
        };
        statement.push(&format!(
            " ORDER BY COALESCE(dead_at, created_at) {direction}, sequence {direction} LIMIT ${limit}"
        ));
        let rows = self.database.read(statement).await?;
        rows.iter().map(|row| Ok(stored_event(row)?)).collect()
    }

    /// Lists the newest delivered events of an [upload](StoredEvent::upload), newest first.
    pub async fn history(
        &self,
        upload: &str,
        limit: usize,
    ) -> Result<Vec<DeliveredEvent>, OutboxError> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let rows = self.database.read(sql::history(upload, limit)).await?;
        let event = |row: &Row| {
            Ok::<_, DatabaseError>(DeliveredEvent {
                id: row.text("event_id")?,
                route: row.text("route")?,
                event: row.text("event_name")?,
                attempts: unsigned(row.number("attempts")?),
                error: row.opt_text("last_error")?,
                created_at: from_unix_millis(row.number("created_at")?),
                delivered_at: from_unix_millis(row.number("delivered_at")?),
            })
        };
        Ok(rows.iter().map(event).collect::<Result<_, _>>()?)
    }

    /// Counts the newest 10,000 dead letters, and as many events that are retried, by event, route and error; the largest
    /// 50 groups, largest first.
    pub async fn failed(&self) -> Result<Vec<FailedEvents>, OutboxError> {
        let rows = self.database.read(failed_events()).await?;
        let group = |row: &Row| {
            Ok::<_, DatabaseError>(FailedEvents {
                group: EventGroup {
                    route: row.text("route")?,
                    event: row.text("event_name")?,
                    error: row.text("error")?,
                    state: EventState::from_number(row.number("state")?),
                },
                count: unsigned(row.number("events")?),
                since: from_unix_millis(row.number("since")?),
            })
        };
        Ok(rows.iter().map(group).collect::<Result<_, _>>()?)
    }

    /// Retries events at once, for as long as new ones. Pending ones that have failed still count as such.
    ///
    /// Deliveries that a server has claimed are not changed.
    pub async fn retry(&self, selection: &EventSelection) -> Result<Changed, OutboxError> {
        let mut transaction = self.database.write().await?;
        let now = transaction.now();
        let statement = Statement::new(
            "UPDATE outbox_deliveries SET state = 1, owner_node = '', due_at = $1, attempts = 0, \
             earlier_attempts = earlier_attempts + attempts, dead_at = NULL, \
             first_failed_at = CASE WHEN first_failed_at IS NOT NULL AND state = 1 THEN CAST($1 AS BIGINT) END \
             WHERE (state = 2 OR (state = 1 AND owner_node = ''))",
        );
        let retried = change(&mut transaction, statement.with(now), selection).await?;
        transaction.commit().await?;
        Ok(changed(retried))
    }

    /// Deletes events.
    ///
    /// Deliveries that a server has claimed are not changed.
    pub async fn delete(&self, selection: &EventSelection) -> Result<Changed, OutboxError> {
        let delete = Statement::new(
            "DELETE FROM outbox_deliveries \
             WHERE (state = 2 OR (state = 1 AND owner_node = ''))",
        );
        let mut transaction = self.database.write().await?;
        let deleted = change(&mut transaction, delete, selection).await?;
        // The deleted events may have held later ones; a dead letter holds none.
        if matches!(selection, EventSelection::Ids(_)) {
            let now = transaction.now();
            let followers = deleted.1.iter();
            let followers = followers.map(|(key, route)| sql::Behind {
                key: (key, route),
                sequence: i64::MIN,
                due: now,
            });
            let followers: Vec<_> = followers.collect();
            transaction
                .execute_parts(&followers, sql::reschedule)
                .await?;
        }
        transaction.commit().await?;
        Ok(changed(deleted))
    }
}

/// Ordering keys and routes, of events that were selected by their ids.
type ChangedKeys = BTreeSet<(String, String)>;

fn changed((count, keys): (u64, ChangedKeys)) -> Changed {
    let uploads = keys.into_iter().map(|(key, _)| key).collect();
    Changed { count, uploads }
}

async fn change(
    transaction: &mut Transaction,
    statement: Statement,
    selection: &EventSelection,
) -> Result<(u64, ChangedKeys), DatabaseError> {
    let mut statement = restrict(statement, selection);
    let (EventSelection::Ids(_) | EventSelection::DeadIds(_)) = selection else {
        return Ok((transaction.execute(statement).await?, BTreeSet::new()));
    };
    statement.push(" RETURNING ordering_key, route");
    let rows = transaction.fetch(statement).await?;
    let key = |row: &Row| Ok((row.text("ordering_key")?, row.text("route")?));
    let keys: Result<_, DatabaseError> = rows.iter().map(key).collect();
    Ok((u64::try_from(rows.len()).unwrap_or(u64::MAX), keys?))
}

fn restrict(mut statement: Statement, selection: &EventSelection) -> Statement {
    match selection {
        EventSelection::Ids(_) | EventSelection::Group(_) => {}
        EventSelection::Failed(_) => statement.push(&format!(" AND (state = 2 OR {RETRYING})")),
        _ => statement.push(" AND state = 2"),
    }
    match selection {
        EventSelection::Ids(ids) | EventSelection::DeadIds(ids) => {
            statement.push(" AND event_id IN ");
            push_any(&mut statement, ids.iter().map(String::as_str));
        }
        EventSelection::Dead(route) | EventSelection::Failed(route) => {
            if let Some(route) = route {
                let number = statement.bind(route.as_str());
                statement.push(&format!(" AND route = ${number}"));
            }
        }
        EventSelection::Group(group) => push_group(&mut statement, group),
    }
    statement
}

fn push_group(statement: &mut Statement, group: &EventGroup) {
    let EventGroup {
        route,
        event,
        error,
        state,
    } = group;
    let of_state = match state {
        EventState::Pending => RETRYING.to_owned(),
        state => format!("state = {}", state.number()),
    };
    statement.push(&format!(" AND {of_state}"));
    let columns = ["route", "event_name", "COALESCE(last_error, '')"];
    for (column, value) in columns.into_iter().zip([route, event, error]) {
        let number = statement.bind(replace_nul(value));
        statement.push(&format!(" AND {column} = ${number}"));
    }
}

/// Bounded, since a dashboard repeats it every few seconds.
pub(super) fn failed_events() -> Statement {
    let newest = |time, condition| {
        format!(
            "SELECT * FROM (SELECT route, event_name, COALESCE(last_error, '') AS error, state, \
             {time} AS since FROM outbox_deliveries WHERE {condition} LIMIT 10000) AS newest_{time}"
        )
    };
    Statement::new(format!(
        "SELECT route, event_name, error, state, COUNT(*) AS events, MIN(since) AS since \
         FROM ({} UNION ALL {}) AS failed GROUP BY route, event_name, error, state \
         ORDER BY events DESC, MAX(since) DESC LIMIT 50",
        newest("dead_at", "state = 2 ORDER BY dead_at DESC"),
        newest(
            "first_failed_at",
            &format!("{RETRYING} AND owner_node = ''")
        ),
    ))
}

/// May be empty, which PostgreSQL does not accept as `()`.
fn push_any<T: Into<Value>>(statement: &mut Statement, values: impl IntoIterator<Item = T>) {
    let mut values = values.into_iter().map(Into::into).peekable();
    if values.peek().is_some() {
        push_list(statement, values);
    } else {
        statement.push("(NULL)");
    }
}

fn stored_event(row: &Row) -> Result<StoredEvent, DatabaseError> {
    let state = EventState::from_number(row.number("state")?);
    let due_at = row.number("due_at")?;
    Ok(StoredEvent {
        id: row.text("event_id")?,
        route: row.text("route")?,
        event: row.text("event_name")?,
        upload: row.text("ordering_key")?,
        state,
        attempts: unsigned(row.number("attempts")?),
        error: row.opt_text("last_error")?,
        created_at: from_unix_millis(row.number("created_at")?),
        dead_at: row.opt_number("dead_at")?.map(from_unix_millis),
        due_at: (state == EventState::Pending).then(|| from_unix_millis(due_at)),
        message: serde_json::from_str(&row.text("message")?).ok(),
    })
}
