//! Multipart uploads, as Companion has them.

use std::{collections::BTreeMap, sync::Arc};

use axum::response::Response;
use http::StatusCode;
use landfall::upload::UploadId;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::{
    Api, Call, Query,
    body::{LARGE, USUAL, json},
    companion::date,
    fields::File,
    identity::Purpose,
    problem::{Problem, may_be_set},
    refusal,
    sign::open,
};
use crate::{Complete, Record, Way, Who};

/// S3 has no more parts than these.
const MOST_PARTS: u32 = 10_000;
/// The most bytes of a name in a key that is made here.
const MOST_NAME: usize = 255;
/// The most URLs in one answer.
const MOST_URLS: usize = 1000;

const NO_KEY: &str =
    "s3: the object key must be passed as a query parameter. For example: \"?key=abc.jpg\"";
const NO_NUMBER: &str = "s3: the part number must be a number between 1 and 10000.";

/// `POST /s3/multipart`
pub(super) async fn begin(api: &Api, mut call: Call) -> Result<Response, Problem> {
    let body = std::mem::take(&mut call.body);
    let fields = api.object(&call.parts.headers, body, USUAL).await?;
    let mut file = File::of_json(fields)?;
    let stated = file.stated.take();
    let who = api.who(&mut call.parts, stated, Purpose::Open).await?;
    let mut asked = file.asked(Way::Multipart);
    if api.direct().settings().sts.is_some() && matches!(who, Who::Principal(_)) {
        asked.key = own_key(&asked.filename);
    }
    let record = open(api, &mut call, &who, asked).await?;
    let Some(id) = &record.multipart else {
        // It was opened before, in another way.
        return Err(Problem::new(
            StatusCode::CONFLICT,
            "this upload was opened before, and is none of several parts",
        ));
    };
    Ok(json(&json!({
        "key": record.place.key,
        "uploadId": id,
        "bucket": record.place.bucket,
    })))
}

/// Where temporary credentials reach: Uppy 4 and 5 have uploads begun here and sign their parts with
/// these. `None` if the name is none.
fn own_key(name: &str) -> Option<String> {
    let name = name.rsplit(['/', '\\']).next().unwrap_or(name);
    let name = name.replace("${", "__").replace(char::is_control, "");
    let is_name = !matches!(name.trim(), "" | "." | "..") && name.len() <= MOST_NAME;
    is_name.then(|| format!("{}/{name}", UploadId::random()))
}

/// The upload at the key of the query.
async fn find(api: &Api, call: &mut Call, id: &str) -> Result<(Who, Arc<Record>), Problem> {
    let uri = call.parts.uri.clone();
    let key = key(Query::new(uri.query()))?;
    let who = api.who(&mut call.parts, None, Purpose::Use).await?;
    let found = api.direct().find(&who, &key, Some(id)).await;
    let record = found.map_err(|error| call.refuse(error))?;
    Ok((who, record))
}

fn key(query: Query<'_>) -> Result<std::borrow::Cow<'_, str>, Problem> {
    match query.one("key")? {
        Some(key) if !key.is_empty() => Ok(key),
        _ => Err(Problem::field("key", NO_KEY)),
    }
}

/// `GET /s3/multipart/{id}/{number}`
pub(super) async fn part(
    api: &Api,
    mut call: Call,
    id: &str,
    number: &str,
) -> Result<Response, Problem> {
    /// What is answered.
    #[derive(Serialize)]
    struct Part<'a> {
        url: &'a str,
        /// For how many seconds it is good.
        expires: u64,
    }
    let number = part_number(number)?;
    let (_, record) = find(api, &mut call, id).await?;
    let url = api.direct().part(&record, number).await;
    let url = url.map_err(|error| refusal(&call.parts, Some(record.id()), error))?;
    let expires = api.direct().settings().lifetime.as_secs();
    Ok(json(&Part { url: &url, expires }))
}

fn part_number(text: &str) -> Result<u32, Problem> {
    let is_number = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let number = is_number.then(|| text.parse().ok()).flatten();
    number
        .filter(|number| (1..=MOST_PARTS).contains(number))
        .ok_or_else(|| Problem::field("partNumber", NO_NUMBER))
}

/// `GET /s3/multipart/{id}/batch`
pub(super) async fn batch(api: &Api, mut call: Call, id: &str) -> Result<Response, Problem> {
    let uri = call.parts.uri.clone();
    let query = Query::new(uri.query());
    key(query)?;
    let Some(numbers) = query.one("partNumbers")? else {
        return Err(Problem::field(
            "partNumbers",
            "s3: the part numbers must be passed as a comma separated query parameter. \
             For example: \"?partNumbers=4,6,7,21\"",
        ));
    };
    if numbers.split(',').nth(MOST_URLS).is_some() {
        return Err(Problem::field(
            "partNumbers",
            format!("s3: at most {MOST_URLS} part numbers may be asked for at a time"),
        ));
    }
    let numbers = numbers.split(',').map(|text| part_number(text.trim()));
    let numbers = numbers.collect::<Result<Vec<_>, _>>()?;
    let (_, record) = find(api, &mut call, id).await?;
    let mut urls = BTreeMap::new();
    for number in numbers {
        let url = api.direct().part(&record, number).await;
        let url = url.map_err(|error| refusal(&call.parts, Some(record.id()), error))?;
        urls.insert(number, url);
    }
    Ok(json(&json!({ "presignedUrls": urls })))
}

