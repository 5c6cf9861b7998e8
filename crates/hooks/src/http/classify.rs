//! Classification of HTTP responses by the rules of each format.

use std::time::{Duration, SystemTime};

use crate::{
    DeliveryError, HookName, HookResponse, UnknownResponse, media_type, require_identity,
    response_json, response_json::is_page,
};
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use landfall::hook::ClientResponse;

use super::redirect::redirect_location;
use crate::format::{Format, ParseError, parse_response};

#[derive(Debug)]
pub(super) struct RawResponse {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Body,
}

#[derive(Debug)]
pub(super) struct ResponseClassifier {
    pub(super) format: Format,
    /// The endpoint's URL for the log, without secrets.
    pub(super) endpoint: String,
    pub(super) limit: usize,
    pub(super) stop_code: Option<u16>,
    /// A 4xx to `pre-finish` does not remove the upload.
    pub(super) keeps_uploads: bool,
}

impl ResponseClassifier {
    pub(super) fn classify(
        &self,
        hook: HookName,
        raw: &RawResponse,
    ) -> Result<HookResponse, DeliveryError> {
        let is_stop = self.stop_code == Some(raw.status.as_u16());
        if is_stop && hook == HookName::PostReceive && self.format != Format::V2 {
            return Ok(HookResponse {
                stop_upload: true,
                ..HookResponse::default()
            });
        }
        let response = match self.format {
            Format::V2 => self
                .version_2(hook, raw)
                .map_err(DeliveryError::client_visible),
            Format::V1 => self.version_1(hook, raw),
            Format::Auto => self.auto(hook, raw),
        };
        let may_stop = hook.is_blocking() || hook == HookName::PostReceive;
        match response {
            // The response to this event has no effect, and after a 2xx a retry would get the same.
            Err(failure) if raw.status.is_success() && !may_stop => Ok(HookResponse {
                ignored: (!raw.body.bytes.is_empty()).then(|| failure.to_string()),
                ..HookResponse::default()
            }),
            response => response,
        }
    }

    fn version_2(&self, hook: HookName, raw: &RawResponse) -> Result<HookResponse, DeliveryError> {
        if !raw.status.is_success() {
            let mut failure = unexpected(raw);
            if hook.is_blocking() && is_from_elsewhere(raw) {
                // The client gets tusd's text alone.
                failure.source = Some(self.not_a_hook(hook, raw).into());
            }
            return Err(failure);
        }
        if !raw.body.is_complete {
            return Err(self.too_large());
        }
        require_identity(&raw.headers).map_err(unknown)?;
        if media_type(&raw.headers) != "application/json" {
            let found = text_of(raw.headers.get(header::CONTENT_TYPE));
            let text = "the hook endpoint must respond with the Content-Type application/json";
            return Err(DeliveryError::new(format!("{text}, it is {found:?}")));
        }
        parse_response(&raw.body.bytes).map_err(|error| unparsable(error, raw))
    }

    fn version_1(&self, hook: HookName, raw: &RawResponse) -> Result<HookResponse, DeliveryError> {
        let status = raw.status;
        if redirect_location(status, &raw.headers).is_some() {
            return Err(unexpected(raw));
        }
        if status.as_u16() < 400 {
            return Ok(HookResponse::default());
        }
        if !hook.is_blocking() {
            return progress_or_failure(hook, raw);
        }
        if status.is_client_error() && is_page(&raw.headers, &raw.body.bytes) {
            return Err(self.not_a_hook(hook, raw));
        }
        let mut body = raw.body.bytes.to_vec();
        body.push(b'\n');
        Ok(HookResponse {
            failed: true,
            client_response: ClientResponse::text(status.as_u16(), body),
            ..HookResponse::default()
        })
    }

    fn auto(&self, hook: HookName, raw: &RawResponse) -> Result<HookResponse, DeliveryError> {
        let status = raw.status;
        if status.is_success() {
            if !raw.body.is_complete {
                return Err(self.too_large());
            }
            let json = response_json(status, &raw.headers, &raw.body.bytes).map_err(unknown)?;
            return match json {
                Some(json) => parse_response(json).map_err(|error| unparsable(error, raw)),
                None => Ok(HookResponse::default()),
            };
        }
        if !status.is_client_error() || !hook.is_blocking() {
            return progress_or_failure(hook, raw);
        }
        // The client is to slow down, not to try again at once.
        if !is_permanent(status) && status != StatusCode::TOO_MANY_REQUESTS {
            return Err(unexpected(raw));
        }
        self.rejection(hook, raw)
    }

