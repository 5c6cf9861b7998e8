//! `GET /uploadjobs` and `GET /uploadjobs/{request_id}`: the jobs that a principal may see.
//!
//! A job of another subject gets the same 404 as one that does not exist. Pages follow each other by job number.

use std::sync::Arc;

use crate::Problem;
use axum::{extract::State, response::Response};
use http::{HeaderValue, StatusCode, header, request::Parts};
use landfall::upload::UploadId;
use landfall_state::queue::{Job, JobId, JobState, Principal, Query, Scope};
use serde_json::Value;

use super::{Api, ApiStyle, IdPath, fault, id, job_json, json, link, not_found, scope};

const MAX_LIMIT: usize = 1000;

pub(super) async fn list(State(api): State<Arc<Api>>, parts: Parts) -> Result<Response, Problem> {
    let principal = api.authenticate(&parts).await?;
    let style = api.settings.style;
    let wanted = ListParams::read(parts.uri.query().unwrap_or_default())?;
    let mut query = Query::new(scope(&principal, wanted.subject.as_deref())?);
    query.states.clone_from(&wanted.states);
    if query.states.contains(&JobState::Completed) {
        query.states.push(JobState::Removed);
    }
    query.after = wanted.after;
    // The package's front end has no pagination: it gets the last page.
    let is_end = style == ApiStyle::Laravel && wanted.limit.is_none() && wanted.after.is_none();
    query.newest_first = is_end;
    let usual = if is_end { MAX_LIMIT } else { query.limit };
    query.limit = wanted.limit.unwrap_or(usual);
    let page = api.settings.queue.list(&query).await;
    let mut page = page.map_err(fault(&parts))?;
    if is_end {
        page.jobs.reverse();
        page.has_more = false;
    }
    let row = |job| job_json::job_json(job, style, principal.is_admin);
    let rows: Value = page.jobs.iter().map(row).collect();
    let mut response = json(StatusCode::OK, &rows);
    if let (true, Some(last)) = (page.has_more, page.jobs.last()) {
        let link = wanted.next(parts.uri.path(), last.id, query.limit);
        if let Ok(link) = HeaderValue::from_str(&link) {
            response.headers_mut().insert(header::LINK, link);
        }
    }
    Ok(response)
}

pub(super) async fn one(
    State(api): State<Arc<Api>>,
    path: IdPath,
    parts: Parts,
) -> Result<Response, Problem> {
    let id = id(path);
    // An API key may have a job with this id, and it gets that.
    if id == "link"
        && let Some(link) = link::find(&api, &parts).await?
    {
        return Ok(link);
    }
    let principal = api.authenticate(&parts).await?;
    let job = find(&api, &principal, &id, &parts).await?;
    let row = job_json::job_json(&job, api.settings.style, principal.is_admin);
    Ok(json(StatusCode::OK, &row))
}

/// Returns the job if the principal may see it. For an admin, this is the job of `?subject=`, the admin's
/// own, or the upload without a grant that has this id.
pub(super) async fn find(
    api: &Api,
    principal: &Principal,
    id: &str,
    parts: &Parts,
) -> Result<Job, Problem> {
    let wanted = ListParams::read(parts.uri.query().unwrap_or_default())?;
    let queue = &api.settings.queue;
    let subject = match scope(principal, wanted.subject.as_deref())? {
        Scope::Subject(subject) => subject,
        Scope::All => principal.subject.clone(),
    };
    if let Some(job) = queue.by_request(&subject, id).await.map_err(fault(parts))? {
        return Ok(job);
    }
    if principal.is_admin
        && wanted.subject.is_none()
        && let Ok(upload) = UploadId::new(id)
        && let Some(job) = queue.by_upload(&upload).await.map_err(fault(parts))?
        && job.subject.is_none()
    {
        return Ok(job);
    }
    Err(not_found())
}

#[derive(Debug, Default, PartialEq)]
pub(super) struct ListParams {
    pub(super) subject: Option<String>,
    pub(super) last_event_id: Option<String>,
    states: Vec<JobState>,
    after: Option<JobId>,
    limit: Option<usize>,
}

impl ListParams {
    /// Unknown parameters are ignored.
    pub(super) fn read(query: &str) -> Result<Self, Problem> {
        let mut wanted = Self::default();
        let mut errors = Vec::new();
        for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
            match &*name {
                "subject" => wanted.subject = Some(value.into_owned()),
                "last_event_id" => wanted.last_event_id = Some(value.into_owned()),
                "state" => {
                    for state in value.split(',').filter(|state| !state.is_empty()) {
                        match state.parse() {
                            Ok(state) => wanted.states.push(state),
                            Err(error) => {
                                let known = JobState::ALL.map(JobState::as_str).join(", ");
                                errors.push((
                                    "state".into(),
                                    format!("{error}; known: {known}").into(),
                                ));
                            }
                        }
                    }
                }
                "after" if value.is_empty() => {}
                "after" => match value.parse() {
                    Ok(after) => wanted.after = Some(after),
                    Err(_) => errors.push(("after".into(), "invalid cursor".into())),
                },
                "limit" => match value.parse() {
                    Ok(limit @ 1..=MAX_LIMIT) => wanted.limit = Some(limit),
                    _ => {
                        let why = format!("the limit must be a number from 1 to {MAX_LIMIT}");
                        errors.push(("limit".into(), why.into()));
                    }
                },
                _ => {}
            }
        }
        match errors.is_empty() {
            true => Ok(wanted),
            false => Err(Problem::invalid(errors)),
        }
    }

    fn next(&self, path: &str, last: JobId, limit: usize) -> String {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        query.append_pair("after", &last.to_string());
        query.append_pair("limit", &limit.to_string());
        for state in &self.states {
            query.append_pair("state", state.as_str());
        }
        if let Some(subject) = &self.subject {
            query.append_pair("subject", subject);
        }
        format!("<{path}?{}>; rel=\"next\"", query.finish())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries() {
        let wanted =
            ListParams::read("state=received,started&state=failed&after=7&limit=2&x=y").unwrap();
        let states = [JobState::Received, JobState::Started, JobState::Failed];
        assert_eq!(wanted.states, states);
        assert_eq!((wanted.after, wanted.limit), (Some(JobId(7)), Some(2)));
        assert_eq!(
            wanted.next("/uploadjobs", JobId(9), 2),
            "</uploadjobs?after=9&limit=2&state=received&state=started&state=failed>; rel=\"next\""
        );
        assert_eq!(
            ListParams::read("after=&state=").unwrap(),
            ListParams::default()
        );
        for bad in ["limit=0", "limit=1001", "limit=x", "after=x", "state=done"] {
            assert!(ListParams::read(bad).is_err(), "{bad}");
        }
    }
}
