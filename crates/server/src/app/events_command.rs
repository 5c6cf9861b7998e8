//! Lists, retries and deletes events of the outbox in the database that the server uses.
//!
//! Delivers nothing: a server does, the running one or the next. Does not create a SQLite file or migrate existing
//! tables. Upload ids and errors of receivers are printed without control characters.

use std::{process::ExitCode, time::SystemTime};

use anyhow::Context as _;
use landfall_console::Progress;
use landfall_state::outbox::{EventSelection, EventState, Events, Query, StoredEvent};

use super::{
    state,
    terminal::{columns, format_age, print, sanitize},
};
use crate::settings::{EventsCommand, Loaded};

/// Lists, retries or deletes events, with or without a running server.
///
/// # Errors
/// The database cannot be used.
pub async fn events(loaded: Loaded, command: EventsCommand) -> anyhow::Result<ExitCode> {
    loaded.print_warnings();
    let (database, name) = state::stored_database(&loaded.settings, "event was stored")?;
    state::secure(&loaded.settings)?;
    let progress = Progress::new("opening the database");
    let events = progress.show_during(Events::open(&database)).await;
    let events = events.with_context(|| format!("cannot use {name}"))?;
    match command {
        EventsCommand::List { query, json } => {
            let progress = Progress::new("reading events");
            let found = progress.show_during(events.list(&query)).await?;
            list(&found, &query, json)
        }
        EventsCommand::Retry(selection) => {
            let progress = Progress::new("retrying events");
            let retried = progress.show_during(events.retry(&selection)).await?;
            changed(
                retried.count,
                &selection,
                "scheduled: delivered within seconds, or one at a time while the receiver fails",
            )
        }
        EventsCommand::Delete(selection) => {
            let progress = Progress::new("deleting events");
            let deleted = progress.show_during(events.delete(&selection)).await?;
            changed(deleted.count, &selection, "deleted")
        }
    }
}

/// Unknown ids are a failure.
fn changed(count: u64, selection: &EventSelection, action: &str) -> anyhow::Result<ExitCode> {
    let noun = if count == 1 { "event" } else { "events" };
    print(&format!("{count} {noun} {action}\n"))?;
    let is_failure = count == 0 && matches!(selection, EventSelection::Ids(_));
    Ok(ExitCode::from(u8::from(is_failure)))
}

fn list(found: &[StoredEvent], query: &Query, json: bool) -> anyhow::Result<ExitCode> {
    if json {
        for event in found {
            print(&format!("{}\n", serde_json::to_string(event)?))?;
        }
    } else {
        print(&table(found, SystemTime::now()))?;
        let waits = |event: &StoredEvent| event.state == EventState::Pending && event.attempts == 0;
        if query.retrying && found.iter().any(waits) {
            print("a failing receiver's events are tried one at a time, after 10 s at most\n")?;
        }
        if found.len() == query.limit {
            let limit = query.limit;
            print(&format!("… the newest {limit}; --limit shows more\n"))?;
        }
        if found.is_empty() {
            print(match query.states.as_slice() {
                [EventState::Dead] => "no dead letters, and none is being retried\n",
                [EventState::Pending] => "no pending events\n",
                _ => "no events\n",
            })?;
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

fn next_attempt(event: &StoredEvent, now: SystemTime) -> String {
    match event.due_at.map(|due| due.duration_since(now)) {
        Some(Ok(wait)) => format!("in {}", format_age(wait)),
        Some(Err(late)) => format!("due {} ago", format_age(late.duration())),
        None => "-".to_owned(),
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
        "NEXT",
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
            next_attempt(event, now),
            event.route.clone(),
            event.event.clone(),
            sanitize(&event.upload, usize::MAX),
            sanitize(event.error.as_deref().unwrap_or("-"), 120),
        ]);
    }
    columns(&rows)
}
