use axum::response::{IntoResponse as _, Response};
use http::StatusCode;
use landfall_api::Problem;
use landfall_queue::QueueError;
use serde_json::json;

use super::ApiStyle;

/// The same if the job belongs to another subject.
pub(super) fn not_found() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "upload not found")
}

/// The cause is not revealed to clients.
pub(super) fn fault(error: &QueueError, request_id: &str) -> Problem {
    tracing::error!(%error, requestId = request_id, "failed to access the upload queue");
    Problem::unavailable("the upload queue is temporarily unavailable")
}

pub(super) fn respond(problem: Problem, style: ApiStyle) -> Response {
    match style {
        ApiStyle::Landfall => problem.into_response(),
        ApiStyle::Laravel => respond_as_laravel(problem),
    }
}

fn respond_as_laravel(problem: Problem) -> Response {
    let (status, message) = match problem.status() {
        StatusCode::UNAUTHORIZED => (None, "Unauthenticated."),
        StatusCode::FORBIDDEN if problem.is_cross_site() => {
            (StatusCode::from_u16(419).ok(), "CSRF token mismatch.")
        }
        StatusCode::FORBIDDEN => (None, "This action is unauthorized."),
        _ => (None, problem.detail()),
    };
    let mut body = json!({ "message": message });
    if !problem.errors().is_empty() {
        body["errors"] = problem.errors_by_field();
    }
    let status = status.unwrap_or(problem.status());
    problem
        .with_status(status)
        .respond_with("application/json", &body)
}
