//! The changes that a hook makes to a response; those at completion are stored with the upload.
//!
//! The service ignores headers of a hook that belong to the protocol (`RESERVED_HEADERS` in `service/response.rs`).

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, header};

/// A hook's changes to the response that the client gets.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClientResponse {
    /// Replaces the status.
    pub status: Option<http::StatusCode>,
    /// Headers to add or replace; `Location` and the protocol's headers cannot be replaced.
    pub headers: HeaderMap,
    /// Replaces the body.
    pub body: Option<Bytes>,
}

impl ClientResponse {
    /// Creates a response with a status and a plain text. An invalid status becomes 500.
    #[must_use]
    pub fn text(status: u16, body: impl Into<Bytes>) -> Self {
        let status =
            http::StatusCode::from_u16(status).unwrap_or(http::StatusCode::INTERNAL_SERVER_ERROR);
        Self {
            status: Some(status),
            headers: HeaderMap::new(),
            body: Some(body.into()),
        }
        .header(
            header::CONTENT_TYPE,
            HeaderValue::from_static("text/plain; charset=utf-8"),
        )
    }

    /// Adds or replaces a header.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }

    /// Returns whether it changes nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.status.is_none() && self.headers.is_empty() && self.body.is_none()
    }

    pub(crate) fn merge(&mut self, other: Self) {
        self.status = other.status.or(self.status);
        self.body = other.body.or_else(|| self.body.take());
        self.headers.extend(other.headers);
    }
}
