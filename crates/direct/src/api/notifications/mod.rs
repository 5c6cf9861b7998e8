//! `POST /api/s3_events`: bucket notifications. They only trigger a check against S3.

mod read;

use std::collections::BTreeSet;

use axum::response::Response;
use futures_util::{StreamExt as _, stream};
use http::{HeaderValue, StatusCode, header};
use landfall_api::{Problem, auth::bearer, request_id};
use landfall_queue::TokenHash;
use serde_json::json;

pub(super) use self::read::Notification;
use super::{
    Api, ApiError, Call, Query,
    body::{MAX_LIST_BODY, json},
};
use crate::DirectError;

const MAX_CONCURRENCY: usize = 8;

pub(super) async fn handle(api: &Api, call: &mut Call) -> Result<Response, ApiError> {
    let Some(secret) = &api.settings.notifications_secret else {
        return Err(Problem::new(
            StatusCode::NOT_FOUND,
            "bucket notifications are disabled; enable them with --direct-notifications-secret",
        )
        .into());
    };
    check_secret(api, call, secret)?;
    // Not checked for its type: senders use different ones.
    let body = api.read(call, MAX_LIST_BODY).await?;
    let notification =
        Notification::read(&body).map_err(|why| Problem::new(StatusCode::BAD_REQUEST, why))?;
    let objects = match notification {
        Notification::Objects(objects) => objects,
        Notification::Nothing => Vec::new(),
        Notification::Subscription { topic, url } => {
            tracing::warn!(
                topic,
                url,
                "subscription request from SNS: open this URL to confirm it"
            );
            Vec::new()
        }
    };
    let received = objects.len();
    let unique: BTreeSet<_> = objects.into_iter().collect();
    let checks = stream::iter(unique).map(|(bucket, key)| async move {
        let found = Box::pin(api.direct().on_notification(&bucket, &key)).await;
        found.map_err(|error| (key, error))
    });
    let found: Vec<_> = checks.buffer_unordered(MAX_CONCURRENCY).collect().await;
    let mut matched = 0_usize;
    let mut later = None;
    for found in found {
        match found {
            Ok(true) => matched += 1,
            Ok(false) => {}
            Err((key, error)) => match is_transient(&error) {
                true => later = Some(error),
                false => {
                    matched += 1;
                    let about = request_id(&call.parts);
                    tracing::debug!(%error, key, requestId = about, "notification about an invalid file");
                }
            },
        }
    }
    match later {
        // The sender retries.
        Some(error) => {
            // Logs the cause.
            let _ = call.problem(error.into());
            Err(Problem::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "not all objects could be checked; send the notification again",
            )
            .into())
        }
        None => Ok(json(&json!({"received": received, "matched": matched}))),
    }
}

fn is_transient(error: &DirectError) -> bool {
    match error {
        DirectError::S3(_)
        | DirectError::Queue(_)
        | DirectError::Database(_)
        | DirectError::Locked => true,
        DirectError::Hook(declined) => declined.cause.is_some(),
        _ => false,
    }
}

fn check_secret(api: &Api, call: &Call, secret: &str) -> Result<(), Problem> {
    let query = Query::new(call.parts.uri.query());
    let said = match bearer(&call.parts.headers) {
        Some(said) => Some(said.to_owned()),
        None => query.single("token")?.map(std::borrow::Cow::into_owned),
    };
    // Comparing hashes in constant time reveals neither the secret nor its length.
    match said {
        Some(said) if TokenHash::from_secret(&said) == TokenHash::from_secret(secret) => Ok(()),
        said => {
            let (callers, client) = (&api.settings.authenticator, api.client(&call.parts));
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
                "the notification secret is missing or wrong",
            )
            .with_header(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer")))
        }
    }
}
