//! HTTP/1.1 byte by byte: requests as a test writes them, and messages as they arrive.
//!
//! [`Client`] blocks and [`AsyncClient`] does not; both send exactly the given bytes. Nothing here repairs or hides what a
//! peer sends: a message that is cut or that has a field twice fails the test.

mod blocking;
mod client;

use std::{fmt::Write as _, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper_util::{client::legacy, rt::TokioExecutor};

pub use blocking::Client;
pub use client::AsyncClient;

/// Longer than any exchange takes, even on a busy machine; a hang fails instead of blocking.
pub const TIMEOUT: Duration = Duration::from_secs(60);

/// Returns the path of a `Location`.
#[must_use]
pub fn path_of(location: &str) -> String {
    match location.split_once("://") {
        Some((_, rest)) => rest[rest.find('/').unwrap()..].to_owned(),
        None => location.to_owned(),
    }
}

/// Returns the id at the end of an upload's path.
#[must_use]
pub fn id_of(path: &str) -> &str {
    path.rsplit('/').next().unwrap()
}

/// Returns the media type and the body of a form as browsers send it, with `file` as the last field.
pub fn form<'a>(
    fields: impl IntoIterator<Item = (&'a str, &'a str)>,
    file: &[u8],
) -> (String, Vec<u8>) {
    const BOUNDARY: &str = "----landfall-test-2d1c8f";
    let mut body = String::new();
    for (name, value) in fields {
        let head = format!("Content-Disposition: form-data; name=\"{name}\"");
        write!(body, "--{BOUNDARY}\r\n{head}\r\n\r\n{value}\r\n").unwrap();
    }
    let head = "Content-Disposition: form-data; name=\"file\"; filename=\"blob\"\r\n\
                Content-Type: application/octet-stream";
    write!(body, "--{BOUNDARY}\r\n{head}\r\n\r\n").unwrap();
    let mut body = body.into_bytes();
    body.extend_from_slice(file);
    body.extend_from_slice(format!("\r\n--{BOUNDARY}--\r\n").as_bytes());
    (format!("multipart/form-data; boundary={BOUNDARY}"), body)
}

/// A response of [`send`].
pub type Response = (StatusCode, HeaderMap, Bytes);

/// Sends a request on a connection of its own, by hyper.
pub async fn send(
    method: Method,
    url: &str,
    headers: &HeaderMap,
    body: impl Into<Bytes>,
) -> Response {
    let mut request = http::Request::new(Full::new(body.into()));
    *request.method_mut() = method;
    *request.uri_mut() = url.parse().unwrap();
    request.headers_mut().extend(headers.clone());
    let client = legacy::Client::builder(TokioExecutor::new()).build_http();
    let (head, body) = client.request(request).await.unwrap().into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    (head.status, head.headers, body)
}

/// Sends a form as browsers do, with `file` as the last field.
pub async fn post_form<'a>(
    url: &str,
    fields: impl IntoIterator<Item = (&'a str, &'a str)>,
    file: &[u8],
) -> Response {
    let (kind, body) = form(fields, file);
    let mut headers = HeaderMap::new();
    headers.insert("content-type", kind.parse().unwrap());
    send(Method::POST, url, &headers, body).await
}

/// A request builder.
#[derive(Debug, Clone)]
pub struct Request {
    method: &'static str,
    path: String,
    fields: Vec<(String, String)>,
    body: Option<Vec<u8>>,
}

impl Request {
    /// Creates a request with `Host` and the fields of every request of tus.
    #[must_use]
    pub fn new(method: &'static str, path: &str) -> Self {
        let fields = [("Host", "landfall.test"), ("Tus-Resumable", "1.0.0")];
        Self {
            method,
            path: path.to_owned(),
            fields: fields
                .map(|(name, value)| (name.into(), value.into()))
                .into(),
            body: None,
        }
    }

    /// A download, or another GET.
    #[must_use]
    pub fn get(path: &str) -> Self {
        Self::new("GET", path)
    }

    /// A creation at the usual path.
    #[must_use]
    pub fn post() -> Self {
        Self::new("POST", "/files/")
    }

    /// An append; a body that is sent separately is declared by [`Client::begin`].
    #[must_use]
    pub fn patch(path: &str, offset: u64) -> Self {
        Self::new("PATCH", path)
            .with("Upload-Offset", offset)
            .with("Content-Type", "application/offset+octet-stream")
    }

