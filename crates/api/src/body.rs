use std::{error::Error as _, time::Duration};

use axum::body::{Body, to_bytes};
use bytes::Bytes;
use http::{HeaderMap, StatusCode, header};
use serde_json::{Map, Value};

use crate::Problem;

/// An error in a request body.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JsonBodyError {
    /// Larger than this number of bytes.
    #[error("request body larger than {0} bytes")]
    TooLong(usize),
    /// The connection was closed.
    #[error("incomplete request body")]
    Broken,
    /// Not received in time.
    #[error("request body not received in time")]
    Slow,
    /// Invalid JSON, with the cause.
    #[error("request body is not valid JSON: {0}")]
    NotJson(String),
    /// JSON, but not an object.
    #[error("request body must be a JSON object")]
    NotObject,
    /// It has another media type.
    #[error("unsupported media type; send JSON with Content-Type: application/json")]
    NotJsonType,
}

impl From<JsonBodyError> for Problem {
    fn from(error: JsonBodyError) -> Self {
        Self::new(error.status(), error.to_string())
    }
}

impl JsonBodyError {
    /// Returns the HTTP status.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        match self {
            Self::TooLong(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Broken | Self::NotJson(_) | Self::NotObject => StatusCode::BAD_REQUEST,
            Self::Slow => StatusCode::REQUEST_TIMEOUT,
            Self::NotJsonType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        }
    }
}

/// Reads a request body of at most `max_bytes`.
///
/// # Errors
/// It is larger, incomplete, or not received within `duration`.
///
/// # Cancel safety
/// Safe to drop.
pub async fn read_body(
    body: Body,
    max_bytes: usize,
    duration: Duration,
) -> Result<Bytes, JsonBodyError> {
    let is_too_long = |error: &axum::Error| {
        let source = error.source();
        source.is_some_and(|source| source.is::<http_body_util::LengthLimitError>())
    };
    match tokio::time::timeout(duration, to_bytes(body, max_bytes)).await {
        Ok(Ok(body)) => Ok(body),
        Ok(Err(error)) if is_too_long(&error) => Err(JsonBodyError::TooLong(max_bytes)),
        Ok(Err(_)) => Err(JsonBodyError::Broken),
        Err(_) => Err(JsonBodyError::Slow),
    }
}

/// Parses a JSON object.
///
/// # Errors
/// The body is not JSON, or not an object.
pub fn json_object(body: &[u8]) -> Result<Map<String, Value>, JsonBodyError> {
    match serde_json::from_slice(body) {
        Ok(Value::Object(fields)) => Ok(fields),
        Ok(_) => Err(JsonBodyError::NotObject),
        Err(error) => Err(JsonBodyError::NotJson(error.to_string())),
    }
}

/// Checks that a request has JSON.
///
/// # Errors
/// [`JsonBodyError::NotJsonType`].
pub fn check_json(headers: &HeaderMap) -> Result<(), JsonBodyError> {
    match media_type(headers).as_deref() {
        Some(json) if json == "application/json" || json.ends_with("+json") => Ok(()),
        _ => Err(JsonBodyError::NotJsonType),
    }
}

/// Returns the media type of a body in lower case, without parameters.
#[must_use]
pub fn media_type(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
    let essence = value.split(';').next().unwrap_or_default().trim();
    Some(essence.to_ascii_lowercase())
}
