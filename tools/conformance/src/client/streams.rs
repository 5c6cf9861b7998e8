//! A connection of HTTP/2 or HTTP/3, whose requests have a stream each.
//!
//! Checks write content as over HTTP/1.1: chunks that they encode are decoded here, since these versions have frames.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use tokio::time::{sleep, timeout};

use super::http1::{MAX_INTERIM_RESPONSES, WRITE_BYTES, is_interim};
use super::http2;
#[cfg(feature = "http3")]
use super::http3;
use super::{Client, ClientError, Content, Request, Response};

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

/// Opens streams.
pub(super) enum Opener {
    Http2(http2::Opener),
    #[cfg(feature = "http3")]
    Http3(http3::Opener),
}

/// The sending side of a stream.
pub(super) enum Sender {
    Http2(http2::Sender),
    #[cfg(feature = "http3")]
    Http3(Box<http3::Sender>),
}

/// The receiving side of a stream.
pub(super) enum Receiver {
    Http2(http2::Receiver),
    #[cfg(feature = "http3")]
    Http3(http3::Receiver),
}

/// A connection, and the streams whose responses have not been read.
pub(crate) struct Streams {
    client: Client,
    opener: Opener,
    pending: VecDeque<Pending>,
}

struct Pending {
    request: Request,
    sender: Sender,
    receiver: Receiver,
    framing: Framing,
    /// Heads that arrived while content was sent.
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
    pub(super) fn new(client: Client, opener: Opener) -> Self {
        Self {
            client,
            opener,
            pending: VecDeque::new(),
        }
    }

    pub(super) async fn send_head(&mut self, request: &Request) -> Result<(), ClientError> {
        let given = self.client.given_fields(&request.url);
        let head = head(request, given)?;
        self.client.transcript().push(request.transcript(given));
        let framing = match &request.content {
            Content::None | Content::Declared(0) => Framing::Ended,
            Content::Bytes(bytes) if bytes.is_empty() => Framing::Ended,
            Content::Bytes(bytes) => Framing::Length(bytes.len() as u64),
            Content::Declared(length) => Framing::Length(*length),
            Content::Chunked(..) | Content::DeclaredChunked => Framing::Chunks(Vec::new()),
        };
        let ends = matches!(framing, Framing::Ended);
        let opened = timeout(self.client.timeout(), self.opener.open(head, ends)).await;
        let (sender, receiver) =
            opened.map_err(|_| ClientError::Timeout("to accept a request"))??;
        self.pending.push_back(Pending {
            request: request.clone(),
            sender,
            receiver,
            framing,
            heads: VecDeque::new(),
        });
        Ok(())
    }

    pub(super) async fn write(&mut self, bytes: &[u8]) -> Result<(), ClientError> {
        if bytes.is_empty() {
            return Ok(());
        }
        let newest = self.pending.back_mut();
        let newest = newest.ok_or(ClientError::NeedsHttp1("a request as text"))?;
        let sent = timeout(self.client.timeout(), newest.write(bytes)).await;
        sent.map_err(|_| ClientError::Timeout("to accept data"))?
    }

    pub(super) async fn send(&mut self, request: &Request) -> Result<Response, ClientError> {
        self.send_head(request).await?;
        let body = request.encoded_body();
        let mut sent = Ok(());
        for piece in body.chunks(WRITE_BYTES) {
            let Some(newest) = self.pending.back_mut() else {
                break;
            };
            if sent.is_err() || newest.has_response() {
                break;
            }
            let step = timeout(self.client.timeout(), newest.write_or_read(piece)).await;
            sent = step.unwrap_or(Err(ClientError::Timeout("to accept data")));
        }
        // A server that has responded may have ended the stream: the response matters.
        match (self.response().await, sent) {
            (Ok(response), _) => Ok(response),
            (Err(_), Err(error)) => Err(error),
            (Err(error), Ok(())) => Err(error),
        }
    }

    pub(super) async fn response(&mut self) -> Result<Response, ClientError> {
        self.response_within(self.client.timeout()).await
    }

    pub(super) async fn response_within(
        &mut self,
        limit: Duration,
    ) -> Result<Response, ClientError> {
        let read = async {
            match self.pending.front_mut() {
                Some(oldest) => oldest.response().await,
                None => std::future::pending().await,
            }
        };
        let read = timeout(limit, read).await;
        let result = read.unwrap_or(Err(ClientError::Timeout("to respond")));
        let oldest = self.pending.pop_front();
        let request = oldest.as_ref().map(|oldest| &oldest.request);
        self.client.record_end(request, &result);
        result
    }

