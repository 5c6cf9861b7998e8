//! Lists, retries and deletes stored events for an operator, next to a running server or without one.
//!
//! Changes neither prepared events nor deliveries that a server has claimed. `Events::open` creates no file, and only
//! checks the version of existing tables.

use std::{collections::BTreeSet, time::SystemTime};

use landfall_hooks::{Message, rfc3339};
use serde::Serialize;

use super::{Outbox, OutboxError, migrate, sql};
use crate::sql::{
    Connections, Database, DatabaseError, Durability, Row, Statement, Transaction, Value,
    from_unix_millis, push_list, unsigned,
};

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
    /// Only this route.
    pub route: Option<String>,
    /// Only this upload or job, as in [`StoredEvent::upload`].
    pub upload: Option<String>,
    /// The order; newest first by default.
    pub order: SortOrder,
    /// Maximum number of events; 100 by default.
    pub limit: usize,
}

impl Default for Query {
    fn default() -> Self {
        Self {
            states: vec![EventState::Dead],
            route: None,
            upload: None,
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
    /// All dead letters.
    AllDead,
    /// All dead letters of a route.
    DeadOfRoute(String),
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
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
            "SELECT event_id, route, event_name, ordering_key, state, attempts, last_error, \
             created_at, dead_at, due_at, message FROM outbox_deliveries WHERE ",
        );
        if query.states.is_empty() {
            return Ok(Vec::new());
        }
        // Literals: the indexes are partial.
        let states = query.states.iter();
        let states: Vec<_> = states
            .map(|state| format!("state = {}", state.number()))
            .collect();
        statement.push(&format!("({})", states.join(" OR ")));
        for (column, value) in [("route", &query.route), ("ordering_key", &query.upload)] {
            if let Some(value) = value {
                let number = statement.bind(value.as_str());
                statement.push(&format!(" AND {column} = ${number}"));
            }
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

    /// Retries events at once, with as many attempts as new ones.
    ///
    /// Deliveries that a server has claimed are not changed.
    pub async fn retry(&self, selection: &EventSelection) -> Result<Changed, OutboxError> {
        let mut transaction = self.database.write().await?;
        let now = transaction.now();
        let statement = Statement::new(
            "UPDATE outbox_deliveries SET state = 1, owner_node = '', attempts = 0, due_at = $1, \
             created_at = $1, first_failed_at = NULL, dead_at = NULL \
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
    if !matches!(selection, EventSelection::Ids(_)) {
        statement.push(" AND state = 2");
    }
    match selection {
        EventSelection::Ids(ids) | EventSelection::DeadIds(ids) => {
            statement.push(" AND event_id IN ");
            push_any(&mut statement, ids.iter().map(String::as_str));
        }
        EventSelection::AllDead => {}
        EventSelection::DeadOfRoute(route) => {
            let number = statement.bind(route.as_str());
            statement.push(&format!(" AND route = ${number}"));
        }
    }
    statement
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
    let state = match row.number("state")? {
        sql::PREPARED => EventState::Prepared,
        sql::PENDING => EventState::Pending,
        _ => EventState::Dead,
    };
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
