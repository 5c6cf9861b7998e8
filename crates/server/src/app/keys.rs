//! `landfall keys`: makes, lists and revokes the keys of callers.

use std::{process::ExitCode, time::SystemTime};

use anyhow::Context as _;
use landfall_grants::{
    Queue, QueueSettings,
    auth::KeySecret,
    queue::{ApiKey, NewKey},
};
use landfall_hooks::outbox::Durability;

use super::{
    grants, state,
    terminal::{columns, plain, print, rough},
};
use crate::settings::{self, KeysCommand, Loaded};

/// `landfall keys`, beside a server that runs or without one.
///
/// # Errors
/// What keeps it from being done, in words for the person who wants it.
pub async fn keys(loaded: Loaded, command: KeysCommand, json: bool) -> anyhow::Result<ExitCode> {
    for warning in &loaded.warnings {
        eprintln!("landfall: warning: {warning}");
    }
    let wanted = state::database(&loaded.settings);
    let database = state::opened(&wanted);
    let place = state::place(&database);
    if let (settings::Database::File(file), false) =
        (&wanted, matches!(command, KeysCommand::Add(_)))
    {
        anyhow::ensure!(
            file.is_file(),
            "there is no {place}: no key was made yet, or the server keeps them elsewhere (its \
             start-up line \"Using … for grants\" says where); give this command the settings of \
             the server, or write --state-dir DIR or --database URL"
        );
    }
    let open = async {
        let mut wanted = QueueSettings::new(database.clone());
        let connections = database.open(Durability::PowerLoss).await?;
        wanted.connections = Some(connections.without_migrations());
        Queue::open(wanted).await
    };
    let queue = open
        .await
        .with_context(|| format!("{place} can't be used"))?;
    let done = match command {
        KeysCommand::Add(key) => add(&queue, key).await,
        KeysCommand::List => list(&queue, json).await,
        KeysCommand::Revoke(which) => revoke(&queue, &which).await,
    };
    queue.close().await;
    done
}

/// Makes a key and shows it.
async fn add(queue: &Queue, wanted: settings::NewKey) -> anyhow::Result<ExitCode> {
    let now = SystemTime::now();
    let taken = queue
        .keys()
        .await?
        .into_iter()
        .any(|key| key.name == wanted.name);
    anyhow::ensure!(
        !taken,
        "there is a key called {:?}: revoke it first, or choose another name and write --subject {:?}",
        wanted.name,
        wanted.subject.as_ref().unwrap_or(&wanted.name),
    );
    let expires_at = match wanted.expires {
        None => None,
        Some(span) => Some(now.checked_add(span).context("--expires: is too long")?),
    };
    let secret = KeySecret::random();
    let key = queue
        .add_key(NewKey {
            hash: secret.hash(),
            subject: wanted.subject.unwrap_or_else(|| wanted.name.clone()),
            name: wanted.name,
            limits: grants::limits(&wanted.limits),
            is_admin: wanted.is_admin,
            expires_at,
        })
        .await?;
    // The key alone on standard output, so that it can be put somewhere.
    eprintln!(
        "Key {} for {:?}. It is shown this once; only its hash is kept:",
        key.id, key.subject
    );
    print(&format!("{}\n", secret.reveal()))?;
    Ok(ExitCode::SUCCESS)
}

async fn revoke(queue: &Queue, which: &str) -> anyhow::Result<ExitCode> {
    let count = queue.revoke_key(which).await?;
    let noun = if count == 1 { "key" } else { "keys" };
    print(&format!("{count} {noun} revoked\n"))?;
    Ok(if count == 0 {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

async fn list(queue: &Queue, json: bool) -> anyhow::Result<ExitCode> {
    let keys = queue.keys().await?;
    if json {
        for key in &keys {
            print(&format!("{}\n", as_json(key)))?;
        }
    } else if keys.is_empty() {
        print("there is no key; landfall keys add NAME makes one\n")?;
    } else {
        print(&table(&keys, SystemTime::now()))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// A key as JSON.
fn as_json(key: &ApiKey) -> serde_json::Value {
    let shown = |time: SystemTime| humantime::format_rfc3339_seconds(time).to_string();
    serde_json::json!({
        "id": key.id,
        "name": key.name,
        "subject": key.subject,
        "admin": key.is_admin,
        "limits": key.limits,
        "created_at": shown(key.created_at),
        "expires_at": key.expires_at.map(shown),
        "used_at": key.used_at.map(shown),
    })
}

/// A line for each key under a line of headings.
fn table(keys: &[ApiKey], now: SystemTime) -> String {
    let headings = ["ID", "NAME", "SUBJECT", "MADE", "USED", "ENDS", "MAY"];
    let mut rows = vec![headings.map(str::to_owned)];
    let ago = |time: SystemTime| {
        format!(
            "{} ago",
            rough(now.duration_since(time).unwrap_or_default())
        )
    };
    for key in keys {
        rows.push([
            key.id.to_string(),
            plain(&key.name, 60),
            plain(&key.subject, 60),
            ago(key.created_at),
            key.used_at.map_or_else(|| "never".to_owned(), ago),
            match key.expires_at.map(|end| end.duration_since(now)) {
                None => "-".to_owned(),
                Some(Ok(left)) => format!("in {}", rough(left)),
                Some(Err(_)) => "over".to_owned(),
            },
            may(key),
        ]);
    }
    columns(&rows)
}

/// What a key may do, in words.
fn may(key: &ApiKey) -> String {
    let limits = &key.limits;
    let mut words = Vec::new();
    if key.is_admin {
        words.push("see and cancel all".to_owned());
    }
    words.extend(limits.max_size.map(|most| format!("{most} bytes each")));
    if !limits.allowed_types.is_empty() {
        words.push(limits.allowed_types.join(" "));
    }
    words.extend(limits.max_active.map(|most| format!("{most} at a time")));
    words.extend(limits.rate_limit.map(|rate| rate.to_string()));
    words.extend(limits.quota.map(|most| format!("{most} bytes in all")));
    if words.is_empty() {
        words.push("ask for any".to_owned());
    }
    words.join(", ")
}