    /// Adds a field.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl ToString) -> Self {
        self.fields.push((name.to_owned(), value.to_string()));
        self
    }

    /// Adds a body with `Content-Length`.
    #[must_use]
    pub fn body(mut self, body: &[u8]) -> Self {
        self.body = Some(body.to_owned());
        self
    }

    /// Serializes the request.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let mut head = format!("{} {} HTTP/1.1\r\n", self.method, self.path);
        for (name, value) in &self.fields {
            write!(head, "{name}: {value}\r\n").unwrap();
        }
        if let Some(body) = &self.body {
            write!(head, "Content-Length: {}\r\n", body.len()).unwrap();
        }
        head.push_str("\r\n");
        let mut bytes = head.into_bytes();
        bytes.extend_from_slice(self.body.as_deref().unwrap_or_default());
        bytes
    }
}

/// A request or response that has arrived.
#[derive(Debug, Clone)]
pub struct Message {
    /// All of the head, as it came.
    pub head: String,
    /// 0 of a request.
    pub status: u16,
    /// The fields of the head.
    pub headers: Vec<(String, String)>,
    /// The content, of as many bytes as `Content-Length` names.
    pub body: Vec<u8>,
}

impl Message {
    fn parse(head: String) -> Self {
        let mut lines = head.trim_end().split("\r\n");
        let first = lines.next().unwrap();
        let status = first.strip_prefix("HTTP/").map_or(0, |rest| {
            let status = rest.split(' ').nth(1).unwrap();
            status.parse().unwrap()
        });
        let headers = lines
            .map(|line| {
                let (name, value) = line.split_once(':').unwrap();
                (name.to_owned(), value.trim().to_owned())
            })
            .collect();
        Self {
            status,
            headers,
            body: Vec::new(),
            head,
        }
    }

    /// The request line or status line.
    #[must_use]
    pub fn line(&self) -> &str {
        self.head.lines().next().unwrap()
    }

    /// The content as text.
    #[must_use]
    #[track_caller]
    pub fn text(&self) -> String {
        self.as_text().to_owned()
    }

    /// The content as text, borrowed.
    #[must_use]
    #[track_caller]
    pub fn as_text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    /// The values of a field.
    #[must_use]
    pub fn all(&self, name: &str) -> Vec<&str> {
        let headers = self.headers.iter();
        let headers = headers.filter(|(found, _)| found.eq_ignore_ascii_case(name));
        headers.map(|(_, value)| value.as_str()).collect()
    }

    /// The value of a field that may not be repeated.
    #[must_use]
    #[track_caller]
    pub fn header(&self, name: &str) -> Option<&str> {
        let all = self.all(name);
        assert!(all.len() < 2, "{name} more than once in {self:?}");
        all.first().copied()
    }

    /// The value of a field that must be a number.
    #[must_use]
    #[track_caller]
    pub fn number(&self, name: &str) -> u64 {
        let value = self.header(name);
        value
            .and_then(|value| value.parse().ok())
            .unwrap_or_else(|| panic!("{name} is {value:?} in {self:?}"))
    }

    /// `Upload-Offset`.
    #[must_use]
    #[track_caller]
    pub fn offset(&self) -> u64 {
        self.number("Upload-Offset")
    }

    /// Returns the path of the created upload.
    #[track_caller]
    pub fn created(&self) -> String {
        assert_eq!(self.status, 201, "{self:?}");
        path_of(self.header("Location").unwrap())
    }

    /// Checks status and error code.
    #[track_caller]
    pub fn refuses(&self, status: u16, code: &str) {
        let text = String::from_utf8_lossy(&self.body);
        assert!(
            self.status == status && text.starts_with(&format!("{code}: ")),
            "not {status} {code} but {} {text}",
            self.status
        );
    }
}

/// The bytes of one direction of a connection that belong to no message yet.
#[derive(Debug, Default)]
struct Received(Vec<u8>);

impl Received {
    /// Takes the next message, once all of it is there. `method` is that of the request that a response is for.
    fn take(&mut self, method: &str) -> Option<Message> {
        let end = self.0.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
        let head = String::from_utf8(self.0[..end].to_vec()).unwrap();
        let mut message = Message::parse(head);
        let has_body = method != "HEAD" && !matches!(message.status, 100..200 | 204 | 304);
        let length = match message.header("Content-Length") {
            Some(length) if has_body => length.parse().unwrap(),
            _ => 0,
        };
        if self.0.len() - end < length {
            return None;
        }
        let rest = self.0.split_off(end + length);
        message.body = std::mem::replace(&mut self.0, rest).split_off(end);
        Some(message)
    }
}