    pub(super) async fn interim_within(
        &mut self,
        limit: Duration,
    ) -> Result<Response, ClientError> {
        let read = async {
            match self.pending.front_mut() {
                Some(oldest) => oldest.head().await,
                None => std::future::pending().await,
            }
        };
        let head = timeout(limit, read).await;
        let head = head.unwrap_or(Err(ClientError::Timeout("to respond")))?;
        let request = self.pending.front().map(|oldest| &oldest.request);
        self.client.record_head(request, &head);
        Ok(head)
    }

    pub(super) fn reset(self) {
        self.client
            .transcript()
            .push("> (streams reset)\n".to_owned());
        self.end();
    }

    pub(super) fn close(self) {
        self.client
            .transcript()
            .push("> (connection closed)\n".to_owned());
        self.end();
    }

    /// Resets all streams, and then closes the connection.
    fn end(mut self) {
        for pending in &mut self.pending {
            pending.sender.reset();
        }
        tokio::spawn(async move {
            sleep(RESET_DURATION).await;
            drop(self);
        });
    }
}

impl Pending {
    fn has_response(&self) -> bool {
        self.heads.iter().any(|head| !is_interim(head.status))
    }

    /// Sends content while reading, so that neither side waits for the other.
    async fn write_or_read(&mut self, bytes: &[u8]) -> Result<(), ClientError> {
        let Self {
            sender,
            receiver,
            framing,
            heads,
            ..
        } = self;
        let mut sent = std::pin::pin!(write(sender, framing, bytes));
        loop {
            tokio::select! {
                sent = &mut sent => return sent,
                head = receiver.head() => {
                    let head = head?;
                    let is_final = !is_interim(head.status);
                    heads.push_back(head);
                    if is_final {
                        return Ok(());
                    }
                }
            }
        }
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<(), ClientError> {
        write(&mut self.sender, &mut self.framing, bytes).await
    }

    async fn head(&mut self) -> Result<Response, ClientError> {
        match self.heads.pop_front() {
            Some(head) => Ok(head),
            None => self.receiver.head().await,
        }
    }

    async fn response(&mut self) -> Result<Response, ClientError> {
        let mut interim = Vec::new();
        loop {
            let mut head = self.head().await?;
            if is_interim(head.status) {
                if interim.len() == MAX_INTERIM_RESPONSES {
                    return Err(ClientError::Malformed("too many interim responses"));
                }
                interim.push(head);
                continue;
            }
            head.interim = interim;
            head.body = self.receiver.body().await?;
            return Ok(head);
        }
    }
}

/// Sends content of a request, and ends the stream with its last byte.
async fn write(
    sender: &mut Sender,
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

impl Opener {
    async fn open(
        &mut self,
        head: http::Request<()>,
        ends: bool,
    ) -> Result<(Sender, Receiver), ClientError> {
        match self {
            Self::Http2(opener) => {
                let (sender, receiver) = opener.open(head, ends).await?;
                Ok((Sender::Http2(sender), Receiver::Http2(receiver)))
            }
            #[cfg(feature = "http3")]
            Self::Http3(opener) => {
                let (sender, receiver) = opener.open(head, ends).await?;
                Ok((Sender::Http3(Box::new(sender)), Receiver::Http3(receiver)))
            }
        }
    }
}

impl Sender {
    async fn send(&mut self, data: Bytes, ends: bool) -> Result<(), ClientError> {
        match self {
            Self::Http2(sender) => sender.send(data, ends).await,
            #[cfg(feature = "http3")]
            Self::Http3(sender) => sender.send(data, ends).await,
        }
    }

    async fn finish(&mut self, trailers: HeaderMap) -> Result<(), ClientError> {
        match self {
            Self::Http2(sender) => sender.finish(trailers),
            #[cfg(feature = "http3")]
            Self::Http3(sender) => sender.finish(trailers).await,
        }
    }

    fn reset(&mut self) {
        match self {
            Self::Http2(sender) => sender.reset(),
            #[cfg(feature = "http3")]
            Self::Http3(sender) => sender.reset(),
        }
    }
}

impl Receiver {
    /// Returns the head of the next response. Cancel safe.
    async fn head(&mut self) -> Result<Response, ClientError> {
        match self {
            Self::Http2(receiver) => receiver.head().await,
            #[cfg(feature = "http3")]
            Self::Http3(receiver) => receiver.head().await,
        }
    }

    async fn body(&mut self) -> Result<Vec<u8>, ClientError> {
        match self {
            Self::Http2(receiver) => receiver.body().await,
            #[cfg(feature = "http3")]
            Self::Http3(receiver) => receiver.body().await,
        }
    }
}
