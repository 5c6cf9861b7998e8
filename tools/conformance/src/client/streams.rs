//! The connection of HTTP/2 and HTTP/3: a stream for each request.
//!
//! Checks write content as over HTTP/1.1: chunks that they encode are decoded here, since these versions have frames.

use std::collections::VecDeque;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use tokio::time::{sleep, timeout};

use super::connection::{RawConnection, is_interim};
use super::{ClientError, Content, Request, Response};

/// Fields that are those of a connection of HTTP/1.1.
const CONNECTION_FIELDS: [&str; 5] = [
    "connection",
    "host",
    "keep-alive",
    "transfer-encoding",
    "upgrade",
];
/// In this time, the reset of a stream is sent.
const RESET_DURATION: Duration = Duration::from_millis(50);
const MAX_TRAILERS: usize = 16;

/// The two sides of a stream.
pub(super) type Sides = (Box<dyn Sender>, Box<dyn Receiver>);

/// Opens streams.
#[async_trait]
pub(super) trait Opener: Send {
    async fn open(&mut self, head: http::Request<()>, ends: bool) -> Result<Sides, ClientError>;
}

/// The sending side of a stream.
#[async_trait]
pub(super) trait Sender: Send {
    async fn send(&mut self, data: Bytes, ends: bool) -> Result<(), ClientError>;
    async fn finish(&mut self, trailers: HeaderMap) -> Result<(), ClientError>;
    fn reset(&mut self);
}

/// The receiving side of a stream.
#[async_trait]
pub(super) trait Receiver: Send {
    /// Returns the head of the next response. Cancel safe.
    async fn head(&mut self) -> Result<Response, ClientError>;
    async fn body(&mut self) -> Result<Vec<u8>, ClientError>;
}

/// The streams of a connection, one after the other.
pub(super) struct Streams {
    opener: Box<dyn Opener>,
    /// The stream of the newest request, until its response is read.
    newest: Option<Exchange>,
}

struct Exchange {
    sender: Box<dyn Sender>,
    receiver: Box<dyn Receiver>,
    framing: Framing,
    /// Heads that have arrived.
    heads: VecDeque<Response>,
}

/// The content that a request still has to send.
enum Framing {
    Ended,
    Length(u64),
    /// Encoded chunks that are not decoded yet.
    Chunks(Vec<u8>),
}

impl Streams {
    pub(super) fn new(opener: impl Opener + 'static) -> Self {
        Self {
            opener: Box::new(opener),
            newest: None,
        }
    }
}

