//! Who asks: somebody who is known, or somebody with the token of a grant.

use std::{net::IpAddr, time::Duration};

use http::{HeaderValue, StatusCode, request::Parts};
use landfall::{hook::UploadToken, service::Peer};
use landfall_grants::{Job, JobState, TokenHash, api::request_id};
use moka::future::Cache;

use super::{
    Api,
    fields::Stated,
    problem::{About, Problem},
    query::Query,
};
use crate::Who;

/// How long a token that was found is believed to be that of its job.
const BELIEVED: Duration = Duration::from_secs(5);
/// How many tokens are remembered.
const REMEMBERED: u64 = 10_000;

/// What somebody wants to know who asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// To open an upload, whatever the method of the request is.
    Open,
    /// To use one that is there.
    Use,
}

/// Jobs whose uploads are under way, by the hashes of their tokens.
pub(super) type Tokens = Cache<String, Job>;

pub(super) fn tokens() -> Tokens {
    Cache::builder()
        .max_capacity(REMEMBERED)
        .time_to_live(BELIEVED)
        .build()
}

impl Api {
    /// Who asks. A token in the headers counts before one that is `stated` with the file; neither is in
    /// the request afterwards.
    pub(super) async fn who(
        &self,
        parts: &mut Parts,
        stated: Option<Stated>,
        purpose: Purpose,
    ) -> Result<Who, Problem> {
        let token = UploadToken::extract(&mut parts.headers);
        if stated.is_some() {
            without_token(parts);
        }
        let who = match (token, stated) {
            (Some(token), stated) => {
                let meant = stated.and_then(|stated| stated.request_id);
                let grant = self.grant(parts, token.as_str(), meant, purpose);
                Who::Grant(Box::new(grant.await?))
            }
            (None, Some(stated)) => {
                let Stated { token, request_id } = stated;
                let grant = self.grant(parts, &token, request_id, purpose);
                Who::Grant(Box::new(grant.await?))
            }
            (None, None) => {
                let (callers, client) = (&self.settings.callers, self.client(parts));
                Who::Caller(match purpose {
                    Purpose::Open => callers.identify_for_change(parts, client).await?,
                    Purpose::Use => callers.identify(parts, client).await?,
                })
            }
        };
        Ok(who)
    }

    /// The job of a token.
    async fn grant(
        &self,
        parts: &Parts,
        token: &str,
        meant: Option<String>,
        purpose: Purpose,
    ) -> Result<Job, Problem> {
        let hash = TokenHash::of(token);
        let found = match purpose {
            Purpose::Use => self.tokens.get(hash.as_str()).await,
            Purpose::Open => None,
        };
        if let Some(job) = found {
            return Ok(job);
        }
        let queue = self.settings.direct.queue();
        let job = queue.by_token(&hash).await.map_err(|error| {
            let about = About {
                request_id: request_id(parts),
                upload: None,
            };
            about.queue(&error)
        })?;
        let job = job.filter(|job| meant.is_none_or(|id| id == job.request_id));
        let Some(job) = job else {
            let callers = &self.settings.callers;
            if let Err(wait) = callers.record_failure(parts, self.client(parts), Some(token)) {
                return Err(Problem::new(
                    StatusCode::TOO_MANY_REQUESTS,
                    "too many wrong tokens; try again later",
                )
                .retry_after(wait));
            }
            return Err(Problem::new(
                StatusCode::UNAUTHORIZED,
                "there is no grant with this token",
            )
            .challenge(HeaderValue::from_static("Bearer realm=\"uploads\"")));
        };
        if purpose == Purpose::Open {
            may_open(&job, queue.now())?;
        } else if job.upload_id.is_some() && !job.state.is_terminal() {
            let key = hash.as_str().to_owned();
            self.tokens.insert(key, job.clone()).await;
        }
        Ok(job)
    }

    /// The client's address, behind proxies that are trusted.
    pub(super) fn client(&self, parts: &Parts) -> Option<IpAddr> {
        let peer = parts.extensions.get::<Peer>().and_then(|peer| peer.address);
        match &self.settings.client {
            Some(find) => find(&parts.headers, peer),
            None => peer.map(|peer| peer.ip()),
        }
    }
}

/// Whether the upload of a job may be made now. One that is complete may be asked for once more: its
/// answer may have been lost.
fn may_open(job: &Job, now: std::time::SystemTime) -> Result<(), Problem> {
    let why = match job.state {
        JobState::Received if now >= job.expires_at => {
            "the token's time is over: ask the application for another one".into()
        }
        JobState::Received | JobState::Started | JobState::Progress | JobState::Completed => {
            return Ok(());
        }
        JobState::Expired => {
            "the time of this upload is over: ask the application for another one".into()
        }
        state => format!("the upload was granted, and has {state}"),
    };
    Err(Problem::new(StatusCode::GONE, why))
}

/// Leaves tokens out of the query of a request: hooks and policies are told of it. What else is
/// Landfall's own secret is kept from them where they are asked.
fn without_token(parts: &mut Parts) {
    if let Some(query) = Query::new(parts.uri.query()).without_secrets() {
        replace(parts, parts.uri.path().to_owned(), Some(&query));
    }
}

/// Gives a request another path and query.
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
    fn tokens_stay_behind() {
        let uri = "http://up.example/s3/params?filename=a&metadata[upload_token]=x";
        let (mut parts, ()) = http::Request::get(uri).body(()).unwrap().into_parts();
        without_token(&mut parts);
        assert_eq!(parts.uri, "http://up.example/s3/params?filename=a");
    }
}
