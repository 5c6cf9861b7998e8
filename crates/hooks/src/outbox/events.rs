//! The kept events, for people: what waits, what is dead; try again, drop.

use std::{
    collections::BTreeSet,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use landfall_database::{
    Connections, Database, DatabaseError, Row, Statement, Value, parts, push_list,
};
use serde::Serialize;

use super::{Outbox, OutboxError, connect, migrate, sql};
use crate::Message;

/// What is in the database of an outbox. Works beside servers that run; they notice within seconds.
#[derive(Debug)]
pub struct Events {
    database: Connections,
}

/// Which events are wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    /// In these states; dead if not set.
    pub states: Vec<KeptState>,
    /// Of this route alone.
    pub route: Option<String>,
    /// Of this upload (or job) alone, as in [`KeptEvent::upload`].
    pub upload: Option<String>,
    /// In which order; the newest first if not set.
    pub order: Order,
    /// At most so many; 100 if not set.
    pub limit: usize,
}

impl Default for Query {
    fn default() -> Self {
        Self {
            states: vec![KeptState::Dead],
            route: None,
            upload: None,
            order: Order::Newest,
            limit: 100,
        }
    }
}

/// In which order events are listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Order {
    /// The newest first.
    #[default]
    Newest,
    /// The oldest first.
    Oldest,
}

/// Which events something is done to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Choice {
    /// Those with these ids, for all routes: dead ones and ones that wait.
    Ids(Vec<String>),
    /// Dead ones with these ids, for all routes.
    DeadIds(Vec<String>),
    /// All dead ones.
    AllDead,
    /// All dead ones of a route.
    DeadOf(String),
}

/// How it is with a kept event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum KeptState {
    /// It may happen.
    Announced,
    /// It happened and waits for its delivery.
    Waiting,
    /// It was given up on.
    Dead,
}

impl KeptState {
    const fn number(self) -> i64 {
        match self {
            Self::Announced => sql::PREPARED,
            Self::Waiting => sql::PENDING,
            Self::Dead => sql::DEAD,
        }
    }
}

/// An event as it is kept, for one route.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct KeptEvent {
    /// Its id.
    pub id: String,
    /// The route it is for.
    pub route: String,
    /// Its name.
    pub hook: String,
    /// The id of its upload; of an event of the queue `job:` and the job's number.
    pub upload: String,
    /// How it is with it.
    pub state: KeptState,
    /// Deliveries that failed.
    pub attempts: u64,
    /// Why the last one failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Since when it is in this state, in seconds since 1970.
    pub since: u64,
    /// When it is tried next, in seconds since 1970, if it waits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub due: Option<u64>,
    /// All of it; `None` if it can't be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<Message>,
}

impl KeptEvent {
    /// Since when it is in this state.
    #[must_use]
    pub fn since(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(self.since)
    }
}

impl Outbox {
    /// The events that it keeps, over its own connections.
    #[must_use]
    pub fn events(&self) -> Events {
        Events {
            database: self.shared.database.clone(),
        }
    }
}

impl Events {
    /// Opens the database of an outbox.
    ///
    /// # Errors
    /// It can't be opened, or it is a file that isn't there.
    ///
    /// # Cancel safety
    /// May be dropped.
    pub async fn open(database: &Database) -> Result<Self, OutboxError> {
        if let Database::Sqlite(file) = database
            && let Err(source) = std::fs::metadata(file)
        {
            let path = file.clone();
            return Err(DatabaseError::Create { path, source }.into());
        }
        let database = connect(database, true).await?.without_migrations();
        migrate(&database).await?;
        Ok(Self { database })
    }

    /// Lists events.
    ///
    /// # Errors
    /// The database failed.
    ///
    /// # Cancel safety
    /// May be dropped.
    pub async fn list(&self, query: &Query) -> Result<Vec<KeptEvent>, OutboxError> {
        let mut statement = Statement::new(
            "SELECT event_id, route, event_name, ordering_key, state, attempts, last_error, \
             COALESCE(dead_at, created_at) AS since, due_at, message FROM outbox_deliveries \
             WHERE state IN ",
        );
        let states: Vec<_> = query.states.iter().map(|state| state.number()).collect();
        push_any(&mut statement, states);
        for (column, wanted) in [("route", &query.route), ("ordering_key", &query.upload)] {
            if let Some(wanted) = wanted {
                let number = statement.bind(wanted.as_str());
                statement.push(&format!(" AND {column} = ${number}"));
            }
        }
        let limit = statement.bind(i64::try_from(query.limit).unwrap_or(i64::MAX));
        let direction = match query.order {
            Order::Newest => "DESC",
            Order::Oldest => "ASC",
        };
        statement.push(&format!(
            " ORDER BY COALESCE(dead_at, created_at) {direction}, sequence {direction} LIMIT ${limit}"
        ));
        let rows = self.database.read(statement).await?;
        rows.iter().map(|row| Ok(kept(row)?)).collect()
    }

