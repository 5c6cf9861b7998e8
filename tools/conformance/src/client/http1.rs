//! The connection of HTTP/1.1: bytes are sent as the check says.

use std::io;
use std::time::Duration;

use async_trait::async_trait;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;
use tokio_util::either::Either;

use super::connection::{MAX_BODY_BYTES, RawConnection, TOO_LONG, is_interim};
use super::{ClientError, Request, Response};

const MAX_HEAD_BYTES: usize = 64 * 1024;
const MAX_FIELDS: usize = 128;
const READ_BYTES: usize = 64 * 1024;

pub(super) type Stream = Either<TcpStream, TlsStream<TcpStream>>;

pub(super) struct Http1 {
    stream: Stream,
    received: Vec<u8>,
}

#[async_trait]
impl RawConnection for Http1 {
    async fn start(
        &mut self,
        request: &Request,
        given: &[(String, String)],
    ) -> Result<Vec<u8>, ClientError> {
        Ok(request.head(given))
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<(), ClientError> {
        let sent = async {
            self.stream.write_all(bytes).await?;
            self.stream.flush().await
        };
        sent.await.map_err(ClientError::Write)
    }

    async fn write_or_read(
        &mut self,
        mut bytes: &[u8],
        limit: Duration,
    ) -> Result<(), ClientError> {
        let (mut reader, mut writer) = tokio::io::split(&mut self.stream);
        let received = &mut self.received;
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
            let step = timeout(limit, step).await;
            step.map_err(|_| ClientError::Timeout("to accept data"))??;
            if is_final(received) {
                return Ok(());
            }
        }
        let flushed = timeout(limit, writer.flush()).await;
        let flushed = flushed.map_err(|_| ClientError::Timeout("to accept data"))?;
        flushed.map_err(ClientError::Write)
    }

    fn has_response(&self) -> bool {
        is_final(&self.received)
    }

    fn take_head(&mut self, only_interim: bool) -> Result<Option<Response>, ClientError> {
        let parsed = parse(&self.received)?;
        let parsed = parsed.filter(|(_, head)| !only_interim || is_interim(head.status));
        Ok(parsed.map(|(length, head)| {
            self.received.drain(..length);
            head
        }))
    }

    async fn receive(&mut self) -> Result<(), ClientError> {
        if self.received.len() > MAX_HEAD_BYTES {
            let reason = "the head of the response is too long";
            return Err(ClientError::Malformed(reason));
        }
        self.read_more().await
    }

    async fn body(&mut self, head: &Response, has_body: bool) -> Result<Vec<u8>, ClientError> {
        match has_body {
            true => self.read_body(head).await,
            false => Ok(Vec::new()),
        }
    }

    async fn half_close(&mut self) -> Result<(), ClientError> {
        self.stream.shutdown().await.map_err(ClientError::Write)
    }

    fn end(self: Box<Self>, resets: bool) {
        let socket = match &self.stream {
            Either::Left(plain) => plain,
            Either::Right(tls) => tls.get_ref().0,
        };
        if resets {
            // If it fails, the connection is closed in order, which is an interruption, too.
            let _ = socket.set_zero_linger();
        }
    }
}

impl Http1 {
    pub(super) const fn new(stream: Stream) -> Self {
        Self {
            stream,
            received: Vec::new(),
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
            return Err(TOO_LONG);
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
        Err(TOO_LONG)
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
                return Err(TOO_LONG);
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
