use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONNECTION, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, Response, StatusCode};

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

    fn has_retry_after(self) -> bool {
        matches!(
            self.status,
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE
        )
    }

    pub(super) fn response(self) -> Response<Bytes> {
        let mut response = Response::new(Bytes::from(format!("{}\n", self.reason)));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        let fixed = HeaderValue::from_static;
        headers.insert(CONTENT_TYPE, fixed("text/plain; charset=utf-8"));
        // A cache must not serve this response to others.
        headers.insert(CACHE_CONTROL, fixed("no-store"));
        if self.has_retry_after() {
            headers.insert(RETRY_AFTER, fixed("1"));
        }
        headers.insert(CONNECTION, fixed("close"));
        response
    }

    pub(super) fn to_http1(self) -> Vec<u8> {
        let waits = self.has_retry_after();
        let retry_after = if waits { "retry-after: 1\r\n" } else { "" };
        format!(
            "HTTP/1.1 {} {}\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: {}\r\n\
             cache-control: no-store\r\n{retry_after}connection: close\r\n\r\n{}\n",
            self.status.as_str(),
            self.status.canonical_reason().unwrap_or_default(),
            self.reason.len() + 1,
            self.reason,
        )
        .into_bytes()
    }
}
