//! Lists, retries and deletes dead letters for the dashboard.
//!
//! A change never selects pending events, although `landfall events` can. It names at most `MAX_BATCH` ids, or all.
//! Successful changes are logged with their operator.

use axum::{
    Json,
    extract::{
        Extension, Query, State,
        rejection::{JsonRejection, QueryRejection},
    },
};
use landfall_access::Problem;
use landfall_state::outbox::{EventSelection, StoredEvent};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Admin, access::Operator, invalid, job_json::time};

const DEFAULT_PAGE: usize = 50;
const MAX_BATCH: usize = 1000;
/// Uploads in a line of the log.
const MAX_LOGGED: usize = 20;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DeadLetterQuery {
    limit: Option<usize>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DeadLetterIds {
    #[serde(default)]
    ids: Vec<String>,
    #[serde(default)]
    all: bool,
}

pub(super) async fn list(
    State(admin): State<Admin>,
    query: Result<Query<DeadLetterQuery>, QueryRejection>,
) -> Result<Json<Value>, Problem> {
    let Query(query) = query.map_err(|error| invalid(error.body_text()))?;
    let limit = query.limit.unwrap_or(DEFAULT_PAGE).clamp(1, MAX_BATCH);
    let query = landfall_state::outbox::Query {
        limit: limit + 1,
        ..landfall_state::outbox::Query::default()
    };
    let found = match admin.0.parts.app.hooks.events() {
        Some(events) => events.list(&query).await?,
        None => Vec::new(),
    };
    let events: Value = found.iter().take(limit).map(event_json).collect();
    Ok(Json(
        json!({ "events": events, "has_more": found.len() > limit }),
    ))
}

pub(super) fn event_json(event: &StoredEvent) -> Value {
    let metadata = event
        .message
        .as_ref()
        .map(|message| &message.upload.metadata);
    json!({
        "id": event.id,
        "transport": event.route,
        "event": event.event,
        "upload_id": event.upload,
        "filename": metadata.and_then(|metadata| metadata.get("filename")),
        "state": event.state,
        "attempts": event.attempts,
        "error": event.error,
        "created_at": time(event.created_at),
        "due_at": event.due_at.map(time),
        "dead_at": event.dead_at.map(time),
    })
}

#[derive(Clone, Copy)]
pub(super) enum DeadLetterAction {
    Retry,
    Delete,
}

pub(super) async fn change(
    State(admin): State<Admin>,
    Extension(operator): Extension<Operator>,
    ids: Result<Json<DeadLetterIds>, JsonRejection>,
    action: DeadLetterAction,
) -> Result<Json<Value>, Problem> {
    let Json(selection) = ids.map_err(|error| Problem::new(error.status(), error.body_text()))?;
    let choice = match (selection.all, selection.ids.len()) {
        (true, 0) => Ok(EventSelection::AllDead),
        (false, 1..=MAX_BATCH) => Ok(EventSelection::DeadIds(selection.ids)),
        (false, 0) | (true, _) => Err("Set either \"ids\" or \"all\": true.".to_owned()),
        (false, _) => Err(format!("At most {MAX_BATCH} ids are allowed per request.")),
    };
    let choice = choice.map_err(invalid)?;
    let Some(events) = admin.0.parts.app.hooks.events() else {
        return Ok(Json(json!({ "changed": 0 })));
    };
    let (changed, action) = match action {
        DeadLetterAction::Retry => (events.retry(&choice).await?, "retry events"),
        DeadLetterAction::Delete => (events.delete(&choice).await?, "delete events"),
    };
    if changed.count > 0 {
        let uploads: Vec<_> = changed.uploads.into_iter().take(MAX_LOGGED).collect();
        operator.audit(
            action,
            match choice {
                EventSelection::AllDead => "all".to_owned(),
                _ => uploads.join(","),
            },
        );
    }
    Ok(Json(json!({ "changed": changed.count })))
}
