//! Inserts of objects: bytes alone, with their metadata in one request, and resumable sessions.

use serde_json::Value;

use super::{
    Service,
    json::{check_write, fields},
    multipart,
    objects::{Attributes, Result, invalid, missing, reject, unknown},
    request::{Call, HttpResponse, empty, insert_header, json_response, parse_json},
    sessions::{Chunk, Progress},
};

/// Answers a POST for an object.
pub(super) fn insert(service: &mut Service, call: &Call<'_>, bucket: &str) -> Result<HttpResponse> {
    if call.method != "POST" {
        return Err(unknown(format!("{} of an upload", call.method)));
    }
    call.expect_parameters(&["name", "uploadType"])?;
    let (attributes, bytes) = match call.parameter("uploadType") {
        Some("media") => {
            let content_type = call
                .header("content-type")
                .map(|value| ("contentType".to_owned(), value.into()));
            (Attributes::from_iter(content_type), call.body.clone())
        }
        Some("multipart") => {
            let content_type = call.header("content-type").unwrap_or_default();
            let parts = multipart::split(content_type, "multipart/related", &call.body);
            let [description, media] = <[_; 2]>::try_from(parts.unwrap_or_default())
                .map_err(|_| reject(400, "badContent", "Malformed multipart body."))?;
            let content_type = |part: &multipart::Part| {
                let value = part
                    .headers
                    .get("content-type")
                    .and_then(|value| value.to_str().ok());
                value.unwrap_or_default().to_owned()
            };
            let mut attributes = fields(parse_json(
                &content_type(&description),
                &description.content,
            )?);
            let stated = content_type(&media);
            if !stated.is_empty() {
                attributes
                    .entry("contentType")
                    .or_insert_with(|| stated.into());
            }
            (attributes, media.content)
        }
        Some("resumable") => return create_session(service, call, bucket),
        _ => return Err(reject(400, "invalid", "Invalid value for: uploadType")),
    };
    service.count("objects.insert");
    let name = object_name(call, &attributes)?;
    check_write(service, bucket, &name)?;
    let attributes = with_checksums(attributes, call);
    let inserted = service.buckets.insert(
        bucket,
        &name,
        bytes.into(),
        &attributes,
        call.preconditions()?,
    )?;
    Ok(json_response(
        200,
        &inserted.resource(&call.endpoint, bucket, &name),
    ))
}

/// The name is in the query, or else in the metadata.
fn object_name(call: &Call<'_>, attributes: &Attributes) -> Result<String> {
    let stated = attributes.get("name").and_then(Value::as_str);
    let name = match (call.parameter("name"), stated) {
        (Some(name), Some(stated)) if name != stated => {
            return Err(invalid("Invalid value for: name"));
        }
        (Some(name), _) | (None, Some(name)) => name,
        (None, None) => return Err(reject(400, "required", "Required parameter: name")),
    };
    Ok(name.to_owned())
}

/// Adds the checksums of a request's `x-goog-hash`.
pub(super) fn with_checksums(mut attributes: Attributes, call: &Call<'_>) -> Attributes {
    for value in call.headers.get_all("x-goog-hash") {
        for sum in value.to_str().unwrap_or_default().split(',') {
            let field = match sum.trim().split_once('=') {
                Some(("crc32c", value)) => ("crc32c", value),
                Some(("md5", value)) => ("md5Hash", value),
                _ => continue,
            };
            attributes.insert(field.0.to_owned(), field.1.into());
        }
    }
    attributes
}

fn create_session(service: &mut Service, call: &Call<'_>, bucket: &str) -> Result<HttpResponse> {
    service.count("sessions.create");
    let mut attributes = fields(call.json()?);
    if let Some(value) = call.header("x-upload-content-type") {
        attributes
            .entry("contentType")
            .or_insert_with(|| value.into());
    }
    let name = object_name(call, &attributes)?;
    check_write(service, bucket, &name)?;
    let wanted = call.preconditions()?;
    let id = service
        .buckets
        .create_session(bucket, &name, attributes, wanted)?;
    let endpoint = &call.endpoint;
    let location =
        format!("{endpoint}/upload/storage/v1/b/{bucket}/o?uploadType=resumable&upload_id={id}");
    let mut answer = empty(200);
    insert_header(&mut answer, "location", &location);
    insert_header(&mut answer, "x-guploader-uploadid", &id);
    Ok(answer)
}

/// Answers a request to the URL of a session.
pub(super) fn continue_session(
    service: &mut Service,
    call: &Call<'_>,
    bucket: &str,
) -> Result<HttpResponse> {
    match progress(service, call, bucket)? {
        SessionResponse::Incomplete(answer) => Ok(answer),
        SessionResponse::Finished(object, name) => Ok(json_response(
            200,
            &object.resource(&call.endpoint, bucket, &name),
        )),
    }
}

/// A response to a session, or the object that it made.
#[derive(Debug)]
pub(super) enum SessionResponse {
    Incomplete(HttpResponse),
    Finished(Box<super::objects::Object>, String),
}

/// Sends a request to a session.
pub(super) fn progress(
    service: &mut Service,
    call: &Call<'_>,
    bucket: &str,
) -> Result<SessionResponse> {
    let id = call
        .parameter("upload_id")
        .ok_or_else(|| missing("Upload session not found"))?;
    match call.method.as_str() {
        "DELETE" => {
            service.count("sessions.cancel");
            service.buckets.cancel_session(bucket, id)?;
            return Ok(SessionResponse::Incomplete(empty(499)));
        }
        "PUT" => {}
        method => return Err(unknown(format!("{method} of a session"))),
    }
    let length = call.body.len() as u64;
    let range = call.header("content-range");
    // A body without a range is the whole object.
    let (start, total) = range.map_or(Ok((Some(0), Some(length))), |range| {
        let parsed = parse_content_range(range, length);
        parsed.ok_or_else(|| {
            invalid(format!(
                "Failed to parse Content-Range header: {range:?}, {length} bytes"
            ))
        })
    })?;
    service.count(if start.is_some() {
        "sessions.write"
    } else {
        "sessions.query"
    });
    let chunk = Chunk {
        start,
        total,
        bytes: call.body.clone(),
        checksums: with_checksums(Attributes::new(), call),
    };
    Ok(match service.buckets.write_session(bucket, id, chunk)? {
        Progress::Finished(object, name) => SessionResponse::Finished(object, name),
        Progress::Incomplete(stored) => {
            let mut answer = empty(308);
            if let Some(last) = stored.checked_sub(1) {
                insert_header(&mut answer, "range", &format!("bytes=0-{last}"));
            }
            SessionResponse::Incomplete(answer)
        }
    })
}

/// Returns the start of a chunk, if it has bytes, and the total; `None` if it does not fit the length of the body.
fn parse_content_range(range: &str, length: u64) -> Option<(Option<u64>, Option<u64>)> {
    let (range, total) = range.strip_prefix("bytes ")?.split_once('/')?;
    let total = match total {
        "*" => None,
        total => Some(total.parse().ok()?),
    };
    if range == "*" {
        return (length == 0).then_some((None, total));
    }
    let (first, last) = range.split_once('-')?;
    let (first, last): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
    let is_valid = last.checked_sub(first)?.checked_add(1)? == length
        && total.is_none_or(|total| last < total);
    is_valid.then_some((Some(first), total))
}
