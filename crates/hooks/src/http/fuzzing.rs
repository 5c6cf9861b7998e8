//! Entry points of the fuzz targets; not part of the API.

use crate::{DeliveryError, HookName, HookResponse};
use bytes::Bytes;
use http::{HeaderMap, StatusCode};

use super::classify::{Body, RawResponse, ResponseClassifier};
use crate::format::Format;

/// Classifies a response of an endpoint.
///
/// # Errors
/// The response is a failure.
pub fn response(
    format: Format,
    hook: HookName,
    (status, headers): (StatusCode, HeaderMap),
    (bytes, is_complete): (Bytes, bool),
) -> Result<HookResponse, DeliveryError> {
    let classifier = ResponseClassifier {
        format,
        endpoint: String::new(),
        limit: 4096,
        stop_code: Some(418),
        keeps_uploads: false,
    };
    let body = Body { bytes, is_complete };
    let raw = RawResponse {
        status,
        headers,
        body,
    };
    classifier.classify(hook, &raw)
}
