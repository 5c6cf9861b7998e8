//! `POST /api/complete` and `POST /api/progress`: reports of a client about its upload.
//!
//! Neither is trusted: a completion is verified in the bucket, and progress is for display and shows that the client is active.
//! A requester finds only the uploads of its subject or its token.

use std::sync::Arc;

use axum::response::Response;
use http::StatusCode;
use serde_json::{Map, Value, json};

use super::{
    Api, ApiError, Call, MAX_BODY,
    fields::{self, ExplicitToken},
    identity::Purpose,
    multipart::completion_response,
    problem,
};
use crate::{Record, Requester};

pub(super) async fn check(api: &Api, call: &mut Call) -> Result<Response, ApiError> {
    let (record, _) = named(api, call).await?;
    let done = api.direct().check(&record, Some(&mut call.parts));
    let done = Box::pin(done).await?;
    let body = json!({
        "state": "completed",
        "key": done.record.object.key,
        "size": done.size,
        "etag": done.etag,
        "location": done.location,
    });
    Ok(completion_response(&done, body))
}

pub(super) async fn progress(api: &Api, call: &mut Call) -> Result<Response, ApiError> {
    let (record, fields) = named(api, call).await?;
    let sent = fields.get("uploaded").and_then(fields::count);
    let sent =
        sent.ok_or_else(|| problem::field("uploaded", "uploaded must be a whole number of bytes"))?;
    api.direct().progress(&record, sent).await?;
    let mut response = Response::default();
    *response.status_mut() = StatusCode::NO_CONTENT;
    Ok(response)
}

/// Finds the upload by its key, URL or request id; an upload token needs none of them.
async fn named(api: &Api, call: &mut Call) -> Result<(Arc<Record>, Map<String, Value>), ApiError> {
    let mut fields = api.object(call, MAX_BODY).await?;
    let request_id = fields::request_id(&mut fields)?;
    let mut text = |name| fields::text(&mut fields, name);
    let (key, url) = (text("key")?, text("url")?);
    let token = text("upload_token")?;
    let explicit_token = token.map(|token| ExplicitToken {
        token,
        request_id: None,
    });
    let requester = api.requester(call, explicit_token, Purpose::Use).await?;
    let direct = api.direct();
    let found = match (key, url, request_id, &requester) {
        (Some(key), ..) => direct.find(&requester, &key, None).await,
        (None, Some(url), ..) => {
            let why = "this is not the URL of a file in the server's bucket";
            let key = direct.key_of(&url);
            let key = key.ok_or_else(|| problem::field("url", why))?;
            direct.find(&requester, &key, None).await
        }
        (None, None, Some(id), _) => direct.by_request(&requester, &id).await,
        (None, None, None, Requester::Token(job)) => {
            direct.by_request(&requester, &job.request_id).await
        }
        (None, None, None, Requester::Principal(_)) => {
            let why = "the key, url or request_id of the file is required";
            return Err(problem::field("key", why).into());
        }
    };
    let record = found?;
    call.upload = Some(record.id().clone());
    Ok((record, fields))
}
