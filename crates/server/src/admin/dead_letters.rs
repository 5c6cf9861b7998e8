use axum::{
    Json,
    extract::{
        Query, State,
        rejection::{JsonRejection, QueryRejection},
    },
};
use landfall_api::Problem;
use landfall_outbox::{EventSelection, StoredEvent};
use serde::{Deserialize, Serialize};

use super::{Admin, invalid, job_json::time};

const DEFAULT_PAGE: usize = 50;
const MAX_BATCH: usize = 1000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DeadLetterQuery {
    limit: Option<usize>,
}

#[derive(Serialize)]
pub(super) struct DeadLetters {
    events: Vec<DeadLetter>,
    has_more: bool,
}

#[derive(Serialize)]
struct DeadLetter {
    id: String,
    transport: String,
    event: String,
    upload_id: String,
    filename: Option<String>,
    attempts: u64,
    error: Option<String>,
    dead_at: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DeadLetterIds {
    #[serde(default)]
    ids: Vec<String>,
    #[serde(default)]
    all: bool,
}

#[derive(Serialize)]
pub(super) struct ChangedCount {
    changed: u64,
}

pub(super) async fn list(
    State(admin): State<Admin>,
    query: Result<Query<DeadLetterQuery>, QueryRejection>,
) -> Result<Json<DeadLetters>, Problem> {
    let Query(query) = query.map_err(|error| invalid(error.body_text()))?;
    let limit = query.limit.unwrap_or(DEFAULT_PAGE).clamp(1, MAX_BATCH);
    let Some(events) = admin.0.parts.status.hooks.events() else {
        let (events, has_more) = (Vec::new(), false);
        return Ok(Json(DeadLetters { events, has_more }));
    };
    let query = landfall_outbox::Query {
        limit: limit + 1,
        ..landfall_outbox::Query::default()
    };
    let mut found = events.list(&query).await?;
    let has_more = found.len() > limit;
    found.truncate(limit);
    let json = |event: StoredEvent| DeadLetter {
        dead_at: time(event.since()),
        filename: event.message.and_then(|message| {
            let filename = message.upload.metadata.get("filename");
            filename.map(ToString::to_string)
        }),
        id: event.id,
        transport: event.route,
        event: event.event,
        upload_id: event.upload,
        attempts: event.attempts,
        error: event.error,
    };
    let events = found.into_iter().map(json).collect();
    Ok(Json(DeadLetters { events, has_more }))
}

#[derive(Debug, Clone, Copy)]
enum DeadLetterAction {
    Retry,
    Delete,
}

pub(super) async fn retry(
    State(admin): State<Admin>,
    ids: Result<Json<DeadLetterIds>, JsonRejection>,
) -> Result<Json<ChangedCount>, Problem> {
    change(&admin, ids, DeadLetterAction::Retry).await
}

pub(super) async fn delete(
    State(admin): State<Admin>,
    ids: Result<Json<DeadLetterIds>, JsonRejection>,
) -> Result<Json<ChangedCount>, Problem> {
    change(&admin, ids, DeadLetterAction::Delete).await
}

async fn change(
    admin: &Admin,
    ids: Result<Json<DeadLetterIds>, JsonRejection>,
    action: DeadLetterAction,
) -> Result<Json<ChangedCount>, Problem> {
    let Json(selection) = ids.map_err(|error| Problem::new(error.status(), error.body_text()))?;
    let choice = match (selection.all, selection.ids.len()) {
        (true, 0) => Ok(EventSelection::AllDead),
        (false, 1..=MAX_BATCH) => Ok(EventSelection::DeadIds(selection.ids)),
        (false, 0) | (true, _) => Err("Set either \"ids\" or \"all\": true.".to_owned()),
        (false, _) => Err(format!("At most {MAX_BATCH} ids are allowed per request.")),
    };
    let choice = choice.map_err(invalid)?;
    let changed = match (admin.0.parts.status.hooks.events(), action) {
        (None, _) => 0,
        (Some(events), DeadLetterAction::Retry) => events.retry(&choice).await?,
        (Some(events), DeadLetterAction::Delete) => events.delete(&choice).await?,
    };
    tracing::info!(changed, ?action, "dead letters changed by operator");
    Ok(Json(ChangedCount { changed }))
}
