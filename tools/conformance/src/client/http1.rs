//! A connection of HTTP/1.1: its bytes are sent as the check says, and it ends as the check says.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;
use tokio_util::either::Either;

use super::{Client, ClientError, Request, Response};

const MAX_HEAD_BYTES: usize = 64 * 1024;
const MAX_FIELDS: usize = 128;
pub(super) const MAX_BODY_BYTES: usize = 64 * 1024 * 1024;
pub(super) const MAX_INTERIM_RESPONSES: usize = 1000;
const READ_BYTES: usize = 64 * 1024;
pub(super) const WRITE_BYTES: usize = 64 * 1024;

pub(super) type Stream = Either<TcpStream, TlsStream<TcpStream>>;

/// A connection to the server. Dropping it closes it.
pub(crate) struct Http1 {
    stream: Stream,
    client: Client,
    received: Vec<u8>,
    /// Requests whose responses have not been read.
    pending: std::collections::VecDeque<Request>,
}

impl Http1 {
    pub(super) const fn new(stream: Stream, client: Client) -> Self {
        Self {
            stream,
            client,
            received: Vec::new(),
            pending: std::collections::VecDeque::new(),
        }
    }

    /// Records a request, and returns its head.
    fn start(&mut self, request: &Request) -> Vec<u8> {
        let given = self.client.given_fields(&request.url);
        let head = request.head(given);
        self.client.transcript().push(request.transcript(given));
        self.pending.push_back(request.clone());
        head
    }

    /// Sends the head of a request.
    pub(crate) async fn send_head(&mut self, request: &Request) -> Result<(), ClientError> {
        let head = self.start(request);
        self.write(&head).await
    }

    /// Sends bytes as they are.
    pub(super) async fn write(&mut self, bytes: &[u8]) -> Result<(), ClientError> {
        let sent = async {
            self.stream.write_all(bytes).await?;
            self.stream.flush().await
        };
        let sent = timeout(self.client.timeout(), sent).await;
        let sent = sent.map_err(|_| ClientError::Timeout("to accept data"))?;
        sent.map_err(ClientError::Write)
    }

    /// Sends a request and returns the response. The response may come before the request is sent.
    pub(crate) async fn send(&mut self, request: &Request) -> Result<Response, ClientError> {
        let mut bytes = self.start(request);
        bytes.extend(request.encoded_body());
        let mut sent = Ok(());
        for piece in bytes.chunks(WRITE_BYTES) {
            if sent.is_err() || self.has_response() {
                break;
            }
            sent = self.write_or_read(piece).await;
        }
        // A server that has responded may have closed its side: the response matters.
        match (self.response().await, sent) {
            (Ok(response), _) => Ok(response),
            (Err(_), Err(error)) => Err(error),
            (Err(error), Ok(())) => Err(error),
        }
    }

    /// Sends bytes while reading, so that neither side waits for the other.
    async fn write_or_read(&mut self, mut bytes: &[u8]) -> Result<(), ClientError> {
        let Self {
            stream,
            received,
            client,
            ..
        } = self;
        let (mut reader, mut writer) = tokio::io::split(stream);
        let mut buffer = vec![0; READ_BYTES];
        while !bytes.is_empty() {
            let step = async {
                tokio::select! {
                    written = writer.write(bytes) => {
                        let written = written.map_err(ClientError::Write)?;
                        if written == 0 {
                            return Err(ClientError::Write(io::ErrorKind::WriteZero.into()));
                        }
                        bytes = &bytes[written..];
                    }
                    read = reader.read(&mut buffer), if received.len() < MAX_HEAD_BYTES => {
                        let read = read.map_err(ClientError::Read)?;
                        if read == 0 {
                            return Err(ClientError::Closed);
                        }
                        received.extend_from_slice(&buffer[..read]);
                    }
                }
                Ok(())
            };
            let step = timeout(client.timeout(), step).await;
            step.map_err(|_| ClientError::Timeout("to accept data"))??;
            if is_final(received) {
                return Ok(());
            }
        }
        let flushed = timeout(client.timeout(), writer.flush()).await;
        let flushed = flushed.map_err(|_| ClientError::Timeout("to accept data"))?;
        flushed.map_err(ClientError::Write)
    }

    fn has_response(&self) -> bool {
        is_final(&self.received)
    }

