use std::{
    collections::BTreeMap,
    mem,
    sync::Arc,
    time::{Duration, SystemTime},
};

use landfall_database::{Row, Statement, from_unix_millis, replace_nul, unix_millis};
use tokio::time::timeout;

use super::{ApiKey, NewKey, QueueError, grant::MAX_ID_LEN, record::json, shared::Shared};
use crate::TokenHash;

const COLUMNS: &str = "number, name, subject, limits, is_admin, created_at, expires_at, used_at";
const USE_INTERVAL: Duration = Duration::from_secs(60);
/// The next use tries again.
const USE_TIMEOUT: Duration = Duration::from_secs(60);

fn read(row: &Row) -> Result<ApiKey, QueueError> {
    let id = row.number(0)?;
    let limits = serde_json::from_str(&row.text(3)?)
        .map_err(|error| QueueError::InvalidRow(format!("key {id}: {error}")))?;
    Ok(ApiKey {
        id,
        name: row.text(1)?,
        subject: row.text(2)?,
        limits,
        is_admin: row.number(4)? != 0,
        created_at: from_unix_millis(row.number(5)?),
        expires_at: row.opt_number(6)?.map(from_unix_millis),
        used_at: row.opt_number(7)?.map(from_unix_millis),
    })
}

pub(super) async fn add(shared: &Shared, key: &NewKey) -> Result<ApiKey, QueueError> {
    if key.subject.len() > MAX_ID_LEN || key.name.len() > MAX_ID_LEN {
        return Err(QueueError::TooLong("the name or subject of the key"));
    }
    let mut transaction = shared.database.write().await?;
    let statement = Statement::new(format!(
        "INSERT INTO api_keys (hash, name, subject, limits, is_admin, created_at, expires_at) \
         VALUES ($1, $2, $3, $4, $5, $6, $7) RETURNING {COLUMNS}"
    ))
    .with(key.hash.as_str())
    .with(replace_nul(&key.name))
    .with(replace_nul(&key.subject))
    .with(json(&key.limits))
    .with(i64::from(key.is_admin))
    .with(unix_millis(shared.settings.clock.now()))
    .with(key.expires_at.map(unix_millis));
    let rows = transaction.fetch(statement).await?;
    let key = rows
        .first()
        .ok_or_else(|| QueueError::InvalidRow("inserted key not returned".into()))?;
    let key = read(key)?;
    transaction.commit().await?;
    Ok(key)
}

pub(super) async fn list(shared: &Shared) -> Result<Vec<ApiKey>, QueueError> {
    let statement = Statement::new(format!("SELECT {COLUMNS} FROM api_keys ORDER BY number"));
    let rows = shared.database.read(statement).await?;
    rows.iter().map(read).collect()
}

pub(super) async fn revoke(shared: &Shared, which: &str) -> Result<u64, QueueError> {
    let statement = Statement::new("DELETE FROM api_keys WHERE name = $1 OR number = $2")
        .with(replace_nul(which))
        .with(which.parse().unwrap_or(-1));
    Ok(shared.database.execute(statement).await?)
}

pub(super) async fn find(
    shared: &Arc<Shared>,
    hash: &TokenHash,
) -> Result<Option<ApiKey>, QueueError> {
    let statement = Statement::new(format!("SELECT {COLUMNS} FROM api_keys WHERE hash = $1"))
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
    let is_stale = key.used_at.is_none_or(|used| {
        now.duration_since(used)
            .is_ok_and(|past| past >= USE_INTERVAL)
    });
    if is_stale {
        record_use(shared, key.id, now);
    }
    Ok(Some(key))
}

/// One background task stores the uses.
fn record_use(shared: &Arc<Shared>, id: i64, now: SystemTime) {
    let mut pending = shared.key_uses.0.lock();
    pending.at.insert(id, unix_millis(now));
    if !mem::replace(&mut pending.is_writing, true) {
        tokio::spawn(store_uses(shared.clone()));
    }
}

async fn store_uses(shared: Arc<Shared>) {
    while let Some(uses) = shared.key_uses.take() {
        let error = match timeout(USE_TIMEOUT, write_uses(&shared, &uses)).await {
            Ok(Ok(())) => continue,
            Ok(Err(error)) => error,
            Err(_) => QueueError::Timeout(USE_TIMEOUT),
        };
        tracing::warn!(keys = uses.len(), %error, "failed to store when API keys were last used");
    }
}

async fn write_uses(shared: &Shared, uses: &BTreeMap<i64, i64>) -> Result<(), QueueError> {
    let mut transaction = shared.database.write().await?;
    for (id, at) in uses {
        let statement = Statement::new("UPDATE api_keys SET used_at = $1 WHERE number = $2");
        transaction.execute(statement.with(*at).with(*id)).await?;
    }
    transaction.commit().await?;
    Ok(())
}
