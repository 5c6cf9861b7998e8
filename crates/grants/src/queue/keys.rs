//! Keys of applications.

use std::time::Duration;

use landfall_database::{Row, Statement};

use super::{
    ApiKey, NewKey, QueueError, Shared,
    record::{clean, json},
    time::{millis, time},
    writer::begin,
};
use crate::TokenHash;

const COLUMNS: &str = "number, name, subject, limits, is_admin, created, expires, used";
/// How often it is noted that a key was used.
const NOTED: Duration = Duration::from_secs(60);

fn read(row: &Row) -> Result<ApiKey, QueueError> {
    let id = row.number(0)?;
    let limits = serde_json::from_str(&row.text(3)?)
        .map_err(|error| QueueError::Row(format!("key {id}: {error}")))?;
    Ok(ApiKey {
        id,
        name: row.text(1)?,
        subject: row.text(2)?,
        limits,
        is_admin: row.number(4)? != 0,
        created_at: time(row.number(5)?),
        expires_at: row.maybe_number(6)?.map(time),
        used_at: row.maybe_number(7)?.map(time),
    })
}

pub(super) async fn add(shared: &Shared, key: &NewKey) -> Result<ApiKey, QueueError> {
    if key.subject.len() > super::LONGEST_ID || key.name.len() > super::LONGEST_ID {
        return Err(QueueError::TooLong("the name or subject of the key"));
    }
    let mut transaction = begin(shared).await?;
    let statement = Statement::new(format!(
        "INSERT INTO queue_keys (hash, name, subject, limits, is_admin, created, expires) \
         VALUES ($1, $2, $3, $4, $5, $6, $7) RETURNING {COLUMNS}"
    ))
    .with(key.hash.as_str())
    .with(clean(&key.name))
    .with(clean(&key.subject))
    .with(json(&key.limits))
    .with(i64::from(key.is_admin))
    .with(millis(shared.settings.clock.now()))
    .with(key.expires_at.map(millis));
    let rows = transaction.fetch(statement).await?;
    let key = rows
        .first()
        .ok_or_else(|| QueueError::Row("a new key isn't there".into()))?;
    let key = read(key)?;
    transaction.commit().await?;
    Ok(key)
}

pub(super) async fn list(shared: &Shared) -> Result<Vec<ApiKey>, QueueError> {
    let statement = Statement::new(format!("SELECT {COLUMNS} FROM queue_keys ORDER BY number"));
    let rows = shared.database.read(statement).await?;
    rows.iter().map(read).collect()
}

pub(super) async fn revoke(shared: &Shared, which: &str) -> Result<u64, QueueError> {
    let mut transaction = begin(shared).await?;
    let statement = Statement::new("DELETE FROM queue_keys WHERE name = $1 OR number = $2")
        .with(clean(which))
        .with(which.parse().unwrap_or(-1));
    let revoked = transaction.execute(statement).await?;
    transaction.commit().await?;
    Ok(revoked)
}

/// The key with this hash, unless its time is over.
pub(super) async fn find(shared: &Shared, hash: &TokenHash) -> Result<Option<ApiKey>, QueueError> {
    let statement = Statement::new(format!("SELECT {COLUMNS} FROM queue_keys WHERE hash = $1"))
        .with(hash.as_str());
    let rows = shared.database.read(statement).await?;
    let Some(row) = rows.first() else {
        return Ok(None);
    };
    let key = read(row)?;
    let now = shared.settings.clock.now();
    if key.expires_at.is_some_and(|over| over <= now) {
        return Ok(None);
    }
    let is_stale = key
        .used_at
        .is_none_or(|used| now.duration_since(used).is_ok_and(|past| past >= NOTED));
    if is_stale && let Err(error) = note_use(shared, key.id).await {
        // The key is as good as before.
        tracing::warn!(key = key.id, %error, "it can't be noted that a key was used");
    }
    Ok(Some(key))
}

async fn note_use(shared: &Shared, id: i64) -> Result<(), QueueError> {
    let now = millis(shared.settings.clock.now());
    let mut transaction = begin(shared).await?;
    let statement = Statement::new("UPDATE queue_keys SET used = $1 WHERE number = $2");
    transaction.execute(statement.with(now).with(id)).await?;
    transaction.commit().await?;
    Ok(())
}
