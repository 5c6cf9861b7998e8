//! `POST /api/sign_s3`: a presigned PUT.

use std::collections::BTreeMap;

use axum::response::Response;
use http::{HeaderMap, header};
use serde::Serialize;

use super::{
    Api, Call,
    body::{USUAL, json},
    fields,
    identity::Purpose,
    problem::Problem,
    refusal,
};
use crate::{Asked, Record, SignedPut, Way, Who};

/// What is answered.
#[derive(Serialize)]
struct Signed<'a> {
    file_type: &'a str,
    signed_request: &'a str,
    url: &'a str,
    /// What has to be sent beside the type, if anything has.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    headers: BTreeMap<&'a str, &'a str>,
}

pub(super) async fn sign(api: &Api, mut call: Call) -> Result<Response, Problem> {
    let body = std::mem::take(&mut call.body);
    let fields = api.object(&call.parts.headers, body, USUAL).await?;
    let mut file = fields::seed(fields)?;
    let stated = file.stated.take();
    let who = api.who(&mut call.parts, stated, Purpose::Open).await?;
    let record = open(api, &mut call, &who, file.asked(Way::Put)).await?;
    let lifetime = api.direct().settings().put_lifetime;
    let put = api.direct().put(&record, lifetime, true).await;
    let put = put.map_err(|error| refusal(&call.parts, Some(record.id()), error))?;
    let mut headers = sent(&put.headers);
    headers.remove(header::CONTENT_TYPE.as_str());
    Ok(json(&Signed {
        file_type: &kind(&record, &put),
        signed_request: &put.url,
        url: &api.direct().location(&record),
        headers,
    }))
}

/// Opens an upload.
pub(super) async fn open(
    api: &Api,
    call: &mut Call,
    who: &Who,
    asked: Asked,
) -> Result<std::sync::Arc<Record>, Problem> {
    // Boxed, as all that is deep: the way of a part is to stay small.
    let opened = Box::pin(api.direct().open(who, asked, &mut call.parts)).await;
    let record = opened.map_err(|error| call.refuse(error))?;
    Ok(record)
}

/// The type that is signed.
fn kind(record: &Record, put: &SignedPut) -> String {
    let pinned = put.headers.get(header::CONTENT_TYPE);
    match pinned.and_then(|kind| kind.to_str().ok()) {
        Some(kind) => kind.to_owned(),
        None => {
            let known = record.upload.metadata.get_text("filetype");
            known.unwrap_or_default().into_owned()
        }
    }
}

/// The headers that scripts have to send: browsers send some by themselves, and let nobody else.
pub(super) fn sent(headers: &HeaderMap) -> BTreeMap<&str, &str> {
    let of_scripts = headers
        .iter()
        .filter(|(name, _)| !matches!(**name, header::HOST | header::CONTENT_LENGTH));
    of_scripts
        .filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?)))
        .collect()
}
