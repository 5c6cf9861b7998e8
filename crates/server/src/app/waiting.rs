//! `landfall events`: shows and changes what waits for delivery.

use std::{process::ExitCode, time::SystemTime};

use anyhow::Context as _;
use landfall_hooks::outbox::{EventSelection, EventState, Events, Query, StoredEvent};

use super::{
    state,
    terminal::{columns, plain, print, rough},
};
use crate::settings::{self, EventsAction, EventsCommand, Loaded};

/// `landfall events`: lists, retries or drops events, beside a server that runs or without one.
///
/// # Errors
/// What keeps it from being done, in words for the person who wants it.
pub async fn events(loaded: Loaded, command: EventsCommand) -> anyhow::Result<ExitCode> {
    for warning in &loaded.warnings {
        eprintln!("landfall: warning: {warning}");
    }
    let wanted = state::database(&loaded.settings);
    let database = state::opened(&wanted);
    let place = state::place(&database);
    if let settings::Database::File(file) = &wanted {
        anyhow::ensure!(
            file.is_file(),
            "there is no {place}: no event has waited yet, or the server keeps them elsewhere (its \
             start-up line \"Using … for events that wait\" says where); give this command the \
             settings of the server, or write --state-dir DIR or --database URL"
        );
    }
    let events = Events::open(&database)
        .await
        .with_context(|| format!("{place} can't be used"))?;
    match command.action {
        EventsAction::List => list(&events, &command).await,
        EventsAction::Retry => {
            let count = events.retry(&choice(&command)).await?;
            changed(count, &command, "delivered again within seconds")
        }
        EventsAction::Delete => {
            let count = events.delete(&choice(&command)).await?;
            changed(count, &command, "dropped")
        }
    }
}

/// Which events are meant.
fn choice(command: &EventsCommand) -> EventSelection {
    match &command.transport {
        _ if !command.all => EventSelection::Ids(command.ids.clone()),
        Some(name) => EventSelection::DeadOfRoute(name.clone()),
        None => EventSelection::AllDead,
    }
}

/// Says what became of it; an id that nothing has is a failure.
fn changed(count: u64, command: &EventsCommand, what: &str) -> anyhow::Result<ExitCode> {
    let noun = if count == 1 { "event" } else { "events" };
    print(&format!("{count} {noun} {what}\n"))?;
    let found_none = count == 0 && !command.all;
    Ok(if found_none {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

async fn list(events: &Events, command: &EventsCommand) -> anyhow::Result<ExitCode> {
    let states = match (command.all, command.pending) {
        (true, _) => vec![EventState::Dead, EventState::Pending, EventState::Prepared],
        (false, true) => vec![EventState::Pending],
        (false, false) => vec![EventState::Dead],
    };
    let query = Query {
        states,
        route: command.transport.clone(),
        upload: command.upload.clone(),
        limit: command.limit,
        ..Query::default()
    };
    let found = events.list(&query).await?;
    if command.json {
        for event in &found {
            print(&format!("{}\n", serde_json::to_string(event)?))?;
        }
    } else {
        print(&table(&found, SystemTime::now()))?;
        if found.len() == command.limit {
            print(&format!(
                "… the newest {}; --limit shows more\n",
                found.len()
            ))?;
        }
        if found.is_empty() {
            let which = match (command.all, command.pending) {
                (true, _) => "there is no event",
                (false, true) => "no event waits",
                (false, false) => "no event was put aside",
            };
            print(&format!("{which}\n"))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// A line for each event under a line of headings.
fn table(events: &[StoredEvent], now: SystemTime) -> String {
    if events.is_empty() {
        return String::new();
    }
    let headings = [
        "ID",
        "STATE",
        "SINCE",
        "TRIED",
        "WAY",
        "EVENT",
        "UPLOAD",
        "LAST ERROR",
    ];
    let mut rows = vec![headings.map(str::to_owned)];
    for event in events {
        let since = now.duration_since(event.since()).unwrap_or_default();
        rows.push([
            event.id.clone(),
            match event.state {
                EventState::Dead => "dead".to_owned(),
                EventState::Pending => "pending".to_owned(),
                EventState::Prepared => "prepared".to_owned(),
            },
            format!("{} ago", rough(since)),
            event.attempts.to_string(),
            event.route.clone(),
            event.event.clone(),
            plain(&event.upload, usize::MAX),
            plain(event.error.as_deref().unwrap_or("-"), 120),
        ]);
    }
    columns(&rows)
}
