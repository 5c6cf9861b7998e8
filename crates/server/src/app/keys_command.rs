//! Adds, lists and revokes API keys in the database that the server uses.
//!
//! The secret of a key is printed once, alone on standard output; the database has only its hash. Existing tables are
//! checked and not migrated, and only `add` creates a missing SQLite file.

use std::{process::ExitCode, time::SystemTime};

use anyhow::Context as _;
use landfall_protocol::units::size_text;
use landfall_state::queue::{ApiKey, NewKey, Queue, QueueSettings, Token};
use landfall_state::sql::{Database, Durability};

use super::{
    state,
    terminal::{columns, format_age, print, sanitize},
};
use crate::settings::{self, KeysCommand, Loaded};

/// Runs `landfall keys`, with or without a running server.
///
/// # Errors
/// The database cannot be used, or the key cannot be created.
pub async fn keys(loaded: Loaded, command: KeysCommand, json: bool) -> anyhow::Result<ExitCode> {
    let creates = matches!(command, KeysCommand::Add(_));
    let queue = open_queue(&loaded, creates, "key was created").await?;
    let result = match command {
        KeysCommand::Add(key) => add(&queue, key).await,
        KeysCommand::List => list(&queue, json).await,
        KeysCommand::Revoke(key) => revoke(&queue, &key).await,
    };
    queue.close().await;
    result
}

/// Opens the queue of the server with these settings. A missing SQLite file is an error unless the command `creates` an item.
pub(super) async fn open_queue(
    loaded: &Loaded,
    creates: bool,
    item: &str,
) -> anyhow::Result<Queue> {
    loaded.print_warnings();
    let (database, name) = match creates {
        true => state::named_database(&loaded.settings),
        false => state::stored_database(&loaded.settings, item)?,
    };
    state::secure(&loaded.settings)?;
    let is_new = matches!(&database, Database::Sqlite(file) if !file.exists());
    let open = async {
        let mut wanted = QueueSettings::new(database.clone());
        let connections = database.open(Durability::PowerLoss).await?;
        wanted.connections = Some(connections.without_migrations());
        Queue::open(wanted).await
    };
    let queue = open.await.with_context(|| format!("cannot use {name}"))?;
    if is_new {
        eprintln!(
            "Created {name}. A server uses it if the first line of its start names it; else repeat this \
             command with the settings of the server, or with --state-dir DIR."
        );
    }
    Ok(queue)
}

async fn add(queue: &Queue, wanted: settings::NewKey) -> anyhow::Result<ExitCode> {
    let now = SystemTime::now();
    let keys = queue.keys().await?;
    let name = &wanted.name;
    let subject = wanted.subject.as_ref().unwrap_or(name);
    anyhow::ensure!(
        keys.iter().all(|key| key.name != *name),
        "a key named {name:?} exists: revoke it first, or choose another name and set --subject {subject:?}"
    );
    let expires_at = match wanted.expires {
        None => None,
        Some(lifetime) => Some(now.checked_add(lifetime).context("--expires is too long")?),
    };
    let secret = Token::api_key();
    let key = NewKey {
        hash: secret.hash(),
        subject: wanted.subject.unwrap_or_else(|| wanted.name.clone()),
        name: wanted.name,
        limits: wanted.limits.clone(),
        is_admin: wanted.is_admin,
        expires_at,
    };
    let key = queue.add_key(key).await?;
    // Only the key goes to standard output, so that it can be piped.
    let ApiKey { id, subject, .. } = key;
    eprintln!("Key {id} for {subject:?}. It is shown only once; the server stores its hash:");
    print(&format!("{}\n", secret.reveal()))?;
    Ok(ExitCode::SUCCESS)
}

async fn revoke(queue: &Queue, key: &str) -> anyhow::Result<ExitCode> {
    revoked(queue.revoke_key(key).await?, "key", "keys list")
}

/// Prints how many items were revoked that the command `list` prints.
pub(super) fn revoked(count: u64, item: &str, list: &str) -> anyhow::Result<ExitCode> {
    let plural = if count == 1 { "" } else { "s" };
    print(&format!("{count} {item}{plural} revoked\n"))?;
    if count == 0 {
        eprintln!("no {item} has this name or number; see landfall {list}");
    }
    Ok(ExitCode::from(u8::from(count == 0)))
}

pub(super) fn format_time(time: SystemTime) -> String {
    humantime::format_rfc3339_seconds(time).to_string()
}

async fn list(queue: &Queue, json: bool) -> anyhow::Result<ExitCode> {
    let keys = queue.keys().await?;
    let line = |key| format!("{}\n", to_json(key));
    print(&match keys.as_slice() {
        keys if json => keys.iter().map(line).collect(),
        [] => "no keys; create one with landfall keys add NAME\n".to_owned(),
        keys => table(keys, SystemTime::now()),
    })?;
    Ok(ExitCode::SUCCESS)
}

fn to_json(key: &ApiKey) -> serde_json::Value {
    serde_json::json!({
        "id": key.id,
        "name": key.name,
        "subject": key.subject,
        "admin": key.is_admin,
        "limits": key.limits,
        "created_at": format_time(key.created_at),
        "expires_at": key.expires_at.map(format_time),
        "used_at": key.used_at.map(format_time),
    })
}

fn table(keys: &[ApiKey], now: SystemTime) -> String {
    let headings = [
        "ID", "NAME", "SUBJECT", "CREATED", "USED", "EXPIRES", "LIMITS",
    ];
    let mut rows = vec![headings.map(str::to_owned)];
    let age = |time| format_age(now.duration_since(time).unwrap_or_default());
    let ago = |time: SystemTime| format!("{} ago", age(time));
    for key in keys {
        rows.push([
            key.id.to_string(),
            sanitize(&key.name, 60),
            sanitize(&key.subject, 60),
            ago(key.created_at),
            key.used_at.map_or_else(|| "never".to_owned(), ago),
            format_expiry(key.expires_at, now),
            describe_limits(key),
        ]);
    }
    columns(&rows)
}

pub(super) fn format_expiry(end: Option<SystemTime>, now: SystemTime) -> String {
    match end.map(|end| end.duration_since(now)) {
        None => "-".to_owned(),
        Some(Ok(left)) => format!("in {}", format_age(left)),
        Some(Err(_)) => "expired".to_owned(),
    }
}

fn describe_limits(key: &ApiKey) -> String {
    let limits = &key.limits;
    let mut limits_text = Vec::new();
    if key.is_admin {
        limits_text.push("admin".to_owned());
    }
    let max_size = limits.max_size;
    limits_text.extend(max_size.map(|max| format!("{} each", size_text(max))));
    if !limits.allowed_types.is_empty() {
        limits_text.push(limits.allowed_types.join(" "));
    }
    limits_text.extend(limits.max_active.map(|max| format!("{max} active")));
    limits_text.extend(limits.rate_limit.map(|rate| rate.to_string()));
    limits_text.extend(limits.quota.map(|max| format!("quota {}", size_text(max))));
    if limits_text.is_empty() {
        limits_text.push("unlimited".to_owned());
    }
    limits_text.join(", ")
}