    /// Sends a part of the content while reading. Returns false if it is useless: the response is there, or will never be.
    pub(crate) async fn send_part(&mut self, bytes: &[u8]) -> bool {
        !self.has_response() && self.write_or_read(bytes).await.is_ok()
    }

    /// Waits for the response, and leaves it to be read. Returns whether it is there, or will never be.
    pub(crate) async fn has_ended(&mut self, limit: Duration) -> bool {
        let ended = async { while !self.has_response() && self.read_head_part().await {} };
        timeout(limit, ended).await.is_ok()
    }

    /// Waits for an interim response with this status; `None` if another response comes first.
    pub(crate) async fn interim(&mut self, status: u16, limit: Duration) -> Option<Response> {
        let interim = async {
            loop {
                match parse(&self.received) {
                    Ok(Some((length, head))) if is_interim(head.status) => {
                        self.received.drain(..length);
                        self.client.record_head(self.pending.front(), &head);
                        if head.status == status {
                            return Some(head);
                        }
                    }
                    Ok(None) if self.read_head_part().await => {}
                    _ => return None,
                }
            }
        };
        timeout(limit, interim).await.ok().flatten()
    }

    /// Returns whether more of a head of the permitted length arrived.
    async fn read_head_part(&mut self) -> bool {
        self.received.len() < MAX_HEAD_BYTES && self.read_more().await.is_ok()
    }

    /// Reads the response to the oldest request, with its interim responses.
    pub(crate) async fn response(&mut self) -> Result<Response, ClientError> {
        self.response_within(self.client.timeout()).await
    }

    /// Reads the response to the oldest request if it arrives in this time.
    pub(super) async fn response_within(
        &mut self,
        limit: Duration,
    ) -> Result<Response, ClientError> {
        let read = timeout(limit, self.read_response()).await;
        let result = read.unwrap_or(Err(ClientError::Timeout("to respond")));
        let request = self.pending.pop_front();
        self.client.record_end(request.as_ref(), &result);
        result
    }

    /// Reads one head, which may be that of an interim response.
    pub(super) async fn interim_within(
        &mut self,
        limit: Duration,
    ) -> Result<Response, ClientError> {
        let head = timeout(limit, self.read_head()).await;
        let head = head.unwrap_or(Err(ClientError::Timeout("to respond")))?;
        self.client.record_head(self.pending.front(), &head);
        Ok(head)
    }

    async fn read_response(&mut self) -> Result<Response, ClientError> {
        let mut interim = Vec::new();
        let mut response = loop {
            let head = self.read_head().await?;
            if !is_interim(head.status) {
                break head;
            }
            if interim.len() == MAX_INTERIM_RESPONSES {
                return Err(ClientError::Malformed("too many interim responses"));
            }
            interim.push(head);
        };
        response.interim = interim;
        let is_head = self
            .pending
            .front()
            .is_some_and(|request| request.method == "HEAD");
        if !is_head && !matches!(response.status, 204 | 304) {
            response.body = self.read_body(&response).await?;
        }
        Ok(response)
    }

    async fn read_head(&mut self) -> Result<Response, ClientError> {
        loop {
            if let Some((length, head)) = parse(&self.received)? {
                self.received.drain(..length);
                return Ok(head);
            }
            if self.received.len() > MAX_HEAD_BYTES {
                return Err(ClientError::Malformed(
                    "the head of the response is too long",
                ));
            }
            self.read_more().await?;
        }
    }

    async fn read_more(&mut self) -> Result<(), ClientError> {
        let mut buffer = vec![0; READ_BYTES];
        let read = self.stream.read(&mut buffer).await;
        match read.map_err(ClientError::Read)? {
            0 => Err(ClientError::Closed),
            read => {
                self.received.extend_from_slice(&buffer[..read]);
                Ok(())
            }
        }
    }

    async fn read_body(&mut self, head: &Response) -> Result<Vec<u8>, ClientError> {
        let codings = head.list("Transfer-Encoding");
        if codings
            .iter()
            .any(|coding| coding.eq_ignore_ascii_case("chunked"))
        {
            return self.read_chunks().await;
        }
        let Some(length) = head.field("Content-Length") else {
            return self.read_to_end().await;
        };
        let malformed = ClientError::Malformed("the Content-Length of the response");
        let length: usize = length.parse().map_err(|_| malformed)?;
        self.read_exactly(length).await
    }

