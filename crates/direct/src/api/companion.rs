//! `GET /s3/params`, `GET /s3/sts`, `POST /api/sign` and `POST /api/sign_s3`.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, SystemTime},
};

use axum::response::Response;
use http::{HeaderMap, StatusCode, header};
use jiff::Timestamp;
use landfall_access::Problem;
use serde::{Serialize, Serializer};
use serde_json::{Map, Value, json};

use super::{Api, ApiError, Call, MAX_BODY, Query, fields, identity::Purpose, json};
use crate::{
    DirectError, OpenRequest, Record, Requester, SentHeaders, SignedUpload, SmallFiles,
    TransferMode, settings::PUT_LIFETIME,
};

#[derive(Serialize)]
struct Parameters<'a> {
    method: &'static str,
    url: &'a str,
    fields: Fields<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    headers: Option<BTreeMap<&'a str, &'a str>>,
    expires: u64,
}

pub(super) struct Fields<'a>(pub(super) &'a [(String, String)]);

impl Serialize for Fields<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}

pub(super) async fn params(api: &Api, call: &mut Call) -> Result<Response, ApiError> {
    let uri = call.parts.uri.clone();
    let query = Query::new(uri.query());
    call.explicit_token = query.token();
    let settings = api.direct().settings();
    // Forms of other clouds are not S3's.
    let small_files = match settings.bucket.s3() {
        Some(_) => settings.small_files,
        None => SmallFiles::Put,
    };
    let mode = match small_files {
        SmallFiles::Post => TransferMode::Post,
        SmallFiles::Put => TransferMode::Put,
    };
    let (asked, token) = fields::from_query(mode, query)?;
    let requester = api.requester(call, token, Purpose::Open).await?;
    let record = open(api, call, &requester, asked).await?;
    match small_files {
        SmallFiles::Post => {
            let form = api.direct().sign_post(&record).await?;
            Ok(json(&Parameters {
                method: "POST",
                url: &form.url,
                fields: Fields(&form.fields),
                headers: None,
                expires: settings.url_lifetime.as_secs(),
            }))
        }
        SmallFiles::Put => {
            let put = api
                .direct()
                .presign_upload(&record, settings.url_lifetime, SentHeaders::All);
            let put = put.await?;
            Ok(json(&Parameters {
                method: "PUT",
                url: &put.url,
                fields: Fields(&[]),
                headers: Some(script_headers(&put.headers)),
                expires: settings.url_lifetime.as_secs(),
            }))
        }
    }
}

/// With the field names of Companion and of the newest client.
pub(super) async fn credentials(api: &Api, call: &mut Call) -> Result<Response, ApiError> {
    let requester = api.requester(call, None, Purpose::Use).await?;
    api.direct().s3()?;
    if api.direct().settings().sts.is_none() {
        return Err(off().into());
    }
    let given = match api.direct().credentials(&requester, &call.parts).await {
        Err(DirectError::NotFound) => return Err(off().into()),
        given => given?,
    };
    let keys = &given.credentials;
    let expiration = keys.expires.map(date);
    Ok(json(&json!({
        "credentials": {
            "AccessKeyId": keys.access_key_id,
            "SecretAccessKey": keys.secret_access_key,
            "SessionToken": keys.session_token,
            "Expiration": expiration,
            "accessKeyId": keys.access_key_id,
            "secretAccessKey": keys.secret_access_key,
            "sessionToken": keys.session_token,
            "expiration": expiration,
        },
        "bucket": given.bucket,
        "region": given.region,
        "prefix": given.prefix,
    })))
}

fn off() -> Problem {
    let why = "temporary credentials are disabled; enable them with --direct-sts";
    Problem::new(StatusCode::NOT_FOUND, why)
}

/// Formats like JavaScript: `2026-11-20T18:00:00.250Z`.
pub(super) fn date(at: SystemTime) -> String {
    format!("{:.3}", Timestamp::try_from(at).unwrap_or_default())
}