    /// Has events tried again at once, as often as new ones. Says how many (one for each route).
    ///
    /// # Errors
    /// The database failed.
    ///
    /// # Cancel safety
    /// Dropped, it has done all or nothing.
    pub async fn retry(&self, choice: &Choice) -> Result<u64, OutboxError> {
        let mut transaction = self.database.write().await?;
        let now = transaction.now();
        // What a server has in hand is being tried.
        let statement = Statement::new(
            "UPDATE outbox_deliveries SET state = 1, owner_node = '', attempts = 0, due_at = $1, \
             created_at = $1, first_failed_at = NULL, dead_at = NULL \
             WHERE (state = 2 OR (state = 1 AND owner_node = ''))",
        );
        let retried = transaction.execute(chosen(statement.with(now), choice));
        let retried = retried.await?;
        transaction.commit().await?;
        Ok(retried)
    }

    /// Drops events for good. Says how many (one for each route).
    ///
    /// # Errors
    /// The database failed.
    ///
    /// # Cancel safety
    /// Dropped, it has done all or nothing.
    pub async fn drop(&self, choice: &Choice) -> Result<u64, OutboxError> {
        let delete = Statement::new(
            "DELETE FROM outbox_deliveries \
             WHERE (state = 2 OR (state = 1 AND owner_node = ''))",
        );
        let mut delete = chosen(delete, choice);
        let mut transaction = self.database.write().await?;
        let dropped = if matches!(choice, Choice::Ids(_)) {
            delete.push(" RETURNING ordering_key, route");
            let rows = transaction.fetch(delete).await?;
            let keys = rows
                .iter()
                .map(|row| Ok((row.text("ordering_key")?, row.text("route")?)))
                .collect::<Result<BTreeSet<_>, DatabaseError>>()?;
            // They may have held later events.
            let now = transaction.now();
            let followers: Vec<_> = keys
                .iter()
                .map(|(key, route)| ((key.as_str(), route.as_str()), now))
                .collect();
            for part in parts(&followers) {
                transaction.execute(sql::reschedule(part)).await?;
            }
            u64::try_from(rows.len()).unwrap_or(u64::MAX)
        } else {
            // A dead letter holds none.
            transaction.execute(delete).await?
        };
        transaction.commit().await?;
        Ok(dropped)
    }
}

/// Restricts a statement to the events that are chosen.
fn chosen(mut statement: Statement, choice: &Choice) -> Statement {
    if !matches!(choice, Choice::Ids(_)) {
        statement.push(" AND state = 2");
    }
    match choice {
        Choice::Ids(ids) | Choice::DeadIds(ids) => {
            statement.push(" AND event_id IN ");
            push_any(&mut statement, ids.iter().map(String::as_str));
        }
        Choice::AllDead => {}
        Choice::DeadOf(route) => {
            let number = statement.bind(route.as_str());
            statement.push(&format!(" AND route = ${number}"));
        }
    }
    statement
}

/// Adds a list of values that may be empty, which PostgreSQL does not accept as `()`.
fn push_any<T: Into<Value>>(statement: &mut Statement, values: impl IntoIterator<Item = T>) {
    let mut values = values.into_iter().map(Into::into).peekable();
    if values.peek().is_some() {
        push_list(statement, values);
    } else {
        statement.push("(NULL)");
    }
}

fn kept(row: &Row) -> Result<KeptEvent, DatabaseError> {
    let state = match row.number("state")? {
        sql::PREPARED => KeptState::Announced,
        sql::PENDING => KeptState::Waiting,
        _ => KeptState::Dead,
    };
    let seconds = |millis: i64| u64::try_from(millis / 1000).unwrap_or_default();
    Ok(KeptEvent {
        id: row.text("event_id")?,
        route: row.text("route")?,
        hook: row.text("event_name")?,
        upload: row.text("ordering_key")?,
        state,
        attempts: u64::try_from(row.number("attempts")?).unwrap_or_default(),
        error: row.opt_text("last_error")?,
        since: seconds(row.number("since")?),
        due: (state == KeptState::Waiting).then_some(seconds(row.number("due_at")?)),
        message: serde_json::from_str(&row.text("message")?).ok(),
    })
}