/// `GET /s3/multipart/{id}`
pub(super) async fn parts(api: &Api, mut call: Call, id: &str) -> Result<Response, Problem> {
    /// A part that S3 has.
    #[derive(Serialize)]
    #[serde(rename_all = "PascalCase")]
    struct Part {
        part_number: u32,
        #[serde(rename = "ETag")]
        etag: String,
        size: u64,
        #[serde(skip_serializing_if = "Option::is_none")]
        last_modified: Option<String>,
    }
    let (_, record) = find(api, &mut call, id).await?;
    let parts = api.direct().parts(&record).await;
    let parts = parts.map_err(|error| refusal(&call.parts, Some(record.id()), error))?;
    let parts = parts.into_iter().map(|part| Part {
        part_number: part.number,
        etag: part.etag,
        size: part.size,
        last_modified: part.modified.map(date),
    });
    Ok(json(&parts.collect::<Vec<_>>()))
}

/// `POST /s3/multipart/{id}/complete`
pub(super) async fn complete(api: &Api, mut call: Call, id: &str) -> Result<Response, Problem> {
    let (_, record) = find(api, &mut call, id).await?;
    let body = std::mem::take(&mut call.body);
    let fields = api.object(&call.parts.headers, body, LARGE).await?;
    let parts = listed(fields)?;
    let done = api.direct().complete(&record, &parts, &mut call.parts);
    let done = Box::pin(done).await;
    let done = done.map_err(|error| refusal(&call.parts, Some(record.id()), error))?;
    let place = &done.record.place;
    let body = json!({
        "location": done.location,
        "key": place.key,
        "bucket": place.bucket,
    });
    Ok(answer(&done, body))
}

/// The parts that a client says make up its file.
fn listed(mut fields: Map<String, Value>) -> Result<Vec<(u32, String)>, Problem> {
    const WHY: &str = "s3: `parts` must be an array of {ETag, PartNumber} objects.";
    let Some(Value::Array(parts)) = fields.remove("parts") else {
        return Err(Problem::field("parts", WHY));
    };
    let parts = parts.into_iter().map(|part| {
        let number = part.get("PartNumber")?.as_u64()?;
        let number = u32::try_from(number).ok()?;
        let known = (1..=MOST_PARTS).contains(&number);
        let etag = part.get("ETag")?.as_str()?.to_owned();
        known.then_some((number, etag))
    });
    let parts = parts.collect::<Option<Vec<_>>>();
    parts.ok_or_else(|| Problem::field("parts", WHY))
}

/// The answer to whoever completed an upload, with what hooks have to say.
pub(super) fn answer(done: &Complete, mut body: Value) -> Response {
    let words = done.reply.body.as_deref().map(String::from_utf8_lossy);
    if let Some(words) = words.as_deref().map(str::trim)
        && !words.is_empty()
    {
        body["message"] = words.into();
    }
    let mut response = json(&body);
    let said = done.reply.headers.iter();
    for (name, value) in said.filter(|(name, _)| may_be_set(name)) {
        response.headers_mut().insert(name.clone(), value.clone());
    }
    response
}

/// `DELETE /s3/multipart/{id}`
pub(super) async fn abort(api: &Api, mut call: Call, id: &str) -> Result<Response, Problem> {
    let (_, record) = find(api, &mut call, id).await?;
    let cancelled = Box::pin(api.direct().cancel(&record, &mut call.parts)).await;
    cancelled.map_err(|error| refusal(&call.parts, Some(record.id()), error))?;
    // Clients read JSON from this, too.
    Ok(json(&json!({})))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_parts() {
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
    fn keys_for_temporary_credentials() {
        for (name, end) in [("a.bin", "/a.bin"), ("../x/${a}\n.bin", "/__a}.bin")] {
            let key = own_key(name).unwrap();
            assert!(key.ends_with(end) && key.matches('/').count() == 1, "{key}");
        }
        for none in ["", "a/", "..", "x/.", &"x".repeat(256)] {
            assert_eq!(own_key(none), None, "{none}");
        }
    }

    #[test]
    fn lists_of_parts() {
        let of = |parts: Value| {
            let Value::Object(fields) = json!({ "parts": parts }) else {
                unreachable!()
            };
            listed(fields).ok()
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
