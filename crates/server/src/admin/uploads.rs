//! The jobs of all subjects for the dashboard: list, details, cancellation and deletion.
//!
//! The details do not depend on the store: after `STORE_TIMEOUT`, they are those of the database alone.
//! An active job must be cancelled before it is deleted. Its uploads are terminated first, and a hook may deny that;
//! the job is deleted last. Successful actions are logged with their operator.

use std::time::{Duration, SystemTime};

use axum::{
    Json,
    extract::{Extension, Path, Query, State, rejection::QueryRejection},
};
use http::{StatusCode, request::Parts};
use jiff::Timestamp;
use landfall::{hook::Decision, upload::UploadId};
use landfall_access::Problem;
use landfall_hooks::UploadData;
use landfall_hooks::rfc3339;
use landfall_state::outbox::{DeliveredEvent, EventState, StoredEvent};
use landfall_state::queue::{Job, JobId, JobState, Scope, tracking};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::{
    Admin,
    access::Operator,
    dead_letters::event_json,
    invalid,
    job_json::{is_direct, job_json},
};

const DEFAULT_PAGE: usize = 50;
const MAX_PAGE: usize = 500;
/// Events of an upload, per state.
const MAX_EVENTS: usize = 50;
/// The state in the database is shown even if the store does not respond.
const STORE_TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct UploadQuery {
    #[serde(default)]
    state: String,
    #[serde(default)]
    search: String,
    from: Option<String>,
    to: Option<String>,
    after: Option<i64>,
    limit: Option<usize>,
}

pub(super) async fn list(
    State(admin): State<Admin>,
    parts: Parts,
    query: Result<Query<UploadQuery>, QueryRejection>,
) -> Result<Json<Value>, Problem> {
    let Query(filter) = query.map_err(|error| invalid(error.body_text()))?;
    let mut query = landfall_state::queue::Query::new(Scope::All);
    let names = filter.state.split(',').map(str::trim);
    query.states = names
        .filter(|name| !name.is_empty())
        .map(|name| name.parse::<JobState>())
        .collect::<Result<_, _>>()
        .map_err(|error| invalid(error.to_string()))?;
    query.search = Some(filter.search.trim().to_owned()).filter(|search| !search.is_empty());
    query.created_from = moment(filter.from)?;
    query.created_before = moment(filter.to)?;
    query.after = filter.after.map(JobId);
    query.newest_first = true;
    query.limit = filter.limit.unwrap_or(DEFAULT_PAGE).clamp(1, MAX_PAGE);
    let page = admin.0.parts.queue.list(&query).await?;
    let next = page.jobs.last().filter(|_| page.has_more);
    let uploads: Value = page
        .jobs
        .iter()
        .map(|job| upload_json(&admin, &parts, job))
        .collect();
    Ok(Json(
        json!({ "uploads": uploads, "next": next.map(|job| job.id.0) }),
    ))
}

fn moment(text: Option<String>) -> Result<Option<SystemTime>, Problem> {
    let text = text.filter(|text| !text.is_empty());
    let parse = |text: String| text.parse::<Timestamp>().map(SystemTime::from);
    let moment = text.map(parse).transpose();
    moment.map_err(|error| invalid(format!("from and to must be times in RFC 3339: {error}")))
}

pub(super) async fn get(
    State(admin): State<Admin>,
    Path(id): Path<String>,
    parts: Parts,
) -> Result<Json<Value>, Problem> {
    let job = find(&admin, &id).await?;
    let id = job
        .upload_id
        .as_deref()
        .and_then(|id| UploadId::new(id).ok());
    let handler = &admin.0.parts.handler;
    let mut stored = None;
    if let Some(id) = &id {
        match timeout(STORE_TIMEOUT, handler.get(id)).await {
            Ok(Ok(found)) => stored = found,
            Ok(Err(error)) => tracing::warn!(%id, %error, "failed to read upload for a dashboard"),
            Err(_) => tracing::warn!(%id, "timed out reading upload for a dashboard"),
        }
    }
    let (events, delivered) = stored_events(&admin, &job).await?;
    let mut upload = upload_json(&admin, &parts, &job);
    if stored.is_none() {
        upload["download_url"] = Value::Null;
    }
    let data = stored
        .as_ref()
        .map(|found| UploadData::new(&found.upload, found.offset));
    let (place, metadata) = data.map(|data| (data.storage, data.metadata)).unzip();
    Ok(Json(json!({
        "upload": upload,
        "max_size": job.max_size,
        "etag": job.etag,
        "storage": place.flatten(),
        "upload_metadata": metadata,
        "removed_at": stored.and_then(|found| handler.expiry(&found)).map(rfc3339::millis),
        "has_hooks": admin.0.parts.app.hooks.events().is_some(),
        "events": events.iter().map(event_json).collect::<Value>(),
        "delivered": delivered,
    })))
}

