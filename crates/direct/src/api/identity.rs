//! Identifies the requester: an authenticated principal, or the bearer of an upload token.

use std::{net::IpAddr, time::Duration};

use http::{HeaderValue, StatusCode, header, request::Parts};
use landfall::hook::UploadToken;
use landfall_access::{ExpiringCache, Problem};
use landfall_state::queue::{Job, JobState, TokenHash};

use super::{
    Api, ApiError, Call,
    fields::{ExplicitToken, Query},
};
use crate::{DirectError, Requester};

const CACHE_TTL: Duration = Duration::from_secs(5);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Whatever the method of the request.
    Open,
    Use,
}

pub(super) type TokenCache = ExpiringCache<String, Job>;

impl Api {
    /// Removes the token from the request. A token in a header takes precedence over one with the file's
    /// fields.
    pub(super) async fn requester(
        &self,
        call: &mut Call,
        explicit_token: Option<ExplicitToken>,
        purpose: Purpose,
    ) -> Result<Requester, ApiError> {
        let requester = self
            .identify(&mut call.parts, explicit_token, purpose)
            .await;
        call.is_identified = requester.is_ok();
        requester
    }

    async fn identify(
        &self,
        parts: &mut Parts,
        explicit_token: Option<ExplicitToken>,
        purpose: Purpose,
    ) -> Result<Requester, ApiError> {
        let token = UploadToken::extract(&mut parts.headers);
        if explicit_token.is_some() {
            remove_tokens(parts);
        }
        let stated = explicit_token.map(|stated| (stated.token, stated.request_id));
        let (stated, meant) = stated.unzip();
        let token = token.map(|token| token.as_str().to_owned());
        if let Some(token) = token.or(stated) {
            let grant = self.grant(parts, &token, meant.flatten(), purpose).await?;
            return Ok(Requester::Token(Box::new(grant)));
        }
        let (callers, client) = (&self.settings.authenticator, self.client(parts));
        Ok(Requester::Principal(match purpose {
            Purpose::Open => callers.authenticate_for_write(parts, client).await?,
            Purpose::Use => callers.authenticate(parts, client).await?,
        }))
    }

    async fn grant(
        &self,
        parts: &Parts,
        token: &str,
        meant: Option<String>,
        purpose: Purpose,
    ) -> Result<Job, ApiError> {
        let hash = TokenHash::from_secret(token);
        let found = match purpose {
            Purpose::Use => self.tokens.get(hash.as_str()),
            Purpose::Open => None,
        };
        if let Some(job) = found {
            return Ok(job);
        }
        let queue = self.settings.direct.queue();
        let job = queue.by_token(&hash).await.map_err(DirectError::from)?;
        let job = job.filter(|job| meant.is_none_or(|id| id == job.request_id));
        let Some(job) = job else {
            let callers = &self.settings.authenticator;
            if let Err(wait) = callers.record_failure(parts, self.client(parts), Some(token)) {
                let why = "too many wrong tokens; try again later";
                let problem = Problem::new(StatusCode::TOO_MANY_REQUESTS, why);
                return Err(problem.retry_after(wait).into());
            }
            let challenge = HeaderValue::from_static("Bearer realm=\"uploads\"");
            let why = "there is no grant with this token";
            let problem = Problem::new(StatusCode::UNAUTHORIZED, why);
            return Err(problem
                .with_header(header::WWW_AUTHENTICATE, challenge)
                .into());
        };
        if purpose == Purpose::Open {
            authorize_open(&job, queue.now())?;
        } else if job.upload_id.is_some() && !job.state.is_terminal() {
            let key = hash.as_str().to_owned();
            self.tokens.insert(key, job.clone(), CACHE_TTL);
        }
        Ok(job)
    }

    pub(super) fn client(&self, parts: &Parts) -> Option<IpAddr> {
        self.settings.client.of_request(parts)
    }
}

/// A completed upload can be opened again: the response may have been lost.
fn authorize_open(job: &Job, now: std::time::SystemTime) -> Result<(), Problem> {
    let why = match job.state {
        JobState::Received if now >= job.expires_at => {
            "the upload token has expired; request a new one from the application".into()
        }
        JobState::Received
        | JobState::Started
        | JobState::Progress
        | JobState::Completed
        | JobState::Removed => return Ok(()),
        JobState::Expired => {
            "this upload has expired; request a new one from the application".into()
        }
        state => format!("the upload was granted and has {state}"),
    };
    Err(Problem::new(StatusCode::GONE, why))
}

fn remove_tokens(parts: &mut Parts) {
    if let Some(query) = Query::new(parts.uri.query()).without_secrets() {
        replace(parts, parts.uri.path().to_owned(), Some(&query));
    }
}

pub(super) fn replace(parts: &mut Parts, path: String, query: Option<&str>) {
    let text = match query {
        Some(query) if !query.is_empty() => format!("{path}?{query}"),
        _ => path,
    };
    let mut uri = std::mem::take(&mut parts.uri).into_parts();
    uri.path_and_query = text.parse().ok();
    parts.uri = http::Uri::from_parts(uri).unwrap_or_default();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_removed_from_the_query() {
        let uri = "http://up.example/s3/params?filename=a&metadata[upload_token]=x";
        let (mut parts, ()) = http::Request::get(uri).body(()).unwrap().into_parts();
        remove_tokens(&mut parts);
        assert_eq!(parts.uri, "http://up.example/s3/params?filename=a");
    }
}
