use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, Response, StatusCode};

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
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE
        ) {
            headers.insert(RETRY_AFTER, fixed("1"));
        }
        headers.insert(CONNECTION, fixed("close"));
        add_fields(headers);
        response
    }

    pub(super) fn to_http1(self, add_fields: impl FnOnce(&mut HeaderMap)) -> Vec<u8> {
        let (mut parts, text) = self.response(add_fields).into_parts();
        parts.headers.insert(CONTENT_LENGTH, text.len().into());
        let mut bytes = format!("HTTP/1.1 {}\r\n", parts.status).into_bytes();
        for (name, value) in &parts.headers {
            for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
                bytes.extend_from_slice(part);
            }
        }
        bytes.extend_from_slice(b"\r\n");
        bytes.extend_from_slice(&text);
        bytes
    }
}