    /// Converts a 4xx to a rejection. A version 2 response in the body applies.
    ///
    /// Otherwise the client gets the status, the body and, if harmless, its Content-Type. A server that has no such
    /// route, or a proxy, has decided nothing.
    fn rejection(&self, hook: HookName, raw: &RawResponse) -> Result<HookResponse, DeliveryError> {
        let mut response = match explicit_rejection(hook, raw) {
            Some(response) => response,
            None if is_from_elsewhere(raw) => return Err(self.not_a_hook(hook, raw)),
            None => HookResponse {
                client_response: plain_reply(raw),
                ..HookResponse::default()
            },
        };
        response.client_response.status.get_or_insert(raw.status);
        match hook {
            HookName::PreTerminate => response.reject_termination = true,
            HookName::PreAccess => response.reject_access = true,
            // A rejected completion removes the upload. These statuses concern the call alone, such as
            // after a change at the endpoint, so they fail it instead.
            HookName::PreFinish
                if !response.reject_upload
                    && (self.keeps_uploads
                        || matches!(raw.status.as_u16(), 401 | 407 | 413..=415 | 429 | 431)) =>
            {
                response.failed = true;
            }
            _ => response.reject_upload = true,
        }
        Ok(response)
    }

    /// Returns the error for a 4xx that a server sends by itself, such as at a wrong address.
    fn not_a_hook(&self, hook: HookName, raw: &RawResponse) -> DeliveryError {
        let (endpoint, status) = (&self.endpoint, raw.status.as_u16());
        let kind = match text_of(raw.headers.get(header::CONTENT_TYPE)) {
            "" => "no Content-Type".to_owned(),
            kind => format!("the Content-Type {kind:?}"),
        };
        let field = match hook {
            HookName::PreTerminate => "RejectTermination",
            HookName::PreAccess => "RejectAccess",
            _ => "RejectUpload",
        };
        let remedy = match self.format {
            Format::V1 => "plain text".to_owned(),
            Format::V2 => format!("200, JSON and {field}"),
            Format::Auto => format!("JSON and {field}"),
        };
        let text = format!(
            "{endpoint} responded to {hook} with {status} and {kind}, which is not the answer of a hook: check that \
             --hooks-http is the address of the hook, that it accepts POST requests, and that no proxy or sign-in page \
             is in between; to deny with {status}, respond with {remedy}"
        );
        DeliveryError::new(text).permanent(true)
    }

    fn too_large(&self) -> DeliveryError {
        let limit = self.limit;
        let text = format!("hook response exceeded maximum size of {limit} bytes");
        DeliveryError::new(text)
    }
}

/// Returns whether a server that has no such route, or a proxy, gives this response by itself.
fn is_from_elsewhere(raw: &RawResponse) -> bool {
    let is_route_missing = matches!(
        raw.status,
        StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED
    );
    raw.status.is_client_error() && is_page(&raw.headers, &raw.body.bytes)
        || is_route_missing && says_no_more_than_the_status(raw)
}

/// Frameworks answer for a route they do not have with the name of the status, as text or in a field of JSON. An application
/// that denies an upload gives its reason.
fn says_no_more_than_the_status(raw: &RawResponse) -> bool {
    let body = &raw.body.bytes;
    let Ok(text) = str::from_utf8(body) else {
        return true;
    };
    let fields: Option<serde_json::Map<String, serde_json::Value>> =
        serde_json::from_str(text).ok();
    match fields {
        None => is_name_of_status(text, raw.status),
        Some(fields) => {
            let mut texts = fields.values().filter_map(serde_json::Value::as_str);
            fields.is_empty() || texts.any(|text| is_name_of_status(text, raw.status))
        }
    }
}

/// `Not Found`, `404 Not Found`, `404 page not found` or nothing.
fn is_name_of_status(text: &str, status: StatusCode) -> bool {
    let text = text.trim();
    let text = text.strip_prefix(status.as_str()).unwrap_or(text).trim();
    let text = text.trim_end_matches(['.', '!']);
    let reason = status.canonical_reason().unwrap_or_default();
    text.is_empty()
        || text.eq_ignore_ascii_case(reason)
        || text.eq_ignore_ascii_case("page not found")
}

