//! `landfall events`: lists and changes undelivered events.

use std::{
    process::ExitCode,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::Context as _;
use landfall_hooks::outbox::{Choice, Events, KeptEvent, KeptState, Query};

use super::{
    state,
    terminal::{columns, format_age, print, sanitize},
};
use crate::settings::{self, Deed, Errand, Loaded};

/// Lists, retries or deletes events, with or without a running server.
///
/// # Errors
/// The database cannot be used.
pub async fn events(loaded: Loaded, errand: Errand) -> anyhow::Result<ExitCode> {
    for warning in &loaded.warnings {
        eprintln!("landfall: warning: {warning}");
    }
    let configured = state::database(&loaded.settings);
    let database = state::database_of(&configured);
    let name = state::describe_database(&database);
    if let settings::Database::File(file) = &configured {
        anyhow::ensure!(
            file.is_file(),
            "{name} does not exist: no event was stored yet, or the server uses another database (see its \
             start-up line \"Using … for undelivered events\"); run this command with the settings of the \
             server, or set --state-dir DIR or --database URL"
        );
    }
    let events = Events::open(&database)
        .await
        .with_context(|| format!("cannot use {name}"))?;
    match errand.deed {
        Deed::List => list(&events, &errand).await,
        Deed::Retry => {
            let count = events.retry(&selection(&errand)).await?;
            changed(count, &errand, "scheduled for delivery within seconds")
        }
        Deed::Drop => {
            let count = events.drop(&selection(&errand)).await?;
            changed(count, &errand, "deleted")
        }
    }
}

/// Returns the selected events.
fn selection(errand: &Errand) -> Choice {
    match &errand.transport {
        _ if !errand.all => Choice::Ids(errand.ids.clone()),
        Some(name) => Choice::DeadOf(name.clone()),
        None => Choice::AllDead,
    }
}

/// Prints the number of changed events; unknown ids are a failure.
fn changed(count: u64, errand: &Errand, action: &str) -> anyhow::Result<ExitCode> {
    let noun = if count == 1 { "event" } else { "events" };
    print(&format!("{count} {noun} {action}\n"))?;
    let is_unknown = count == 0 && !errand.all;
    Ok(if is_unknown {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

async fn list(events: &Events, errand: &Errand) -> anyhow::Result<ExitCode> {
    let states = match (errand.all, errand.waiting) {
        (true, _) => vec![KeptState::Dead, KeptState::Waiting, KeptState::Announced],
        (false, true) => vec![KeptState::Waiting],
        (false, false) => vec![KeptState::Dead],
    };
    let query = Query {
        states,
        route: errand.transport.clone(),
        upload: errand.upload.clone(),
        limit: errand.limit,
        ..Query::default()
    };
    let found = events.list(&query).await?;
    if errand.json {
        for event in &found {
            print(&format!("{}\n", to_json(event)))?;
        }
    } else {
        print(&table(&found, SystemTime::now()))?;
        if found.len() == errand.limit {
            print(&format!(
                "… the newest {}; --limit shows more\n",
                found.len()
            ))?;
        }
        if found.is_empty() {
            let message = match (errand.all, errand.waiting) {
                (true, _) => "no events",
                (false, true) => "no pending events",
                (false, false) => "no dead letters",
            };
            print(&format!("{message}\n"))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Formats an event as JSON.
fn to_json(event: &KeptEvent) -> serde_json::Value {
    let time = |when: SystemTime| humantime::format_rfc3339_seconds(when).to_string();
    let changed_at = match event.state {
        KeptState::Dead => "dead_at",
        KeptState::Waiting | KeptState::Announced => "created_at",
    };
    let due = event
        .due
        .map(|due| time(UNIX_EPOCH + Duration::from_secs(due)));
    serde_json::json!({
        "id": event.id,
        "transport": event.route,
        "event": event.hook,
        "upload_id": event.upload,
        "state": state_name(event.state),
        "attempts": event.attempts,
        "error": event.error,
        changed_at: time(event.since()),
        "due_at": due,
        "message": event.message,
    })
}

const fn state_name(state: KeptState) -> &'static str {
    match state {
        KeptState::Dead => "dead",
        KeptState::Waiting => "pending",
        KeptState::Announced => "prepared",
    }
}

/// Formats events as a table.
fn table(events: &[KeptEvent], now: SystemTime) -> String {
    if events.is_empty() {
        return String::new();
    }
    let headings = [
        "ID",
        "STATE",
        "SINCE",
        "ATTEMPTS",
        "TRANSPORT",
        "EVENT",
        "UPLOAD",
        "LAST ERROR",
    ];
    let mut rows = vec![headings.map(str::to_owned)];
    for event in events {
        let since = now.duration_since(event.since()).unwrap_or_default();
        rows.push([
            event.id.clone(),
            state_name(event.state).to_owned(),
            format!("{} ago", format_age(since)),
            event.attempts.to_string(),
            event.route.clone(),
            event.hook.clone(),
            sanitize(&event.upload, usize::MAX),
            sanitize(event.error.as_deref().unwrap_or("-"), 120),
        ]);
    }
    columns(&rows)
}
