//! Stores, lists, revokes and finds API keys.
//!
//! Never sees a key, only its hash. The writer stores the time of use in the background: authentication must not wait
//! for it, and it may be lost.

use std::time::{Duration, SystemTime};

use super::{
    ApiKey, NewKey, Queue, QueueError, TokenHash,
    commands::Command,
    record::{MAX_ID_LEN, json},
};
use crate::sql::{Row, Statement, from_unix_millis, replace_nul, unix_millis};

const COLUMNS: &str = "number, name, subject, limits, is_admin, created_at, expires_at, used_at";
const USE_INTERVAL: Duration = Duration::from_secs(60);

fn read(row: &Row) -> Result<ApiKey, QueueError> {
    let id = row.number("number")?;
    let limits = serde_json::from_str(&row.text("limits")?)
        .map_err(|error| QueueError::InvalidRow(format!("key {id}: {error}")))?;
    Ok(ApiKey {
        id,
        name: row.text("name")?,
        subject: row.text("subject")?,
        limits,
        is_admin: row.number("is_admin")? != 0,
        created_at: from_unix_millis(row.number("created_at")?),
        expires_at: row.opt_number("expires_at")?.map(from_unix_millis),
        used_at: row.opt_number("used_at")?.map(from_unix_millis),
    })
}

impl Queue {
    /// Stores an API key.
    ///
    /// # Errors
    /// The database failed, or a key with this hash exists.
    ///
    /// # Cancel safety
    /// If it is dropped, the key may be stored.
    pub async fn add_key(&self, key: NewKey) -> Result<ApiKey, QueueError> {
        if key.subject.len() > MAX_ID_LEN || key.name.len() > MAX_ID_LEN {
            return Err(QueueError::TooLong("the name or subject of the key"));
        }
        let statement = Statement::new(format!(
            "INSERT INTO api_keys (hash, name, subject, limits, is_admin, created_at, expires_at) \
             VALUES ($1, $2, $3, $4, $5, $6, $7) RETURNING {COLUMNS}"
        ))
        .with(key.hash.as_str())
        .with(replace_nul(&key.name))
        .with(replace_nul(&key.subject))
        .with(json(&key.limits))
        .with(i64::from(key.is_admin))
        .with(unix_millis(self.now()))
        .with(key.expires_at.map(unix_millis));
        self.read(|shared| async move {
            let mut transaction = shared.database.write().await?;
            let rows = transaction.fetch(statement).await?;
            let key = rows
                .first()
                .ok_or_else(|| QueueError::InvalidRow("inserted key not returned".into()))?;
            let key = read(key)?;
            transaction.commit().await?;
            Ok(key)
        })
        .await
    }

    /// Returns all API keys, oldest first.
    pub async fn keys(&self) -> Result<Vec<ApiKey>, QueueError> {
        let statement = format!("SELECT {COLUMNS} FROM api_keys ORDER BY number");
        let rows = self.rows(Statement::new(statement)).await?;
        rows.iter().map(read).collect()
    }

    /// Revokes the API keys with this number or name. Returns how many.
    pub async fn revoke_key(&self, which: &str) -> Result<u64, QueueError> {
        let statement = Statement::new("DELETE FROM api_keys WHERE name = $1 OR number = $2")
            .with(replace_nul(which))
            .with(which.parse().unwrap_or(-1));
        self.read(|shared| async move { Ok(shared.database.execute(statement).await?) })
            .await
    }

    /// Returns the API key with this hash, unless it has expired.
    ///
    /// The time of its use is stored in the background, at most once a minute.
    pub async fn key(&self, hash: &TokenHash) -> Result<Option<ApiKey>, QueueError> {
        let statement = Statement::new(format!("SELECT {COLUMNS} FROM api_keys WHERE hash = $1"))
            .with(hash.as_str());
        let rows = self.rows(statement).await?;
        let Some(key) = rows.first().map(read).transpose()? else {
            return Ok(None);
        };
        let now = self.now();
        if key.expires_at.is_some_and(|over| over <= now) {
            return Ok(None);
        }
        let is_stale = key.used_at.is_none_or(|used| {
            now.duration_since(used)
                .is_ok_and(|past| past >= USE_INTERVAL)
        });
        if is_stale {
            self.record_use(key.id, now);
        }
        Ok(Some(key))
    }

    /// The writer stores it, so that authentication does not wait. If it is busy, the next use tries again.
    fn record_use(&self, id: i64, now: SystemTime) {
        let used = Command::KeyUse(id, unix_millis(now));
        self.0.commands.try_send(used);
    }
}