#[derive(Serialize)]
struct SignedResponse<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    method: Option<&'a str>,
    file_type: &'a str,
    signed_request: &'a str,
    url: &'a str,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    headers: BTreeMap<&'a str, &'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires: Option<u64>,
}

/// For every cloud: the client sends the method and all headers of the response.
pub(super) async fn sign(api: &Api, call: &mut Call) -> Result<Response, ApiError> {
    let mut fields = api.object(call, MAX_BODY).await?;
    let (mode, lifetime) = match fields::flag(&mut fields, "resumable")? {
        Some(true) => {
            let lifetime = api.direct().settings().url_lifetime;
            (TransferMode::Resumable, lifetime)
        }
        _ => (TransferMode::Put, PUT_LIFETIME),
    };
    let sent = fields::sent_headers(&mut fields, true)?;
    let (record, signed) = sign_upload(api, call, fields, (mode, sent), lifetime).await?;
    Ok(json(&SignedResponse {
        method: Some(signed.method.as_str()),
        file_type: &signed_type(&record, &signed),
        signed_request: &signed.url,
        url: &api.direct().location(&record),
        headers: script_headers(&signed.headers),
        expires: Some(lifetime.as_secs()),
    }))
}

/// For clients of S3 that send `file_type` as their `Content-Type`, and no other header without `send_headers`.
pub(super) async fn sign_s3(api: &Api, call: &mut Call) -> Result<Response, ApiError> {
    let mut fields = api.object(call, MAX_BODY).await?;
    let sent = fields::sent_headers(&mut fields, false)?;
    fields::check_compact_type(&fields)?;
    if api.direct().settings().bucket.s3().is_none() {
        let why =
            "the bucket is not in S3: use POST /api/sign, and send the headers of its response";
        return Err(DirectError::Unsupported(why.into()).into());
    }
    let terms = (TransferMode::Put, sent);
    let (record, signed) = sign_upload(api, call, fields, terms, PUT_LIFETIME).await?;
    let mut headers = script_headers(&signed.headers);
    headers.remove(header::CONTENT_TYPE.as_str());
    Ok(json(&SignedResponse {
        method: None,
        file_type: &signed_type(&record, &signed),
        signed_request: &signed.url,
        url: &api.direct().location(&record),
        headers,
        expires: None,
    }))
}

async fn sign_upload(
    api: &Api,
    call: &mut Call,
    fields: Map<String, Value>,
    (mode, sent): (TransferMode, SentHeaders),
    lifetime: Duration,
) -> Result<(Arc<Record>, SignedUpload), ApiError> {
    let (mut asked, token) = fields::sign(fields)?;
    let requester = api.requester(call, token, Purpose::Open).await?;
    (asked.mode, asked.headers) = (mode, sent);
    let record = open(api, call, &requester, asked).await?;
    let signed = api.direct().presign_upload(&record, lifetime, sent);
    let signed = signed.await?;
    Ok((record, signed))
}

pub(super) async fn open(
    api: &Api,
    call: &mut Call,
    requester: &Requester,
    mut asked: OpenRequest,
) -> Result<Arc<Record>, ApiError> {
    asked.client = api.client(&call.parts);
    // Boxed to keep the futures of other routes small.
    let record = Box::pin(api.direct().open(requester, asked, &mut call.parts)).await?;
    call.upload = Some(record.id().clone());
    Ok(record)
}

fn signed_type(record: &Record, put: &SignedUpload) -> String {
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

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    #[test]
    fn dates_and_fields_are_serialized() {
        let at = UNIX_EPOCH + Duration::from_millis(1_795_197_600_250);
        assert_eq!(date(at), "2026-11-20T18:00:00.250Z");
        let fields = [("z", "1"), ("a", "2")];
        let fields = fields.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let text = serde_json::to_string(&Fields(&fields)).unwrap();
        assert_eq!(text, r#"{"z":"1","a":"2"}"#);
    }
}