/// With the URL of a finished upload, unless downloads are disabled.
fn upload_json(admin: &Admin, parts: &Parts, job: &Job) -> Value {
    let handler = &admin.0.parts.handler;
    let mut json = job_json(admin, job);
    let is_there = job.state == JobState::Completed && handler.can_download() && !is_direct(job);
    let id = job.upload_id.as_deref().filter(|_| is_there);
    let url = id.map(|id| handler.creation_url(parts) + &id.replace('%', "%25"));
    json["download_url"] = url.into();
    json
}

/// Pending events and dead letters, the newest of each, and delivered events, the newest.
async fn stored_events(
    admin: &Admin,
    job: &Job,
) -> Result<(Vec<StoredEvent>, Vec<DeliveredEvent>), Problem> {
    let (mut found, mut delivered) = (Vec::new(), Vec::new());
    let Some(events) = admin.0.parts.app.hooks.events() else {
        return Ok((found, delivered));
    };
    let keys = [job.upload_id.clone(), Some(format!("job:{}", job.id))];
    for upload in keys.into_iter().flatten() {
        for state in [EventState::Pending, EventState::Dead] {
            let query = landfall_state::outbox::Query {
                states: vec![state],
                upload: Some(upload.clone()),
                limit: MAX_EVENTS,
                ..landfall_state::outbox::Query::default()
            };
            found.extend(events.list(&query).await?);
        }
        delivered.extend(events.history(&upload, MAX_EVENTS).await?);
    }
    found.sort_by_key(|event| event.created_at);
    delivered.sort_by_key(|event| event.delivered_at);
    Ok((found, delivered))
}

pub(super) async fn cancel(
    State(admin): State<Admin>,
    Extension(operator): Extension<Operator>,
    Path(id): Path<String>,
) -> Result<Json<Value>, Problem> {
    let job = find(&admin, &id).await?;
    let (queue, handler) = (&admin.0.parts.queue, &admin.0.parts.handler);
    let cancelled = tracking::cancel(queue, handler, &job, "cancelled by an operator");
    if let Err(error) = cancelled.await {
        tracing::error!(job = %job.id, %error, "failed to cancel upload");
        let detail = "The upload cannot be cancelled now; try again.";
        return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail));
    }
    // Its current state, even if another request ended it.
    let job = find(&admin, &id).await?;
    if job.state != JobState::Cancelled {
        let state = job.state;
        let message = format!("The upload cannot be cancelled: it is already {state}.");
        return Err(Problem::new(StatusCode::CONFLICT, message));
    }
    operator.audit("cancel", name(&job));
    Ok(Json(job_json(&admin, &job)))
}

/// Deletes the bytes, as a client's DELETE does, and then the job.
pub(super) async fn delete(
    State(admin): State<Admin>,
    Extension(operator): Extension<Operator>,
    Path(id): Path<String>,
) -> Result<Json<Value>, Problem> {
    let job = find(&admin, &id).await?;
    if !job.state.is_terminal() {
        let message = "The upload cannot be deleted: it is active. Cancel it first.";
        return Err(Problem::new(StatusCode::CONFLICT, message));
    }
    let queue = &admin.0.parts.queue;
    for id in queue.uploads_of(job.id).await? {
        match admin.0.parts.handler.terminate_by_id(&id).await {
            Ok(Decision::Allow(_)) => {}
            Ok(_) => {
                let message = "The upload was not deleted: a hook denied it.";
                return Err(Problem::new(StatusCode::CONFLICT, message));
            }
            Err(error) => {
                tracing::error!(%id, %error, "failed to delete upload");
                let detail = "The upload cannot be deleted now; try again.";
                return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail));
            }
        }
    }
    queue.delete_ended(job.id).await?;
    operator.audit("delete", name(&job));
    Ok(Json(json!({ "deleted": job.id.0 })))
}

fn name(job: &Job) -> &str {
    job.upload_id.as_deref().unwrap_or(&job.request_id)
}

async fn find(admin: &Admin, id: &str) -> Result<Job, Problem> {
    let unknown = || Problem::new(StatusCode::NOT_FOUND, "There is no such upload.");
    let id = id.parse::<JobId>().map_err(|_| unknown())?;
    admin.0.parts.queue.get(id).await?.ok_or_else(unknown)
}
