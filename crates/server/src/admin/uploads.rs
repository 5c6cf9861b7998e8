use axum::{
    Json,
    extract::{Path, Query, State, rejection::QueryRejection},
};
use http::StatusCode;
use landfall_api::Problem;
use landfall_queue::{Job, JobId, JobState, Scope, tracking};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Admin, invalid, job_json::job_json};

const DEFAULT_PAGE: usize = 50;
const MAX_PAGE: usize = 500;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct UploadQuery {
    #[serde(default)]
    state: String,
    #[serde(default)]
    search: String,
    after: Option<i64>,
    limit: Option<usize>,
}

pub(super) async fn list(
    State(admin): State<Admin>,
    query: Result<Query<UploadQuery>, QueryRejection>,
) -> Result<Json<Value>, Problem> {
    let Query(filter) = query.map_err(|error| invalid(error.body_text()))?;
    let mut query = landfall_queue::Query::new(Scope::All);
    let names = filter.state.split(',').map(str::trim);
    query.states = names
        .filter(|name| !name.is_empty())
        .map(|name| name.parse::<JobState>())
        .collect::<Result<_, _>>()
        .map_err(|error| invalid(error.to_string()))?;
    query.search = Some(filter.search.trim().to_owned()).filter(|search| !search.is_empty());
    query.after = filter.after.map(JobId);
    query.newest_first = true;
    query.limit = filter.limit.unwrap_or(DEFAULT_PAGE).clamp(1, MAX_PAGE);
    let page = admin.0.parts.queue.list(&query).await?;
    let next = page.jobs.last().filter(|_| page.has_more);
    let uploads: Value = page.jobs.iter().map(job_json).collect();
    Ok(Json(
        json!({ "uploads": uploads, "next": next.map(|job| job.id.0) }),
    ))
}

pub(super) async fn get(
    State(admin): State<Admin>,
    Path(id): Path<String>,
) -> Result<Json<Value>, Problem> {
    let job = find(&admin, &id).await?;
    Ok(Json(job_json(&job)))
}

pub(super) async fn cancel(
    State(admin): State<Admin>,
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
    Ok(Json(job_json(&job)))
}

async fn find(admin: &Admin, id: &str) -> Result<Job, Problem> {
    let unknown = || Problem::new(StatusCode::NOT_FOUND, "There is no such upload.");
    let id = id.parse::<JobId>().map_err(|_| unknown())?;
    admin.0.parts.queue.get(id).await?.ok_or_else(unknown)
}
