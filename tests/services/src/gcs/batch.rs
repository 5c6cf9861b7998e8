//! Batches: up to 100 calls of the JSON API in one request, and a response to each.

use bytes::{Bytes, BytesMut};
use http::{HeaderValue, Request, header};

use super::{
    Service, multipart,
    objects::{Result, invalid, reject},
    request::{Call, HttpResponse, handle_json, response},
};

const MAX_CALLS: usize = 100;

/// Answers a batch. A call that fails does not fail the others.
pub(super) fn handle(service: &mut Service, call: &Call<'_>) -> Result<HttpResponse> {
    service.count("batch");
    let malformed = || reject(400, "badRequest", "Failed to parse batch request");
    if call.method != "POST" {
        return Err(malformed());
    }
    let content_type = call.header("content-type").unwrap_or_default();
    let parts =
        multipart::split(content_type, "multipart/mixed", &call.body).ok_or_else(malformed)?;
    if parts.len() > MAX_CALLS {
        let message = format!(
            "The batch request contains too many calls: {}; at most {MAX_CALLS}.",
            parts.len()
        );
        return Err(invalid(message));
    }
    // Nothing is done if one of them is malformed.
    let requests = parts
        .iter()
        .map(|part| inner_request(part, call))
        .collect::<Option<Vec<_>>>();
    let boundary = format!("batch_{:016x}", rand::random::<u64>());
    let mut answers = BytesMut::new();
    for (part, request) in parts.iter().zip(requests.ok_or_else(malformed)?) {
        let (head, body) = request.into_parts();
        let answer = handle_json(service, &Call::new(&head, body));
        let id = part
            .headers
            .get("content-id")
            .and_then(|id| id.to_str().ok());
        let id = id.unwrap_or_default().trim_start_matches('<');
        answers.extend_from_slice(
            format!("--{boundary}\r\nContent-Type: application/http\r\nContent-ID: <response-{id}\r\n\r\n").as_bytes(),
        );
        write_response(&mut answers, answer);
    }
    answers.extend_from_slice(format!("--{boundary}--\r\n").as_bytes());
    let content_type = format!("multipart/mixed; boundary={boundary}");
    Ok(response(200, &content_type, answers.freeze().into()))
}

/// Reads a call, which has the credentials of the batch unless it has some. Uploads and downloads are not allowed.
fn inner_request(part: &multipart::Part, call: &Call<'_>) -> Option<Request<Bytes>> {
    if part.headers.get("content-type")? != "application/http" {
        return None;
    }
    let end = memchr::memchr(b'\n', &part.content)?;
    let line = std::str::from_utf8(&part.content[..end]).ok()?;
    let mut pieces = line.split_whitespace();
    let (method, target) = (pieces.next()?, pieces.next()?);
    let rest = multipart::part(&part.content.slice(end + 1..))?;
    let mut request = Request::builder()
        .method(method)
        .uri(target)
        .body(rest.content)
        .ok()?;
    *request.headers_mut() = rest.headers;
    for name in [header::AUTHORIZATION, header::HOST] {
        if let Some(value) = call.headers.get(&name) {
            request
                .headers_mut()
                .entry(name)
                .or_insert_with(|| HeaderValue::clone(value));
        }
    }
    let is_media = request
        .uri()
        .query()
        .is_some_and(|query| query.contains("alt=media"));
    (request.uri().path().starts_with("/storage/v1/") && !is_media).then_some(request)
}

fn write_response(answers: &mut BytesMut, answer: HttpResponse) {
    let (head, content) = answer.into_parts();
    let reason = head.status.canonical_reason().unwrap_or_default();
    answers.extend_from_slice(format!("HTTP/1.1 {} {reason}\r\n", head.status.as_u16()).as_bytes());
    for (name, value) in &head.headers {
        answers.extend_from_slice(format!("{name}: ").as_bytes());
        answers.extend_from_slice(value.as_bytes());
        answers.extend_from_slice(b"\r\n");
    }
    answers.extend_from_slice(b"\r\n");
    answers.extend_from_slice(&content.to_bytes());
    answers.extend_from_slice(b"\r\n");
}
