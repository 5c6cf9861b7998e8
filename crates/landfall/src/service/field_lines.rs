//! Fields of a response as bytes of HTTP/1.1, which saves most responses a `HeaderMap`.
//!
//! Only fields that are set once and that hooks cannot set belong here. Names are constants, and values are header
//! values or numbers, so no line can contain a line break.

use http::{HeaderMap, HeaderName, HeaderValue, header};
use landfall_protocol::number_value;

/// Bytes that are kept for the next response.
const MAX_KEPT: usize = 4096;

/// The usual fields of a response as lines of HTTP/1.1, for a server that writes these.
///
/// A server puts an empty one into the extensions of a request whose head shares no buffer. The response then has the
/// extensions of its request, so that the server can use their memory again, and the fields that most responses have
/// are here instead of in its `HeaderMap`.
///
/// Without it, all fields are in the map. The handler then copies the head of a request with a body, because it may
/// share a read buffer, which the server could not use again before the end of the request.
#[derive(Debug, Clone, Default)]
pub struct FieldLines {
    lines: Vec<u8>,
    content_length: Option<u64>,
}

impl FieldLines {
    /// Returns the lines, each with its end, without `Content-Length`.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.lines
    }

    /// Returns the value of `Content-Length`.
    #[must_use]
    pub fn content_length(&self) -> Option<u64> {
        self.content_length
    }

    /// Removes all fields, and keeps their memory unless it is large.
    pub fn clear(&mut self) {
        self.lines.clear();
        self.lines.shrink_to(MAX_KEPT);
        self.content_length = None;
    }

    pub(super) fn set_content_length(&mut self, length: u64) {
        self.content_length = Some(length);
    }

    /// Adds fields whose lines are always the same.
    pub(super) fn add_constant(&mut self, lines: &'static str) {
        self.lines.extend_from_slice(lines.as_bytes());
    }

    /// `start` is a name, colon and space.
    pub(super) fn add(&mut self, start: &'static str, value: &HeaderValue) {
        self.add_bytes(start, value.as_bytes());
    }

    pub(super) fn add_number(&mut self, start: &'static str, number: u64) {
        self.add_bytes(start, itoa::Buffer::new().format(number).as_bytes());
    }

    fn add_bytes(&mut self, start: &'static str, value: &[u8]) {
        self.lines.reserve(start.len() + value.len() + 2);
        self.lines.extend_from_slice(start.as_bytes());
        self.lines.extend_from_slice(value);
        self.lines.extend_from_slice(b"\r\n");
    }

    /// Moves all fields to a map.
    pub(super) fn move_to(&mut self, fields: &mut HeaderMap) {
        for line in self.lines.split(|byte| *byte == b'\n') {
            let mut parts = line.splitn(2, |byte| *byte == b':');
            if let (Some(name), Some(value)) = (parts.next(), parts.next())
                && let Ok(name) = HeaderName::from_bytes(name)
                && let Ok(value) = HeaderValue::from_bytes(value.trim_ascii())
            {
                fields.append(name, value);
            }
        }
        if let Some(length) = self.content_length {
            fields.insert(header::CONTENT_LENGTH, number_value(length));
        }
        self.clear();
    }
}

#[cfg(test)]
mod tests {
    use http::{Method, Request, Response};
    use http_body_util::Full;

    use super::*;
    use crate::{Config, Handler, service::Cors, service::ResponseBody, store::MemoryStore};

    async fn call(
        handler: &Handler,
        request: &Request<Full<bytes::Bytes>>,
        has_lines: bool,
    ) -> Response<ResponseBody> {
        let mut request = request.clone();
        if has_lines {
            request.extensions_mut().insert(FieldLines::default());
        }
        handler.handle(request).await
    }

    /// As a client of HTTP/1.1 reads them.
    fn all_fields(response: Response<ResponseBody>) -> Vec<(String, String)> {
        let mut map = response.headers().clone();
        if let Some(lines) = response.extensions().get::<FieldLines>() {
            let text = str::from_utf8(lines.as_bytes()).unwrap();
            for line in text.split_terminator("\r\n") {
                let (name, value) = line.split_once(": ").unwrap();
                let name = name.parse::<HeaderName>().unwrap();
                map.append(name, value.parse().unwrap());
            }
            let length = lines.content_length();
            map.extend(length.map(|length| (header::CONTENT_LENGTH, length.into())));
        }
        let fields = map.iter();
        let mut fields: Vec<_> = fields
            .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
            .collect();
        fields.sort();
        fields
    }

    #[tokio::test]
    async fn a_server_with_lines_sends_the_fields_of_one_without() {
        let mut config = Config::new(MemoryStore::new());
        config.cors = Some(Cors::default());
        let handler = Handler::new(config).unwrap();
        let request = |method: Method, uri: &str, fields: &[(&'static str, &'static str)]| {
            let mut request = Request::new(Full::default());
            (*request.method_mut(), *request.uri_mut()) = (method, uri.parse().unwrap());
            for (name, value) in fields {
                request
                    .headers_mut()
                    .append(*name, HeaderValue::from_static(value));
            }
            request
        };
        let tus = ("tus-resumable", "1.0.0");
        let metadata = ("upload-metadata", "name YQ==");
        let origin = ("origin", "https://a.example");
        let create = request(
            Method::POST,
            "/files/",
            &[tus, ("upload-length", "5"), metadata],
        );
        let created = call(&handler, &create, false).await;
        let upload = created.headers()[header::LOCATION].to_str().unwrap();
        for (request, least) in [
            (request(Method::HEAD, upload, &[tus]), 7),
            (request(Method::HEAD, upload, &[tus, origin]), 9),
            (request(Method::HEAD, "/files/none", &[tus]), 5),
            (request(Method::OPTIONS, "/files/", &[origin]), 9),
            (
                request(
                    Method::POST,
                    upload,
                    &[tus, ("x-http-method-override", "HEAD")],
                ),
                7,
            ),
            (request(Method::POST, "/files/", &[tus]), 5),
            (request(Method::HEAD, "/elsewhere", &[tus]), 3),
        ] {
            let mapped = all_fields(call(&handler, &request, false).await);
            let listed = all_fields(call(&handler, &request, true).await);
            assert_eq!(mapped, listed);
            assert!(mapped.len() >= least, "{mapped:?}");
        }
    }
}
