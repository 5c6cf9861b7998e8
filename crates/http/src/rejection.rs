//! Responses to requests that do not reach the service: a status and a sentence of plain text.
//!
//! The status tells clients of tus how to continue: for a limit 503 and not 429, and 423 in response to HEAD. The
//! caller adds fields such as those of CORS, and removes `Connection` in HTTP/2 and HTTP/3.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONNECTION, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, Response, StatusCode};

use super::function::Function;

/// Adds the fields that every response to a request needs, such as those of CORS, given the request's fields.
pub type RejectionFields = Function<dyn Fn(&HeaderMap, &mut HeaderMap) + Send + Sync>;

impl Default for RejectionFields {
    fn default() -> Self {
        Self(Arc::new(|_, _| {}))
    }
}

/// A response to a request that must not reach the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HttpRejection {
    /// A 4xx status, or 5xx for features of HTTP that this server does not support.
    pub status: StatusCode,
    /// A sentence for the client.
    pub reason: &'static str,
}

impl HttpRejection {
    pub(super) const fn bad(reason: &'static str) -> Self {
        Self {
            status: StatusCode::BAD_REQUEST,
            reason,
        }
    }

    /// For what passes soon. Clients of tus repeat a request after 503; a 429 is final for them.
    pub(super) const fn busy(reason: &'static str) -> Self {
        Self {
            status: StatusCode::SERVICE_UNAVAILABLE,
            reason,
        }
    }

    /// After any other error of HEAD, clients of tus send the file from its start.
    pub(super) fn for_head(mut self) -> Self {
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            self.status = StatusCode::LOCKED;
        }
        self
    }

    /// `add_fields` adds those of the connection.
    pub(super) fn response(self, add_fields: impl FnOnce(&mut HeaderMap)) -> Response<Bytes> {
        let mut response = Response::new(Bytes::from(format!("{}\n", self.reason)));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        let fixed = HeaderValue::from_static;
        headers.insert(CONTENT_TYPE, fixed("text/plain; charset=utf-8"));
        // A cache must not serve this response to others.
        headers.insert(CACHE_CONTROL, fixed("no-store"));
        if matches!(
            self.status,
            StatusCode::SERVICE_UNAVAILABLE | StatusCode::LOCKED
        ) {
            headers.insert(RETRY_AFTER, fixed("1"));
        }
        headers.insert(CONNECTION, fixed("close"));
        add_fields(headers);
        response
    }
}
