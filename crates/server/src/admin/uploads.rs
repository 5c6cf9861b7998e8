//! Uploads: those under way, and what became of the others.

use axum::{
    Json,
    extract::{Path, Query, State, rejection::QueryRejection},
};
use http::StatusCode;
use landfall_grants::{
    Job, JobId, JobState, enforce,
    queue::{self, Scope},
};
use serde::{Deserialize, Serialize};

use super::{Admin, problem::Problem, row::Row};

/// Uploads on a page, unless somebody asks for more or less.
const PAGE: usize = 50;
/// Uploads on a page, at most.
const MOST: usize = 500;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    /// States with commas between them.
    #[serde(default)]
    state: String,
    #[serde(default)]
    search: String,
    after: Option<i64>,
    limit: Option<usize>,
}

#[derive(Serialize)]
pub(super) struct Uploads {
    uploads: Vec<Row>,
    /// What to give as `after` to see more.
    next: Option<i64>,
}

/// `GET uploads`: the newest first.
pub(super) async fn list(
    State(admin): State<Admin>,
    asked: Result<Query<Asked>, QueryRejection>,
) -> Result<Json<Uploads>, Problem> {
    let Query(asked) = asked.map_err(|wrong| Problem::invalid(wrong.body_text()))?;
    let mut query = queue::Query::new(Scope::All);
    let names = asked.state.split(',').map(str::trim);
    query.states = names
        .filter(|name| !name.is_empty())
        .map(|name| name.parse::<JobState>())
        .collect::<Result<_, _>>()
        .map_err(|wrong| Problem::invalid(wrong.to_string()))?;
    query.search = Some(asked.search.trim().to_owned()).filter(|search| !search.is_empty());
    query.after = asked.after.map(JobId);
    query.newest_first = true;
    query.limit = asked.limit.unwrap_or(PAGE).clamp(1, MOST);
    let page = admin.0.queue.list(&query).await?;
    let last = page.jobs.last().map(|job| job.id.0);
    let now = admin.now();
    Ok(Json(Uploads {
        next: last.filter(|_| page.has_more),
        uploads: page.jobs.into_iter().map(|job| Row::of(job, now)).collect(),
    }))
}

/// `GET uploads/{id}`.
pub(super) async fn get(
    State(admin): State<Admin>,
    Path(id): Path<String>,
) -> Result<Json<Row>, Problem> {
    let job = find(&admin, &id).await?;
    Ok(Json(Row::of(job, admin.now())))
}

/// `DELETE uploads/{id}`: ends it, and removes what was received.
pub(super) async fn cancel(
    State(admin): State<Admin>,
    Path(id): Path<String>,
) -> Result<Json<Row>, Problem> {
    let job = find(&admin, &id).await?;
    let cancelled = enforce::cancel(
        &admin.0.queue,
        &admin.0.handler,
        &job,
        "cancelled by an operator",
    );
    if let Err(error) = cancelled.await {
        tracing::error!(job = %job.id, %error, "an upload can't be cancelled");
        return Err(Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "The upload can't be cancelled now; try again.",
        ));
    }
    // As it stands now, whoever ended it.
    let job = find(&admin, &id).await?;
    if job.state != JobState::Cancelled {
        let message = format!("It can't be cancelled: it is {} already.", job.state);
        return Err(Problem::new(StatusCode::CONFLICT, message));
    }
    Ok(Json(Row::of(job, admin.now())))
}

async fn find(admin: &Admin, id: &str) -> Result<Job, Problem> {
    let unknown = || Problem::new(StatusCode::NOT_FOUND, "There is no such upload.");
    let id = id.parse::<JobId>().map_err(|_| unknown())?;
    admin.0.queue.get(id).await?.ok_or_else(unknown)
}
