//! HTTP/1.1 and HTTP/2 of the reference server of the draft: fields as it reads them, and interim responses.

use std::io;

use bytes::Bytes;
use h2::RecvStream;
use h2::server::SendResponse;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

pub(super) use crate::reference::http::Reply as Response;
use crate::reference::http::{Head, Http};

pub(super) struct Request(Head);

impl std::ops::Deref for Request {
    type Target = Head;

    fn deref(&self) -> &Head {
        &self.0
    }
}

impl Request {
    /// Returns all lines of a field, joined.
    pub(super) fn field(&self, name: &str) -> Option<String> {
        let lines: Vec<_> = self.all(name).collect();
        (!lines.is_empty()).then(|| lines.join(", "))
    }

    /// Returns the value of an Item without its parameters.
    fn item(&self, name: &str) -> Option<String> {
        let value = self.field(name)?;
        let item = value.split(';').next().unwrap_or_default();
        Some(item.trim().to_owned())
    }

    pub(super) fn boolean(&self, name: &str) -> Option<bool> {
        match self.item(name)?.as_str() {
            "?0" => Some(false),
            "?1" => Some(true),
            _ => None,
        }
    }

    pub(super) fn integer(&self, name: &str) -> Option<u64> {
        let value = self.item(name)?;
        let is_integer =
            (1..=15).contains(&value.len()) && value.bytes().all(|b| b.is_ascii_digit());
        value.parse().ok().filter(|_| is_integer)
    }

    pub(super) fn content_length(&self) -> Option<u64> {
        let length = || self.field("content-length");
        match self.field("transfer-encoding") {
            Some(_) => None,
            None => Some(length().map_or(0, |length| length.parse().unwrap())),
        }
    }

    pub(super) fn expects_continue(&self) -> bool {
        self.field("expect").is_some()
    }
}

/// A connection of HTTP/1.1, or a stream of HTTP/2, which has one request.
pub(super) struct Connection {
    transport: Transport,
    is_head: bool,
}

enum Transport {
    Http1(Http),
    Http2(Exchange),
}

struct Exchange {
    /// `None` after it was read.
    head: Option<Head>,
    body: RecvStream,
    response: SendResponse<Bytes>,
}

/// The time for which unread content is read after a response.
const LINGER: std::time::Duration = std::time::Duration::from_secs(1);

impl Connection {
    pub(super) fn new(stream: TcpStream) -> Self {
        Self {
            transport: Transport::Http1(Http::new(stream)),
            is_head: false,
        }
    }

    pub(super) fn of_stream(
        request: http::Request<RecvStream>,
        response: SendResponse<Bytes>,
    ) -> Self {
        let (parts, body) = request.into_parts();
        let fields = parts.headers.iter().map(|(name, value)| {
            let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
            (name.as_str().to_owned(), value)
        });
        let mut head = Head {
            method: parts.method.to_string(),
            path: parts.uri.path().to_owned(),
            is_http_1_0: false,
            fields: fields.collect(),
        };
        if head.field("content-length").is_none() && !body.is_end_stream() {
            let chunked = ("transfer-encoding".to_owned(), "chunked".to_owned());
            head.fields.push(chunked);
        }
        let exchange = Exchange {
            head: Some(head),
            body,
            response,
        };
        Self {
            transport: Transport::Http2(exchange),
            is_head: false,
        }
    }

    pub(super) const fn is_http2(&self) -> bool {
        matches!(self.transport, Transport::Http2(_))
    }

    pub(super) async fn request(&mut self) -> io::Result<Request> {
        let head = match &mut self.transport {
            Transport::Http1(http) => {
                let head = http.head().await?;
                // The server decides when it sends 100.
                http.expects = false;
                head
            }
            Transport::Http2(exchange) => {
                let head = exchange.head.take();
                head.ok_or(io::ErrorKind::UnexpectedEof)?
            }
        };
        self.is_head = head.method == "HEAD";
        Ok(Request(head))
    }

    /// Returns the next bytes of the content, `None` at its end. Cancel safe.
    pub(super) async fn content(&mut self) -> io::Result<Option<Vec<u8>>> {
        match &mut self.transport {
            Transport::Http1(http) => {
                let piece = http.piece().await?;
                Ok((!piece.is_empty()).then_some(piece))
            }
            Transport::Http2(exchange) => loop {
                let Some(data) = exchange.body.data().await else {
                    return Ok(None);
                };
                let data = data.map_err(io::Error::other)?;
                let _ = exchange.body.flow_control().release_capacity(data.len());
                if !data.is_empty() {
                    return Ok(Some(data.to_vec()));
                }
            },
        }
    }

    /// Sends an interim response.
    pub(super) async fn interim(&mut self, response: &Response) -> io::Result<()> {
        match &mut self.transport {
            Transport::Http1(http) => http.stream.write_all(response.head().as_bytes()).await,
            Transport::Http2(exchange) => {
                let sent = exchange.response.send_informational(head(response));
                sent.map_err(io::Error::other)
            }
        }
    }

    /// Sends the response; returns whether the connection can be used further.
    pub(super) async fn respond(&mut self, response: Response) -> io::Result<bool> {
        let has_content = response.status != 204 && !self.is_head;
        match &mut self.transport {
            Transport::Http1(http) => respond(http, response, has_content).await,
            Transport::Http2(exchange) => {
                let ends = !has_content || response.body.is_empty();
                let sent = exchange.response.send_response(head(&response), ends);
                let mut content = sent.map_err(io::Error::other)?;
                if !ends {
                    let sent = content.send_data(response.body.into(), true);
                    sent.map_err(io::Error::other)?;
                }
                // A reset of the stream could overtake the response.
                let drain = async { while let Ok(Some(_)) = self.content().await {} };
                let _ = tokio::time::timeout(LINGER, drain).await;
                Ok(false)
            }
        }
    }
}

fn head(response: &Response) -> http::Response<()> {
    let mut head = http::Response::builder().status(response.status);
    for (name, value) in &response.fields {
        head = head.header(*name, value);
    }
    head.body(()).unwrap()
}

async fn respond(http: &mut Http, mut response: Response, has_content: bool) -> io::Result<bool> {
    let is_read = http.is_read();
    if !is_read {
        response = response.with("Connection", "close");
    }
    if has_content {
        let length = response.body.len();
        response = response.with("Content-Length", length);
    }
    let mut bytes = response.head().into_bytes();
    if has_content {
        bytes.extend_from_slice(&response.body);
    }
    http.stream.write_all(&bytes).await?;
    if !is_read {
        http.stream.shutdown().await?;
        // Closing with unread data would reset the connection, and the response with it.
        let drain = async { while http.read_more().await.is_ok() {} };
        let _ = tokio::time::timeout(LINGER, drain).await;
    }
    Ok(is_read)
}
