//! `POST /api/s3_events`: the bucket says that something has arrived. These are hints: what they say is
//! looked at.

mod read;

use std::collections::BTreeSet;

use axum::response::Response;
use futures_util::{StreamExt as _, stream};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use landfall_grants::{TokenHash, api::request_id};
use serde_json::json;

pub(super) use self::read::Notice;
use super::{
    Api, Call, Query,
    body::{LARGE, json},
    problem::{About, Problem},
};
use crate::DirectError;

/// How many objects are looked at at a time.
const AT_A_TIME: usize = 8;

pub(super) async fn take(api: &Api, call: Call) -> Result<Response, Problem> {
    let Some(secret) = &api.settings.events_secret else {
        return Err(Problem::new(
            StatusCode::NOT_FOUND,
            "this server takes no notifications; --direct-notifications-secret makes it do so",
        ));
    };
    is_known(api, &call, secret)?;
    // Senders name all kinds of types.
    let body = api.read(call.body, LARGE).await?;
    let notice = Notice::read(&body).map_err(|why| Problem::new(StatusCode::BAD_REQUEST, why))?;
    let objects = match notice {
        Notice::Objects(objects) => objects,
        Notice::Nothing => Vec::new(),
        Notice::Subscription { topic, url } => {
            tracing::warn!(
                topic,
                url,
                "a topic of SNS wants to send notifications: open this URL to confirm the subscription"
            );
            Vec::new()
        }
    };
    let told = objects.len();
    let different: BTreeSet<_> = objects.into_iter().collect();
    let looks = stream::iter(different).map(|(bucket, key)| async move {
        let found = Box::pin(api.direct().on_notification(&bucket, &key)).await;
        found.map_err(|error| (key, error))
    });
    let found: Vec<_> = looks.buffer_unordered(AT_A_TIME).collect().await;
    let mut concerned = 0_usize;
    let mut later = None;
    for found in found {
        match found {
            Ok(true) => concerned += 1,
            Ok(false) => {}
            Err((key, error)) => match is_passing(&error) {
                true => later = Some(error),
                false => {
                    concerned += 1;
                    let about = request_id(&call.parts);
                    tracing::debug!(%error, key, requestId = about, "a file that was told of isn't taken");
                }
            },
        }
    }
    match later {
        // Whoever sends this comes again.
        Some(error) => {
            let about = About {
                request_id: request_id(&call.parts),
                upload: None,
            };
            let _ = about.problem(error);
            Err(Problem::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "not all of it could be looked at; send it again",
            ))
        }
        None => Ok(json(&json!({"told": told, "concerned": concerned}))),
    }
}

/// Whether it may be otherwise in a while: somebody can't be reached, or is at it.
fn is_passing(error: &DirectError) -> bool {
    match error {
        DirectError::S3(_)
        | DirectError::Queue(_)
        | DirectError::Database(_)
        | DirectError::Busy => true,
        DirectError::Declined(declined) => declined.cause.is_some(),
        _ => false,
    }
}

/// Whether the secret came along.
fn is_known(api: &Api, call: &Call, secret: &str) -> Result<(), Problem> {
    let query = Query::new(call.parts.uri.query());
    let said = match bearer(&call.parts.headers) {
        Some(said) => Some(said.to_owned()),
        None => query.one("token")?.map(std::borrow::Cow::into_owned),
    };
    // Hashes are compared, in constant time: nothing is to be learned of the secret, nor of its length.
    match said {
        Some(said) if TokenHash::from_secret(&said) == TokenHash::from_secret(secret) => Ok(()),
        said => {
            let (callers, client) = (&api.settings.callers, api.client(&call.parts));
            if said.is_some()
                && let Err(wait) = callers.record_failure(&call.parts, client, None)
            {
                return Err(Problem::new(
                    StatusCode::TOO_MANY_REQUESTS,
                    "too many wrong secrets; try again later",
                )
                .retry_after(wait));
            }
            Err(Problem::new(
                StatusCode::UNAUTHORIZED,
                "the secret of notifications is missing or wrong",
            )
            .challenge(HeaderValue::from_static("Bearer")))
        }
    }
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.trim().split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}
