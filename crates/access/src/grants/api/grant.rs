//! `POST /uploadjobs`: authenticates, reads the request, applies policies and stores the grant, in this order.
//!
//! Idempotent by the principal's request id: until its job ends, an equal request gets the same job and another token;
//! a different one gets 409. A job that failed before it had an upload is replaced. Only the hash of a token is stored:
//! no later response can contain the same one.

use std::sync::Arc;

use crate::{Problem, read_body, request_id};
use axum::{body::Body, extract::State, response::Response};
use http::{StatusCode, request::Parts};
use landfall::REQUEST_LOG;
use landfall_hooks::rfc3339;
use landfall_state::queue::{GrantOutcome, Job, JobState, NewJob, Token, policy};
use serde_json::{Value, json};

use super::{
    Api, ApiStyle, count, create, fault,
    grant_request::{self, ResponseMode},
    json,
};

const MAX_BODY: usize = 64 * 1024;

pub(super) async fn grant(
    State(api): State<Arc<Api>>,
    parts: Parts,
    body: Body,
) -> Result<Response, Problem> {
    let answer = issue(&api, &parts, body).await;
    let stats = &api.settings.stats;
    count(match &answer {
        Ok((false, _)) => &stats.granted,
        Ok((true, _)) => &stats.repeated,
        Err(problem) if problem.status().is_server_error() => &stats.failed,
        Err(_) => &stats.rejected,
    });
    answer.map(|(_, response)| response)
}

/// Returns whether the grant existed before.
async fn issue(api: &Api, parts: &Parts, body: Body) -> Result<(bool, Response), Problem> {
    let principal = api.authenticate_for_grant(parts).await?;
    let body = read_body(body, MAX_BODY, api.settings.body_timeout).await?;
    let (mut new, mode) = grant_request::read(&parts.headers, &body, api.settings.style)?;
    new.subject.clone_from(&principal.subject);
    new.link = principal.link;
    new.request_fingerprint = Some(new.fingerprint());
    let decided = policy::decide(&api.settings.policies, &principal, &mut new, parts).await;
    decided.map_err(|denial| {
        // Within the limits, the application denied it.
        let by = new.check().map_or("grants", |()| "pre-grant");
        denied(api, parts, &new, by, denial)
    })?;
    if mode == ResponseMode::Url {
        create::check_metadata(&new)?;
    }
    let queue = &api.settings.queue;
    let (subject, id) = (new.subject.clone(), new.request_id.clone());
    let mut granted = queue.grant(new.clone()).await.map_err(fault(parts))?;
    if let GrantOutcome::Existing(job, _) | GrantOutcome::Conflict(job) = &granted
        && job.state == JobState::Failed
        && queue
            .delete_denied(&subject, &id)
            .await
            .map_err(fault(parts))?
    {
        granted = queue.grant(new.clone()).await.map_err(fault(parts))?;
    }
    let (was_given, mut job, token) = match granted {
        GrantOutcome::Created(job, token) => (false, job, Some(token)),
        GrantOutcome::Existing(job, token) => (true, job, token),
        GrantOutcome::Conflict(_) => {
            let detail = "this id was used for another request; choose another id";
            return Err(Problem::new(StatusCode::CONFLICT, detail));
        }
        GrantOutcome::LimitExceeded(why) => return Err(denied(api, parts, &new, "grants", why)),
    };
    let ended = match job.state {
        JobState::Cancelled => Some("the upload with this id was cancelled"),
        JobState::Failed => Some("the upload with this id failed"),
        JobState::Expired => Some("the upload with this id expired"),
        _ => None,
    };
    if let Some(what) = ended {
        let detail = format!("{what}; request another one with another id");
        return Err(Problem::new(StatusCode::GONE, detail));
    }
    let mut upload_url = None;
    if let (ResponseMode::Url, Some(token)) = (mode, &token) {
        let (url, created) = create::create(api, parts, &job, token).await?;
        (upload_url, job) = (Some(url), created);
    }
    tracing::debug!(
        job = %job.id,
        subject = principal.subject,
        requestId = request_id(parts),
        again = was_given,
        "UploadGranted"
    );
    let status = match (api.settings.style, was_given) {
        (ApiStyle::Landfall, false) => StatusCode::CREATED,
        _ => StatusCode::OK,
    };
    let location = api.settings.handler.creation_url(parts);
    let token = token.as_ref().filter(|_| upload_url.is_none());
    let body = answer(api.settings.style, &job, token, location, upload_url);
    Ok((was_given, json(status, &body)))
}

/// An upload that is not granted leaves no other trace for an operator.
fn denied(api: &Api, parts: &Parts, wanted: &NewJob, by: &str, why: impl Into<Problem>) -> Problem {
    let problem = why.into();
    if problem.status().is_client_error() {
        let client = api.settings.handler.client(parts);
        tracing::info!(
            target: REQUEST_LOG,
            size = wanted.size,
            name = wanted.filename.chars().take(255).collect::<String>(),
            subject = wanted.subject,
            link = wanted.link,
            client = client.map(tracing::field::display),
            by,
            status = problem.status().as_u16(),
            reason = problem.detail(),
            "UploadDenied"
        );
    }
    problem
}

/// Contains the upload token only this once.
fn answer(
    style: ApiStyle,
    job: &Job,
    token: Option<&Token>,
    location: String,
    upload_url: Option<String>,
) -> Value {
    let token = token.map(Token::reveal);
    match style {
        ApiStyle::Landfall => {
            let mut body = json!({
                "request_id": job.request_id,
                "upload_token": token,
                "expires_at": rfc3339::millis(job.expires_at),
                "filename": job.filename,
                "size": job.size,
                "location": location,
                "state": job.state,
            });
            if let Some(url) = upload_url {
                body["upload_url"] = url.into();
            }
            body
        }
        ApiStyle::Laravel => json!({
            "request_id": job.request_id,
            "upload_token": token,
            "filename": job.filename,
            "size": job.size.unwrap_or_default(),
            "location": location,
        }),
    }
}
