//! Lists, groups, retries and deletes dead letters for the dashboard.
//!
//! A change names at most `MAX_BATCH` ids, a group, or all dead letters. It never deletes pending events, although
//! `landfall events` can, and retries only a group of them.
//! Successful changes are logged with their operator.

use axum::{
    Json,
    extract::{
        Extension, Query, State,
        rejection::{JsonRejection, QueryRejection},
    },
};
use landfall_access::Problem;
use landfall_hooks::rfc3339;
use landfall_state::outbox::{EventGroup, EventSelection, EventState, StoredEvent};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Admin, access::Operator, invalid};

const DEFAULT_PAGE: usize = 50;
const MAX_BATCH: usize = 1000;
/// Uploads in a line of the log.
const MAX_LOGGED: usize = 20;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DeadLetterQuery {
    limit: Option<usize>,
    /// All four of a group, or none.
    transport: Option<String>,
    event: Option<String>,
    error: Option<String>,
    state: Option<EventState>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DeadLetterSelection {
    #[serde(default)]
    ids: Vec<String>,
    group: Option<EventGroup>,
    #[serde(default)]
    all: bool,
}

pub(super) async fn list(
    State(admin): State<Admin>,
    query: Result<Query<DeadLetterQuery>, QueryRejection>,
) -> Result<Json<Value>, Problem> {
    let Query(query) = query.map_err(|error| invalid(error.body_text()))?;
    let limit = query.limit.unwrap_or(DEFAULT_PAGE).clamp(1, MAX_BATCH);
    let group = match (query.transport, query.event, query.error, query.state) {
        (Some(route), Some(event), Some(error), Some(state)) => Some(EventGroup {
            route,
            event,
            error,
            state,
        }),
        (None, None, None, None) => None,
        _ => {
            let detail = "Set transport, event, error and state, or none of them.";
            return Err(invalid(detail));
        }
    };
    let query = landfall_state::outbox::Query {
        group,
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

pub(super) async fn failed(State(admin): State<Admin>) -> Result<Json<Value>, Problem> {
    let found = match admin.0.parts.app.hooks.events() {
        Some(events) => events.failed().await?,
        None => Vec::new(),
    };
    Ok(Json(json!({ "groups": found })))
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
        "created_at": rfc3339::millis(event.created_at),
        "due_at": event.due_at.map(rfc3339::millis),
        "dead_at": event.dead_at.map(rfc3339::millis),
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
    ids: Result<Json<DeadLetterSelection>, JsonRejection>,
    action: DeadLetterAction,
) -> Result<Json<Value>, Problem> {
    let Json(selection) = ids.map_err(|error| Problem::new(error.status(), error.body_text()))?;
    let is_allowed = |group: &EventGroup| {
        group.state == EventState::Dead || matches!(action, DeadLetterAction::Retry)
    };
    let choice = match (selection.all, selection.group, selection.ids.len()) {
        (true, None, 0) => Ok(EventSelection::Dead(None)),
        (false, Some(group), 0) if is_allowed(&group) => Ok(EventSelection::Group(group)),
        (false, Some(_), 0) => Err("Pending events are retried only.".to_owned()),
        (false, None, 1..=MAX_BATCH) => Ok(EventSelection::DeadIds(selection.ids)),
        (false, None, 1..) => Err(format!("At most {MAX_BATCH} ids are allowed per request.")),
        _ => Err("Set one of \"ids\", \"group\" and \"all\": true.".to_owned()),
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
                EventSelection::Dead(_) => "all".to_owned(),
                EventSelection::Group(group) => format!("{}: {}", group.event, group.error),
                _ => uploads.join(","),
            },
        );
    }
    Ok(Json(json!({ "changed": changed.count })))
}
