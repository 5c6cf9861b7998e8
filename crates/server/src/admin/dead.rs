//! Events that could not be delivered.

use axum::{
    Json,
    extract::{
        Query, State,
        rejection::{JsonRejection, QueryRejection},
    },
};
use landfall_hooks::outbox::{self, EventSelection};
use serde::{Deserialize, Serialize};

use super::{Admin, problem::Problem, row::time};

/// Events that are shown, unless somebody asks for more or less.
const PAGE: usize = 50;
/// Events that are shown or changed at once, at most.
const MOST: usize = 1000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    limit: Option<usize>,
}

#[derive(Serialize)]
pub(super) struct Dead {
    events: Vec<Event>,
    has_more: bool,
}

#[derive(Serialize)]
struct Event {
    id: String,
    /// The way that it didn't arrive over.
    transport: String,
    hook: String,
    upload_id: String,
    filename: Option<String>,
    attempts: u64,
    error: Option<String>,
    since: String,
}

/// Which ones.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Which {
    #[serde(default)]
    ids: Vec<String>,
    #[serde(default)]
    all: bool,
}

#[derive(Serialize)]
pub(super) struct Changed {
    changed: u64,
}

/// `GET dead`: the newest first.
pub(super) async fn list(
    State(admin): State<Admin>,
    asked: Result<Query<Asked>, QueryRejection>,
) -> Result<Json<Dead>, Problem> {
    let Query(asked) = asked.map_err(|wrong| Problem::invalid(wrong.body_text()))?;
    let limit = asked.limit.unwrap_or(PAGE).clamp(1, MOST);
    let Some(events) = admin.0.machine.events() else {
        let (events, has_more) = (Vec::new(), false);
        return Ok(Json(Dead { events, has_more }));
    };
    let query = outbox::Query {
        limit: limit + 1,
        ..outbox::Query::default()
    };
    let mut found = events.list(&query).await?;
    let has_more = found.len() > limit;
    found.truncate(limit);
    let shown = |event: outbox::StoredEvent| Event {
        since: time(event.since()),
        filename: event.message.and_then(|message| {
            message
                .upload
                .metadata
                .get("filename")
                .map(ToString::to_string)
        }),
        id: event.id,
        transport: event.route,
        hook: event.event,
        upload_id: event.upload,
        attempts: event.attempts,
        error: event.error,
    };
    let events = found.into_iter().map(shown).collect();
    Ok(Json(Dead { events, has_more }))
}

/// What is done to events.
#[derive(Debug, Clone, Copy)]
enum Deed {
    Retry,
    Drop,
}

/// `POST dead/retry`: they are tried again at once.
pub(super) async fn retry(
    State(admin): State<Admin>,
    which: Result<Json<Which>, JsonRejection>,
) -> Result<Json<Changed>, Problem> {
    change(&admin, which, Deed::Retry).await
}

/// `POST dead/drop`: they are gone for good.
pub(super) async fn drop(
    State(admin): State<Admin>,
    which: Result<Json<Which>, JsonRejection>,
) -> Result<Json<Changed>, Problem> {
    change(&admin, which, Deed::Drop).await
}

async fn change(
    admin: &Admin,
    which: Result<Json<Which>, JsonRejection>,
    deed: Deed,
) -> Result<Json<Changed>, Problem> {
    let Json(which) = which.map_err(|wrong| Problem::new(wrong.status(), wrong.body_text()))?;
    let choice = match (which.all, which.ids.len()) {
        (true, 0) => EventSelection::AllDead,
        (false, 1..=MOST) => EventSelection::DeadIds(which.ids),
        (false, 0) | (true, _) => {
            return Err(Problem::invalid("Say either \"ids\" or \"all\": true."));
        }
        (false, _) => {
            return Err(Problem::invalid(format!(
                "{MOST} ids are the most at once."
            )));
        }
    };
    let changed = match (admin.0.machine.events(), deed) {
        (None, _) => 0,
        (Some(events), Deed::Retry) => events.retry(&choice).await?,
        (Some(events), Deed::Drop) => events.delete(&choice).await?,
    };
    tracing::info!(
        changed,
        ?deed,
        "an operator looked after undelivered events"
    );
    Ok(Json(Changed { changed }))
}
