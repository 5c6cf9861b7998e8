//! Reads request bodies of the APIs, limited in size and time, and parses JSON objects.
//!
//! `check_json` is part of the protection from CSRF: it rejects the media types that pages of other sites can send
//! without a preflight request.

use std::{error::Error as _, time::Duration};

use axum::body::{Body, to_bytes};
use bytes::Bytes;
use http::{HeaderMap, StatusCode, header};
use landfall_hooks::media_type;
use serde_json::{Map, Value};

use crate::Problem;

/// Reads a request body of at most `max_bytes`.
///
/// # Errors
/// It is larger, incomplete, or not received within `duration`.
///
/// # Cancel safety
/// Safe to drop.
pub async fn read_body(body: Body, max_bytes: usize, duration: Duration) -> Result<Bytes, Problem> {
    let is_too_long = |error: &axum::Error| {
        let source = error.source();
        source.is_some_and(|source| source.is::<http_body_util::LengthLimitError>())
    };
    match tokio::time::timeout(duration, to_bytes(body, max_bytes)).await {
        Ok(Ok(body)) => Ok(body),
        Ok(Err(error)) if is_too_long(&error) => {
            let detail = format!("request body larger than {max_bytes} bytes");
            Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail))
        }
        Ok(Err(_)) => Err(invalid("incomplete request body".to_owned())),
        Err(_) => {
            let detail = "request body not received in time";
            Err(Problem::new(StatusCode::REQUEST_TIMEOUT, detail))
        }
    }
}

/// Parses a JSON object.
///
/// # Errors
/// The body is not JSON, or not an object.
pub fn json_object(body: &[u8]) -> Result<Map<String, Value>, Problem> {
    match serde_json::from_slice(body) {
        Ok(Value::Object(fields)) => Ok(fields),
        Ok(_) => Err(invalid("request body must be a JSON object".to_owned())),
        Err(error) => Err(invalid(format!("request body is not valid JSON: {error}"))),
    }
}

fn invalid(detail: String) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, detail)
}

/// Checks that a request has JSON, or names no media type.
///
/// # Errors
/// It has another media type, such as that of a form or of text, which pages of other sites can send.
pub fn check_json(headers: &HeaderMap) -> Result<(), Problem> {
    let kind = media_type(headers);
    let is_json = kind == "application/json" || kind.ends_with("+json");
    if is_json || !headers.contains_key(header::CONTENT_TYPE) {
        return Ok(());
    }
    let detail = "unsupported media type; send JSON with Content-Type: application/json";
    Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn only_json_or_no_type_is_accepted() {
        let accepted = |kind: &[u8]| {
            let kind = [(header::CONTENT_TYPE, HeaderValue::from_bytes(kind).unwrap())];
            check_json(&HeaderMap::from_iter(kind)).is_ok()
        };
        check_json(&HeaderMap::new()).unwrap();
        for kind in [
            "application/json",
            "Application/JSON; charset=utf-8",
            "application/ld+json",
        ] {
            assert!(accepted(kind.as_bytes()), "{kind}");
        }
        // Pages of other sites can send these without asking first.
        for kind in [&b"text/plain"[..], b"text/plain;x=\xff", b""] {
            assert!(!accepted(kind), "{kind:?}");
        }
    }
}
