//! Multipart uploads, as in Companion.

use std::{collections::BTreeMap, sync::Arc};

use axum::response::Response;
use http::StatusCode;
use landfall::upload::UploadId;
use landfall_access::Problem;
use serde_json::{Map, Value, json};

use super::{
    Api, ApiError, Call, MAX_BODY, MAX_LIST_BODY, Query,
    companion::{date, open},
    fields,
    identity::Purpose,
    json,
    problem::{self, can_set_header},
};
use crate::{CompletedUpload, Record, Requester, TransferMode, uploads::MAX_PARTS};

const MAX_NAME_LEN: usize = 255;
const MAX_URLS: usize = 1000;

const MISSING_KEY: &str =
    "s3: the object key must be passed as a query parameter. For example: \"?key=abc.jpg\"";
const INVALID_PART_NUMBER: &str = "s3: the part number must be a number between 1 and 10000.";

pub(super) async fn create(api: &Api, call: &mut Call) -> Result<Response, ApiError> {
    let fields = api.object(call, MAX_BODY).await?;
    let (mut asked, token) = fields::from_json(TransferMode::Multipart, fields)?;
    let requester = api.requester(call, token, Purpose::Open).await?;
    if api.direct().settings().sts.is_some() && matches!(requester, Requester::Principal(_)) {
        asked.key = client_key(&asked.filename);
    }
    let record = open(api, call, &requester, asked).await?;
    let Some(id) = &record.multipart else {
        // It was opened before with another mode.
        let why = "this upload was opened before, and is not a multipart upload";
        return Err(Problem::new(StatusCode::CONFLICT, why).into());
    };
    Ok(json(&json!({
        "key": record.object.key,
        "uploadId": id,
        "bucket": record.object.bucket,
    })))
}

/// Uppy 4 and 5 create multipart uploads here, and sign the parts with temporary credentials, which must
/// be able to write the key. `None` if the name is invalid.
fn client_key(name: &str) -> Option<String> {
    let name = name.rsplit(['/', '\\']).next().unwrap_or(name);
    let name = name.replace("${", "__").replace(char::is_control, "");
    let is_name = !matches!(name.trim(), "" | "." | "..") && name.len() <= MAX_NAME_LEN;
    is_name.then(|| format!("{}/{name}", UploadId::random()))
}

async fn find(api: &Api, call: &mut Call, id: &str) -> Result<Arc<Record>, ApiError> {
    let uri = call.parts.uri.clone();
    let key = key(Query::new(uri.query()))?;
    let requester = api.requester(call, None, Purpose::Use).await?;
    api.direct().s3()?;
    let record = api.direct().find(&requester, &key, Some(id)).await?;
    call.upload = Some(record.id().clone());
    Ok(record)
}

