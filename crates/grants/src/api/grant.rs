//! Asking for an upload.

use std::time::Duration;

use axum::{extract::Request, response::Response};
use http::{StatusCode, request::Parts};
use serde_json::{Value, json};

use super::{
    Api, Style,
    asked::{Asked, Mode},
    create::{self, Created},
    edge::read_body,
    json,
    problem::{Problem, fault},
    request_id,
    row::rfc3339,
    stats::count,
};
use crate::{
    Caller, Job, JobState, Token,
    policy::{self, Ask},
    queue::{Bounds, Granted, NewJob, Refusal},
};

/// When to come again while too much is under way: nobody knows when some of it ends.
const BUSY: Duration = Duration::from_secs(60);

/// `POST /uploadjobs`
pub(super) async fn grant(api: &Api, request: Request) -> Result<Response, Problem> {
    let answer = give(api, request).await;
    let stats = &api.settings.stats;
    count(match &answer {
        Ok((false, _)) => &stats.granted,
        Ok((true, _)) => &stats.granted_again,
        Err(problem) if problem.is_ours() => &stats.failed,
        Err(_) => &stats.refused,
    });
    answer.map(|(_, response)| response)
}

/// Gives a grant, and says whether it was given before.
async fn give(api: &Api, request: Request) -> Result<(bool, Response), Problem> {
    let (parts, body) = request.into_parts();
    let caller = api.identify(&parts).await?;
    let (most, time) = (api.settings.max_body, api.settings.body_time);
    let body = read_body(body, most, time).await?;
    let asked = Asked::read(&parts.headers, &body, api.settings.style)?;
    let mode = asked.mode;
    let new = agree(api, &caller, asked, &parts).await?;
    let queue = &api.settings.queue;
    let granted = queue.grant(new).await;
    let granted = granted.map_err(|error| fault(&error, request_id(&parts)))?;
    let (was_given, mut job, token) = match granted {
        Granted::New(job, token) => (false, job, Some(token)),
        Granted::Again(job, token) => (true, job, token),
        Granted::Conflict(_) => {
            return Err(Problem::new(
                StatusCode::CONFLICT,
                "something else was asked for under this id; choose another id",
            ));
        }
        Granted::Refused(refusal) => return Err(refused(refusal)),
    };
    match job.state {
        JobState::Cancelled | JobState::Failed | JobState::Expired => {
            let what = match job.state {
                JobState::Cancelled => "the upload with this id was cancelled",
                JobState::Failed => "the upload with this id failed",
                _ => "the time of the upload with this id is over",
            };
            let detail = format!("{what}; ask for another one under another id");
            return Err(Problem::new(StatusCode::GONE, detail));
        }
        _ => {}
    }
    let mut upload_url = None;
    if let (Mode::Url, Some(token)) = (mode, &token) {
        let Created { url, job: now } = create::create(api, &parts, &job, token).await?;
        upload_url = Some(url);
        job = now;
    }
    tracing::debug!(
        job = %job.id,
        subject = caller.subject,
        requestId = request_id(&parts),
        again = was_given,
        "UploadGranted"
    );
    let status = match (api.settings.style, was_given) {
        (Style::Landfall, false) => StatusCode::CREATED,
        _ => StatusCode::OK,
    };
    let location = api.settings.handler.creation_url(&parts);
    let token = token.as_ref().filter(|_| upload_url.is_none());
    let body = answer(api.settings.style, &job, token, location, upload_url);
    Ok((was_given, json(status, &body)))
}

/// Asks the policies; what is left is what may be granted.
async fn agree(api: &Api, caller: &Caller, asked: Asked, parts: &Parts) -> Result<NewJob, Problem> {
    let mut new = NewJob::new(&*caller.subject, asked.id, asked.filename);
    new.filetype = asked.filetype;
    new.size = asked.filesize;
    new.metadata = asked.metadata;
    let fingerprint = new.fingerprint();
    let mut ask = Ask::new(&*new.request_id, &*new.filename);
    ask.filesize = new.size;
    ask.filetype = new.filetype.clone();
    ask.metadata = new.metadata;
    policy::decide(&api.settings.policies, caller, &mut ask, parts).await?;
    new.filename = ask.filename;
    new.filetype = ask.filetype;
    new.size = ask.filesize;
    new.max_size = ask.limits.max_size;
    new.metadata = ask.metadata;
    new.asked = Some(fingerprint);
    new.bounds = Bounds::of(&ask.limits);
    Ok(new)
}

fn refused(refusal: Refusal) -> Problem {
    let (detail, wait) = match refusal {
        Refusal::Active(most) => (
            format!("{most} uploads are under way, which is the most; finish or cancel one"),
            BUSY,
        ),
        Refusal::Rate(wait) => ("too many uploads were asked for".into(), wait),
        Refusal::Quota { quota, used } => (
            format!("{used} of {quota} bytes are used or reserved, and the rest is too little"),
            BUSY,
        ),
    };
    Problem::new(StatusCode::TOO_MANY_REQUESTS, detail).retry_after(wait)
}

/// The grant as its owner reads it, for the only time.
fn answer(
    style: Style,
    job: &Job,
    token: Option<&Token>,
    location: String,
    upload_url: Option<String>,
) -> Value {
    let token = token.map(Token::reveal);
    match style {
        Style::Landfall => {
            let mut body = json!({
                "request_id": job.request_id,
                "upload_token": token,
                "expires_at": rfc3339(job.expires_at),
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
        Style::Package => json!({
            "request_id": job.request_id,
            "upload_token": token,
            "filename": job.filename,
            "size": job.size.unwrap_or_default(),
            "location": location,
        }),
    }
}