/// Ignores a 4xx to progress, which is sent again soon; everything else is a failure.
fn progress_or_failure(hook: HookName, raw: &RawResponse) -> Result<HookResponse, DeliveryError> {
    if hook == HookName::PostReceive && raw.status.is_client_error() {
        tracing::debug!(status = %raw.status, "the hook endpoint rejected {hook}");
        return Ok(HookResponse::default());
    }
    Err(unexpected(raw))
}

fn explicit_rejection(hook: HookName, raw: &RawResponse) -> Option<HookResponse> {
    let response = parse_response(&raw.body.bytes).ok()?;
    let is_refusal = match hook {
        HookName::PreTerminate => response.reject_termination,
        HookName::PreAccess => response.reject_access,
        _ => response.reject_upload,
    };
    // Some receivers send RejectUpload for every hook.
    (is_refusal || response.reject_upload).then_some(response)
}

fn plain_reply(raw: &RawResponse) -> ClientResponse {
    let Body { bytes, is_complete } = &raw.body;
    let mut reply = ClientResponse::default();
    if let Some(delay) = raw.headers.get(header::RETRY_AFTER) {
        reply.headers.insert(header::RETRY_AFTER, delay.clone());
    }
    if !is_complete || require_identity(&raw.headers).is_err() {
        tracing::warn!(status = %raw.status, "the body of a rejection is cut, encoded or too large to forward");
    } else if !bytes.is_empty() {
        reply.body = Some(Bytes::clone(bytes));
        let essence = media_type(&raw.headers);
        let is_json = matches!(&*essence, "application/json" | "application/problem+json");
        let is_forwarded = is_json || essence.starts_with("text/");
        let header = raw.headers.get(header::CONTENT_TYPE);
        if let Some(kind) = header.filter(|_| is_forwarded) {
            reply.headers.insert(header::CONTENT_TYPE, kind.clone());
        }
    }
    reply
}

pub(super) fn unexpected(raw: &RawResponse) -> DeliveryError {
    let status = raw.status.as_u16();
    let why = match raw.status.is_redirection() {
        true => "redirects are not followed, see --hooks-http-redirects".to_owned(),
        false => excerpt(&raw.body.bytes),
    };
    let text = format!("unexpected response code from hook endpoint ({status}): {why}");
    DeliveryError::new(text)
        .retry_after(retry_after(&raw.headers))
        .permanent(is_permanent(raw.status))
}

/// Returns whether a status rejects the message itself: every client error but three, which allow a
/// retry.
fn is_permanent(status: StatusCode) -> bool {
    let is_temporary = matches!(status.as_u16(), 408 | 425 | 429);
    status.is_client_error() && !is_temporary
}

fn unknown(error: UnknownResponse) -> DeliveryError {
    let text = format!(
        "the response of the hook endpoint is not understood: {error}; allow with an empty response, {{}} or \
         plain text, or by the status alone with --hooks-format v1"
    );
    DeliveryError::with_source(text, error)
}

fn unparsable(error: ParseError, raw: &RawResponse) -> DeliveryError {
    let body = excerpt(&raw.body.bytes);
    let text = format!("failed to parse hook response: {error}, response was: {body}");
    DeliveryError::with_source(text, error)
}

fn excerpt(body: &[u8]) -> String {
    const MAX_LEN: usize = 500;
    let cut = &body[..body.len().min(MAX_LEN)];
    let dots = if cut.len() < body.len() { "…" } else { "" };
    format!("{}{dots}", String::from_utf8_lossy(cut).trim_end())
}

fn text_of(value: Option<&HeaderValue>) -> &str {
    let text = value.and_then(|value| value.to_str().ok());
    text.unwrap_or_default()
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let header = text_of(headers.get(header::RETRY_AFTER)).trim();
    if let Ok(seconds) = header.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(header).ok()?;
    date.duration_since(SystemTime::now()).ok()
}

#[derive(Debug, Default)]
pub(super) struct Body {
    pub(super) bytes: Bytes,
    pub(super) is_complete: bool,
}

pub(super) async fn read_body(mut body: Incoming, limit: usize) -> Result<Body, hyper::Error> {
    let mut bytes = BytesMut::new();
    let mut is_complete = true;
    while is_complete && let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else {
            continue;
        };
        let remaining = limit - bytes.len();
        is_complete = data.len() <= remaining;
        bytes.extend_from_slice(&data[..data.len().min(remaining)]);
    }
    let bytes = bytes.freeze();
    Ok(Body { bytes, is_complete })
}

#[cfg(test)]
mod tests;