fn key(query: Query<'_>) -> Result<std::borrow::Cow<'_, str>, Problem> {
    match query.single("key")? {
        Some(key) if !key.is_empty() => Ok(key),
        _ => Err(problem::field("key", MISSING_KEY)),
    }
}

pub(super) async fn part(
    api: &Api,
    call: &mut Call,
    id: &str,
    number: &str,
) -> Result<Response, ApiError> {
    let number = part_number(number)?;
    let record = find(api, call, id).await?;
    let url = api.direct().presign_part(&record, number).await?;
    let expires = api.direct().settings().url_lifetime.as_secs();
    Ok(json(&json!({ "url": url, "expires": expires })))
}

fn part_number(text: &str) -> Result<u32, Problem> {
    let is_number = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let number = is_number.then(|| text.parse().ok()).flatten();
    number
        .filter(|number| (1..=MAX_PARTS).contains(number))
        .ok_or_else(|| problem::field("partNumber", INVALID_PART_NUMBER))
}

pub(super) async fn batch(api: &Api, call: &mut Call, id: &str) -> Result<Response, ApiError> {
    let uri = call.parts.uri.clone();
    let query = Query::new(uri.query());
    key(query)?;
    let Some(numbers) = query.single("partNumbers")? else {
        let why = "s3: the part numbers must be passed as a comma separated query parameter. \
                   For example: \"?partNumbers=4,6,7,21\"";
        return Err(problem::field("partNumbers", why).into());
    };
    if numbers.split(',').nth(MAX_URLS).is_some() {
        let why = format!("s3: at most {MAX_URLS} part numbers may be requested at a time");
        return Err(problem::field("partNumbers", why).into());
    }
    let numbers = numbers.split(',').map(|text| part_number(text.trim()));
    let numbers = numbers.collect::<Result<Vec<_>, _>>()?;
    let record = find(api, call, id).await?;
    let mut urls = BTreeMap::new();
    for number in numbers {
        let url = api.direct().presign_part(&record, number).await?;
        urls.insert(number, url);
    }
    Ok(json(&json!({ "presignedUrls": urls })))
}

pub(super) async fn parts(api: &Api, call: &mut Call, id: &str) -> Result<Response, ApiError> {
    let record = find(api, call, id).await?;
    let parts = api.direct().parts(&record).await?;
    let parts = parts.into_iter().map(|part| {
        let mut row = json!({
            "PartNumber": part.number,
            "ETag": part.etag,
            "Size": part.size,
        });
        if let Some(modified) = part.modified {
            row["LastModified"] = date(modified).into();
        }
        row
    });
    Ok(json(&parts.collect::<Vec<_>>()))
}

pub(super) async fn complete(api: &Api, call: &mut Call, id: &str) -> Result<Response, ApiError> {
    let record = find(api, call, id).await?;
    let fields = api.object(call, MAX_LIST_BODY).await?;
    let parts = parse_parts(fields)?;
    let done = api.direct().complete(&record, &parts, &mut call.parts);
    let done = Box::pin(done).await?;
    let object = &done.record.object;
    let body = json!({
        "location": done.location,
        "key": object.key,
        "bucket": object.bucket,
    });
    Ok(completion_response(&done, body))
}

fn parse_parts(mut fields: Map<String, Value>) -> Result<Vec<(u32, String)>, Problem> {
    const INVALID_PARTS: &str = "s3: `parts` must be an array of {ETag, PartNumber} objects.";
    let Some(Value::Array(parts)) = fields.remove("parts") else {
        return Err(problem::field("parts", INVALID_PARTS));
    };
    let parts = parts.into_iter().map(|part| {
        let number = part.get("PartNumber")?.as_u64()?;
        let number = u32::try_from(number).ok()?;
        let known = (1..=MAX_PARTS).contains(&number);
        let etag = part.get("ETag")?.as_str()?.to_owned();
        known.then_some((number, etag))
    });
    let parts = parts.collect::<Option<Vec<_>>>();
    parts.ok_or_else(|| problem::field("parts", INVALID_PARTS))
}

pub(super) fn completion_response(done: &CompletedUpload, mut body: Value) -> Response {
    let message = done.response.body.as_deref().map(String::from_utf8_lossy);
    if let Some(message) = message.as_deref().map(str::trim)
        && !message.is_empty()
    {
        body["message"] = message.into();
    }
    let mut response = json(&body);
    let said = done.response.headers.iter();
    for (name, value) in said.filter(|(name, _)| can_set_header(name)) {
        response.headers_mut().insert(name.clone(), value.clone());
    }
    response
}

pub(super) async fn abort(api: &Api, call: &mut Call, id: &str) -> Result<Response, ApiError> {
    let record = find(api, call, id).await?;
    Box::pin(api.direct().cancel(&record, &mut call.parts)).await?;
    // Clients parse this as JSON.
    Ok(json(&json!({})))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn part_numbers_are_checked() {
        for (text, number) in [("1", Some(1)), ("10000", Some(10_000)), ("007", Some(7))] {
            assert_eq!(part_number(text).ok(), number, "{text}");
        }
        for text in [
            "",
            "0",
            "10001",
            "-1",
            "1.5",
            "1e3",
            "a",
            "99999999999999999999",
            "+1",
        ] {
            let problem = part_number(text).err().unwrap();
            assert_eq!(problem.status(), StatusCode::BAD_REQUEST, "{text}");
        }
    }

    #[test]
    fn client_keys_for_temporary_credentials() {
        for (name, end) in [("a.bin", "/a.bin"), ("../x/${a}\n.bin", "/__a}.bin")] {
            let key = client_key(name).unwrap();
            assert!(key.ends_with(end) && key.matches('/').count() == 1, "{key}");
        }
        for none in ["", "a/", "..", "x/.", &"x".repeat(256)] {
            assert_eq!(client_key(none), None, "{none}");
        }
    }

    #[test]
    fn part_lists_are_parsed() {
        let of = |parts: Value| {
            let Value::Object(fields) = json!({ "parts": parts }) else {
                unreachable!()
            };
            parse_parts(fields).ok()
        };
        let parts = json!([
            {"PartNumber": 1, "ETag": "\"a\""},
            {"PartNumber": 2, "ETag": "b", "Size": 7},
        ]);
        let wanted = vec![(1, "\"a\"".to_owned()), (2, "b".to_owned())];
        assert_eq!(of(parts), Some(wanted));
        assert_eq!(of(json!([])), Some(Vec::new()));
        for bad in [
            json!(null),
            json!({}),
            json!([1]),
            json!([{"PartNumber": "1", "ETag": "a"}]),
            json!([{"PartNumber": 1}]),
            json!([{"PartNumber": 0, "ETag": "a"}]),
            json!([{"PartNumber": 1.5, "ETag": "a"}]),
            json!([{"PartNumber": 10_001, "ETag": "a"}]),
            json!([{"PartNumber": 1, "ETag": null}]),
        ] {
            assert_eq!(of(bad.clone()), None, "{bad}");
        }
    }
}