#[async_trait]
impl RawConnection for Streams {
    async fn start(
        &mut self,
        request: &Request,
        given: &[(String, String)],
    ) -> Result<Vec<u8>, ClientError> {
        let framing = match &request.content {
            Content::None | Content::Declared(0) => Framing::Ended,
            Content::Bytes(bytes) if bytes.is_empty() => Framing::Ended,
            Content::Bytes(bytes) => Framing::Length(bytes.len() as u64),
            Content::Declared(length) => Framing::Length(*length),
            Content::Chunked(..) | Content::DeclaredChunked => Framing::Chunks(Vec::new()),
        };
        let ends = matches!(framing, Framing::Ended);
        let (sender, receiver) = self.opener.open(head(request, given)?, ends).await?;
        self.newest = Some(Exchange {
            sender,
            receiver,
            framing,
            heads: VecDeque::new(),
        });
        Ok(Vec::new())
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<(), ClientError> {
        if bytes.is_empty() {
            return Ok(());
        }
        let newest = self.newest.as_mut();
        let newest = newest.ok_or(ClientError::NeedsHttp1("a request as text"))?;
        write(&mut *newest.sender, &mut newest.framing, bytes).await
    }

    async fn write_or_read(&mut self, bytes: &[u8], limit: Duration) -> Result<(), ClientError> {
        let newest = self.newest.as_mut();
        let newest = newest.ok_or(ClientError::NeedsHttp1("a request as text"))?;
        let sent = async {
            let mut sent = std::pin::pin!(write(&mut *newest.sender, &mut newest.framing, bytes));
            loop {
                tokio::select! {
                    sent = &mut sent => return sent,
                    head = newest.receiver.head() => {
                        let head = head?;
                        let is_final = !is_interim(head.status);
                        newest.heads.push_back(head);
                        if is_final {
                            return Ok(());
                        }
                    }
                }
            }
        };
        let sent = timeout(limit, sent).await;
        sent.map_err(|_| ClientError::Timeout("to accept data"))?
    }

    fn has_response(&self) -> bool {
        let mut heads = self.newest.iter().flat_map(|newest| &newest.heads);
        heads.any(|head| !is_interim(head.status))
    }

    fn take_head(&mut self, only_interim: bool) -> Result<Option<Response>, ClientError> {
        Ok(self.newest.as_mut().and_then(|newest| {
            let can_take = |head: &mut Response| !only_interim || is_interim(head.status);
            newest.heads.pop_front_if(can_take)
        }))
    }

    async fn receive(&mut self) -> Result<(), ClientError> {
        let Some(newest) = &mut self.newest else {
            return std::future::pending().await;
        };
        let head = newest.receiver.head().await?;
        newest.heads.push_back(head);
        Ok(())
    }

    async fn body(&mut self, _head: &Response, _has_body: bool) -> Result<Vec<u8>, ClientError> {
        match self.newest.take() {
            Some(mut newest) => newest.receiver.body().await,
            None => Ok(Vec::new()),
        }
    }

    async fn half_close(&mut self) -> Result<(), ClientError> {
        Err(ClientError::NeedsHttp1("a connection closed by half"))
    }

    /// Resets the stream, and then closes the connection.
    fn end(mut self: Box<Self>, _resets: bool) {
        if let Some(newest) = &mut self.newest {
            newest.sender.reset();
        }
        tokio::spawn(async move {
            sleep(RESET_DURATION).await;
            drop(self);
        });
    }
}

/// Sends content of a request, and ends the stream with its last byte.
async fn write(
    sender: &mut dyn Sender,
    framing: &mut Framing,
    bytes: &[u8],
) -> Result<(), ClientError> {
    let raw = match framing {
        Framing::Ended => return Err(ClientError::NeedsHttp1("content after its end")),
        Framing::Length(rest) => {
            let sent = bytes.len() as u64;
            *rest = rest
                .checked_sub(sent)
                .ok_or(ClientError::NeedsHttp1("content beyond its length"))?;
            let ends = *rest == 0;
            sender.send(Bytes::copy_from_slice(bytes), ends).await?;
            if ends {
                *framing = Framing::Ended;
            }
            return Ok(());
        }
        Framing::Chunks(raw) => raw,
    };
    raw.extend_from_slice(bytes);
    let malformed = ClientError::NeedsHttp1("a malformed chunk");
    loop {
        let (start, size) = match httparse::parse_chunk_size(raw) {
            Ok(httparse::Status::Complete(parsed)) => parsed,
            Ok(httparse::Status::Partial) => return Ok(()),
            Err(_) => return Err(malformed),
        };
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        if size == 0 {
            let mut fields = [httparse::EMPTY_HEADER; MAX_TRAILERS];
            let trailers = match httparse::parse_headers(&raw[start..], &mut fields) {
                Ok(httparse::Status::Complete((_, fields))) => {
                    let pairs = fields.iter().map(|field| (field.name, field.value));
                    map(pairs)?
                }
                Ok(httparse::Status::Partial) => return Ok(()),
                Err(_) => return Err(malformed),
            };
            *framing = Framing::Ended;
            return sender.finish(trailers).await;
        }
        // Bytes of a chunk that have arrived are sent at once.
        let available = raw.len().saturating_sub(start).min(size);
        if available == 0 {
            return Ok(());
        }
        let data = Bytes::copy_from_slice(&raw[start..start + available]);
        if available < size {
            let rest = format!("{:x}\r\n", size - available).into_bytes();
            *raw = rest;
            return sender.send(data, false).await;
        }
        let end = start + size;
        if raw.len() < end + 2 {
            // The end of the line arrives later.
            return Ok(());
        }
        raw.drain(..end + 2);
        sender.send(data, false).await?;
        if raw.is_empty() {
            return Ok(());
        }
    }
}

fn map<'a>(fields: impl Iterator<Item = (&'a str, &'a [u8])>) -> Result<HeaderMap, ClientError> {
    let mut map = HeaderMap::new();
    for (name, value) in fields {
        let name = HeaderName::from_bytes(name.to_ascii_lowercase().as_bytes());
        let value = HeaderValue::from_bytes(value);
        let (Ok(name), Ok(value)) = (name, value) else {
            return Err(ClientError::NeedsHttp1("an invalid field"));
        };
        map.append(name, value);
    }
    Ok(map)
}

/// Returns the head of a request, without the fields of HTTP/1.1.
fn head(request: &Request, given: &[(String, String)]) -> Result<http::Request<()>, ClientError> {
    if request.is_http_1_0() {
        return Err(ClientError::NeedsHttp1("a request of HTTP/1.0"));
    }
    let has_own_framing = request.has("Transfer-Encoding")
        || request
            .fields
            .iter()
            .filter(|(name, _)| name.eq_ignore_ascii_case("Content-Length"))
            .count()
            > 1;
    if has_own_framing {
        return Err(ClientError::NeedsHttp1("the framing of HTTP/1.1"));
    }
    let framing = request.framing();
    let fields = request.fields.iter().chain(given).chain(framing.as_ref());
    let fields = fields.filter(|(name, _)| {
        !CONNECTION_FIELDS
            .iter()
            .any(|other| other.eq_ignore_ascii_case(name))
    });
    let invalid = |_| ClientError::NeedsHttp1("an invalid request line");
    let uri = Uri::try_from(request.url.as_str()).map_err(invalid)?;
    let mut head = http::Request::new(());
    *head.method_mut() = Method::from_bytes(request.method.as_bytes())
        .map_err(|_| ClientError::NeedsHttp1("an invalid method"))?;
    *head.uri_mut() = uri;
    *head.headers_mut() = map(fields.map(|(name, value)| (name.as_str(), value.as_bytes())))?;
    Ok(head)
}
