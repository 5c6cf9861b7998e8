//! `POST /api/sign_s3`: a presigned PUT.

use std::collections::BTreeMap;

use axum::response::Response;
use http::{HeaderMap, header};
use serde::Serialize;

use super::{
    Api, ApiError, Call,
    body::{MAX_BODY, json},
    fields,
};
use crate::{OpenRequest, Record, Requester, SignedPut, TransferMode};

#[derive(Serialize)]
struct SignedResponse<'a> {
    file_type: &'a str,
    signed_request: &'a str,
    url: &'a str,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    headers: BTreeMap<&'a str, &'a str>,
}

pub(super) async fn sign(api: &Api, call: &mut Call) -> Result<Response, ApiError> {
    let fields = api.object(call, MAX_BODY).await?;
    let mut file = fields::sign_s3(fields)?;
    let requester = api.opener(call, &mut file).await?;
    let record = open(api, call, &requester, file.open_request(TransferMode::Put)).await?;
    let lifetime = api.direct().settings().put_lifetime;
    let put = api.direct().presign_put(&record, lifetime, true).await?;
    let mut headers = script_headers(&put.headers);
    headers.remove(header::CONTENT_TYPE.as_str());
    Ok(json(&SignedResponse {
        file_type: &signed_type(&record, &put),
        signed_request: &put.url,
        url: &api.direct().location(&record),
        headers,
    }))
}

pub(super) async fn open(
    api: &Api,
    call: &mut Call,
    requester: &Requester,
    asked: OpenRequest,
) -> Result<std::sync::Arc<Record>, ApiError> {
    // Boxed to keep the futures of other routes small.
    let record = Box::pin(api.direct().open(requester, asked, &mut call.parts)).await?;
    call.upload = Some(record.id().clone());
    Ok(record)
}

fn signed_type(record: &Record, put: &SignedPut) -> String {
    let pinned = put.headers.get(header::CONTENT_TYPE);
    match pinned.and_then(|kind| kind.to_str().ok()) {
        Some(kind) => kind.to_owned(),
        None => {
            let known = record.upload.metadata.get_text("filetype");
            known.unwrap_or_default().into_owned()
        }
    }
}

pub(super) fn script_headers(headers: &HeaderMap) -> BTreeMap<&str, &str> {
    let of_scripts = headers
        .iter()
        .filter(|(name, _)| !matches!(**name, header::HOST | header::CONTENT_LENGTH));
    of_scripts
        .filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?)))
        .collect()
}
