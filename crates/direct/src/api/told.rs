//! What clients say of their uploads: `POST /api/complete_s3` and `POST /api/progress_s3`.

use std::sync::Arc;

use axum::response::Response;
use http::StatusCode;
use serde_json::{Map, Value, json};

use super::{
    Api, Call, body::USUAL, fields, identity::Purpose, multipart::answer, problem::Problem, refusal,
};
use crate::{Record, Who};

/// `POST /api/complete_s3`
pub(super) async fn check(api: &Api, mut call: Call) -> Result<Response, Problem> {
    let (record, _) = named(api, &mut call).await?;
    let done = api.direct().check(&record, Some(&mut call.parts));
    let done = Box::pin(done).await;
    let done = done.map_err(|error| refusal(&call.parts, Some(record.id()), error))?;
    let body = json!({
        "state": "completed",
        "key": done.record.place.key,
        "size": done.size,
        "etag": done.etag,
        "location": done.location,
    });
    Ok(answer(&done, body))
}

/// `POST /api/progress_s3`
pub(super) async fn progress(api: &Api, mut call: Call) -> Result<Response, Problem> {
    let (record, fields) = named(api, &mut call).await?;
    let sent = fields.get("uploaded").and_then(fields::count);
    let sent =
        sent.ok_or_else(|| Problem::field("uploaded", "uploaded must be a whole number of bytes"))?;
    let noted = api.direct().progress(&record, sent).await;
    noted.map_err(|error| refusal(&call.parts, Some(record.id()), error))?;
    let mut response = Response::default();
    *response.status_mut() = StatusCode::NO_CONTENT;
    Ok(response)
}

/// The upload that is meant, by its key, its address or the caller's own id for it; that of a grant
/// needs no name.
async fn named(api: &Api, call: &mut Call) -> Result<(Arc<Record>, Map<String, Value>), Problem> {
    let body = std::mem::take(&mut call.body);
    let mut said = api.object(&call.parts.headers, body, USUAL).await?;
    let mut text = |name: &'static str| match said.remove(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(Problem::field(name, format!("the {name} must be a text"))),
    };
    let (key, url) = (text("key")?, text("url")?);
    let (request_id, token) = (text("request_id")?, text("upload_token")?);
    let stated = token.map(|token| fields::Stated {
        token,
        request_id: None,
    });
    let who = api.who(&mut call.parts, stated, Purpose::Use).await?;
    let direct = api.direct();
    let found = match (key, url, request_id, &who) {
        (Some(key), ..) => direct.find(&who, &key, None).await,
        (None, Some(url), ..) => {
            let key = direct.key_of(&url).ok_or_else(|| {
                Problem::field(
                    "url",
                    "this is no address of a file of this server's bucket",
                )
            })?;
            direct.find(&who, &key, None).await
        }
        (None, None, Some(id), _) => direct.by_request(&who, &id).await,
        (None, None, None, Who::Grant(job)) => direct.by_request(&who, &job.request_id).await,
        (None, None, None, Who::Principal(_)) => {
            return Err(Problem::field(
                "key",
                "say which file is meant: its key, its url or its request_id",
            ));
        }
    };
    let record = found.map_err(|error| call.refuse(error))?;
    Ok((record, said))
}
