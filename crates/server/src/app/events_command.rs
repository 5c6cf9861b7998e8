use std::{process::ExitCode, time::SystemTime};

use anyhow::Context as _;
use landfall_outbox::{EventSelection, EventState, Events, Query, StoredEvent};

use super::{
    state,
    terminal::{columns, format_age, print, sanitize},
};
use crate::settings::{EventsAction, EventsCommand, Loaded};

const DEFAULT_LIMIT: usize = 1000;

/// Lists, retries or deletes events, with or without a running server.
///
/// # Errors
/// The database cannot be used.
pub async fn events(loaded: Loaded, command: EventsCommand) -> anyhow::Result<ExitCode> {
    loaded.print_warnings();
    let (database, name) =
        state::stored_database(&loaded.settings, "event was stored", "undelivered events")?;
    let events = Events::open(&database).await;
    let events = events.with_context(|| format!("cannot use {name}"))?;
    match command.action {
        EventsAction::List => list(&events, &command).await,
        EventsAction::Retry => {
            let count = events.retry(&selection(&command)).await?;
            changed(count, &command, "scheduled for delivery within seconds")
        }
        EventsAction::Delete => {
            let count = events.delete(&selection(&command)).await?;
            changed(count, &command, "deleted")
        }
    }
}

fn selection(command: &EventsCommand) -> EventSelection {
    match &command.transport {
        _ if !command.all => EventSelection::Ids(command.ids.clone()),
        Some(name) => EventSelection::DeadOfRoute(name.clone()),
        None => EventSelection::AllDead,
    }
}

/// Unknown ids are a failure.
fn changed(count: u64, command: &EventsCommand, action: &str) -> anyhow::Result<ExitCode> {
    let noun = if count == 1 { "event" } else { "events" };
    print(&format!("{count} {noun} {action}\n"))?;
    Ok(ExitCode::from(u8::from(count == 0 && !command.all)))
}

async fn list(events: &Events, command: &EventsCommand) -> anyhow::Result<ExitCode> {
    let all = [EventState::Dead, EventState::Pending, EventState::Prepared];
    let (states, none) = match (command.all, command.pending) {
        (true, _) => (&all[..], "no events\n"),
        (false, true) => (&all[1..2], "no pending events\n"),
        (false, false) => (&all[..1], "no dead letters\n"),
    };
    let limit = command.limit.unwrap_or(DEFAULT_LIMIT);
    let query = Query {
        states: states.to_vec(),
        route: command.transport.clone(),
        upload: command.upload.clone(),
        limit,
        ..Query::default()
    };
    let found = events.list(&query).await?;
    if command.json {
        for event in &found {
            print(&format!("{}\n", serde_json::to_string(event)?))?;
        }
    } else {
        print(&table(&found, SystemTime::now()))?;
        if found.len() == limit {
            print(&format!("… the newest {limit}; --limit shows more\n"))?;
        }
        if found.is_empty() {
            print(none)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

const fn state_name(state: EventState) -> &'static str {
    match state {
        EventState::Dead => "dead",
        EventState::Pending => "pending",
        EventState::Prepared => "prepared",
    }
}

fn table(events: &[StoredEvent], now: SystemTime) -> String {
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
            event.event.clone(),
            sanitize(&event.upload, usize::MAX),
            sanitize(event.error.as_deref().unwrap_or("-"), 120),
        ]);
    }
    columns(&rows)
}