    async fn read_exactly(&mut self, length: usize) -> Result<Vec<u8>, ClientError> {
        if length > MAX_BODY_BYTES {
            return Err(ClientError::Malformed(
                "the body of the response is too long",
            ));
        }
        while self.received.len() < length {
            self.read_more().await?;
        }
        let rest = self.received.split_off(length);
        Ok(std::mem::replace(&mut self.received, rest))
    }

    async fn read_to_end(&mut self) -> Result<Vec<u8>, ClientError> {
        while self.received.len() <= MAX_BODY_BYTES {
            match self.read_more().await {
                Ok(()) => {}
                Err(ClientError::Closed) => return Ok(std::mem::take(&mut self.received)),
                Err(error) => return Err(error),
            }
        }
        Err(ClientError::Malformed(
            "the body of the response is too long",
        ))
    }

    async fn read_chunks(&mut self) -> Result<Vec<u8>, ClientError> {
        let mut body = Vec::new();
        loop {
            let malformed = ClientError::Malformed("the chunks of the response");
            let (start, size) = match httparse::parse_chunk_size(&self.received) {
                Ok(httparse::Status::Complete(parsed)) => parsed,
                Ok(httparse::Status::Partial) => {
                    self.read_more().await?;
                    continue;
                }
                Err(_) => return Err(malformed),
            };
            let size = usize::try_from(size).map_err(|_| malformed)?;
            self.received.drain(..start);
            if size == 0 {
                return self.read_trailers().await.map(|()| body);
            }
            let chunk = self.read_exactly(size.saturating_add(2)).await?;
            body.extend_from_slice(&chunk[..size]);
            if body.len() > MAX_BODY_BYTES {
                return Err(ClientError::Malformed(
                    "the body of the response is too long",
                ));
            }
        }
    }

    async fn read_trailers(&mut self) -> Result<(), ClientError> {
        loop {
            let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
            match httparse::parse_headers(&self.received, &mut fields) {
                Ok(httparse::Status::Complete((length, _))) => {
                    self.received.drain(..length);
                    return Ok(());
                }
                Ok(httparse::Status::Partial) => self.read_more().await?,
                Err(_) => return Err(ClientError::Malformed("the trailers of the response")),
            }
        }
    }

    /// Closes the sending half: no more data comes, but responses can be read.
    pub(super) async fn half_close(&mut self) -> Result<(), ClientError> {
        self.client
            .transcript()
            .push("> (sending half closed)\n".to_owned());
        self.stream.shutdown().await.map_err(ClientError::Write)
    }

    /// Resets the connection (TCP RST), also with data that is not sent yet.
    pub(super) fn reset(self) {
        self.client
            .transcript()
            .push("> (connection reset)\n".to_owned());
        let socket = match &self.stream {
            Either::Left(plain) => plain,
            Either::Right(tls) => tls.get_ref().0,
        };
        // If it fails, the connection is closed in order, which is an interruption, too.
        let _ = socket.set_zero_linger();
    }

    /// Closes the connection.
    pub(super) fn close(self) {
        self.client
            .transcript()
            .push("> (connection closed)\n".to_owned());
    }
}

pub(super) const fn is_interim(status: u16) -> bool {
    matches!(status, 100..=199) && status != 101
}

/// Returns whether the bytes contain the head of a final response.
fn is_final(received: &[u8]) -> bool {
    let mut rest = received;
    loop {
        match parse(rest) {
            Ok(Some((length, head))) if is_interim(head.status) => rest = &rest[length..],
            Ok(None) => return false,
            _ => return true,
        }
    }
}

fn parse(received: &[u8]) -> Result<Option<(usize, Response)>, ClientError> {
    let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let mut head = httparse::Response::new(&mut fields);
    let malformed = |_| ClientError::Malformed("the head of the response");
    let httparse::Status::Complete(length) = head.parse(received).map_err(malformed)? else {
        return Ok(None);
    };
    let fields = head.headers.iter().map(|field| {
        let value = String::from_utf8_lossy(field.value).into_owned();
        (field.name.to_owned(), value)
    });
    let response = Response {
        status: head.code.unwrap_or_default(),
        reason: head.reason.unwrap_or_default().to_owned(),
        fields: fields.collect(),
        ..Response::default()
    };
    Ok(Some((length, response)))
}
