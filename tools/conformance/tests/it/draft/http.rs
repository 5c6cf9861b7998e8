//! HTTP/1.1 of the reference server: requests with their content in pieces, responses and interim responses.

use std::io;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const MAX_HEAD: usize = 64 * 1024;
const READ: usize = 64 * 1024;

pub(super) struct Request {
    pub(super) method: String,
    pub(super) path: String,
    pub(super) is_http_1_0: bool,
    fields: Vec<(String, String)>,
}

impl Request {
    /// Returns all lines of a field, joined.
    pub(super) fn field(&self, name: &str) -> Option<String> {
        let lines = self.fields.iter().filter(|(other, _)| other == name);
        let lines: Vec<_> = lines.map(|(_, value)| value.as_str()).collect();
        (!lines.is_empty()).then(|| lines.join(", "))
    }

    /// Returns the value of an Item without its parameters.
    fn item(&self, name: &str) -> Option<String> {
        let value = self.field(name)?;
        Some(
            value
                .split(';')
                .next()
                .unwrap_or_default()
                .trim()
                .to_owned(),
        )
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
        match self.is_chunked() {
            true => None,
            false => Some(
                self.field("content-length")
                    .map_or(0, |length| length.parse().unwrap()),
            ),
        }
    }

    fn is_chunked(&self) -> bool {
        self.field("transfer-encoding").is_some()
    }

    pub(super) fn expects_continue(&self) -> bool {
        self.field("expect").is_some()
    }
}

pub(super) struct Response {
    pub(super) status: u16,
    pub(super) fields: Vec<(&'static str, String)>,
    pub(super) body: String,
}

impl Response {
    pub(super) const fn new(status: u16) -> Self {
        Self {
            status,
            fields: Vec::new(),
            body: String::new(),
        }
    }

    pub(super) fn field(mut self, name: &'static str, value: impl ToString) -> Self {
        self.fields.push((name, value.to_string()));
        self
    }

    pub(super) fn without(mut self, name: &str) -> Self {
        self.fields.retain(|(other, _)| *other != name);
        self
    }
}

/// What remains of the content of the current request.
#[derive(Clone, Copy)]
enum Rest {
    Bytes(u64),
    /// Bytes of the current chunk; `None` before its size.
    Chunks(Option<u64>),
    End,
}

pub(super) struct Connection {
    stream: TcpStream,
    received: Vec<u8>,
    rest: Rest,
    is_head: bool,
}

impl Connection {
    pub(super) const fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            received: Vec::new(),
            rest: Rest::End,
            is_head: false,
        }
    }

    async fn read_more(&mut self) -> io::Result<()> {
        let mut buffer = vec![0; READ];
        match self.stream.read(&mut buffer).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            read => {
                self.received.extend_from_slice(&buffer[..read]);
                Ok(())
            }
        }
    }

    pub(super) async fn request(&mut self) -> io::Result<Request> {
        loop {
            let mut fields = [httparse::EMPTY_HEADER; 64];
            let mut head = httparse::Request::new(&mut fields);
            let parsed = head.parse(&self.received).map_err(io::Error::other)?;
            if let httparse::Status::Complete(length) = parsed {
                let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
                let request = Request {
                    method: head.method.unwrap().to_owned(),
                    path: head.path.unwrap().to_owned(),
                    is_http_1_0: head.version == Some(0),
                    fields: head
                        .headers
                        .iter()
                        .map(|field| (field.name.to_ascii_lowercase(), text(field.value)))
                        .collect(),
                };
                self.received.drain(..length);
                self.is_head = request.method == "HEAD";
                self.rest = match request.content_length() {
                    None => Rest::Chunks(None),
                    Some(0) => Rest::End,
                    Some(length) => Rest::Bytes(length),
                };
                return Ok(request);
            }
            assert!(self.received.len() < MAX_HEAD, "the head is too long");
            self.read_more().await?;
        }
    }

    /// Returns the next bytes of the content, `None` at its end. Cancel safe.
    pub(super) async fn content(&mut self) -> io::Result<Option<Vec<u8>>> {
        loop {
            let available = self.received.len() as u64;
            match self.rest {
                Rest::End => return Ok(None),
                Rest::Bytes(rest) | Rest::Chunks(Some(rest)) if rest > 0 && available > 0 => {
                    let size = rest.min(available);
                    let piece = self
                        .received
                        .drain(..usize::try_from(size).unwrap())
                        .collect();
                    self.rest = match self.rest {
                        Rest::Bytes(_) if rest == size => Rest::End,
                        Rest::Bytes(_) => Rest::Bytes(rest - size),
                        _ => Rest::Chunks(Some(rest - size)),
                    };
                    return Ok(Some(piece));
                }
                Rest::Chunks(Some(0)) if available >= 2 => {
                    self.received.drain(..2);
                    self.rest = Rest::Chunks(None);
                }
                Rest::Chunks(None) => {
                    let parsed = httparse::parse_chunk_size(&self.received);
                    match parsed.map_err(|_| io::ErrorKind::InvalidData)? {
                        // The end of a body without trailers.
                        httparse::Status::Complete((start, 0))
                            if self.received.len() >= start + 2 =>
                        {
                            self.received.drain(..start + 2);
                            self.rest = Rest::End;
                        }
                        httparse::Status::Complete((start, size)) if size > 0 => {
                            self.received.drain(..start);
                            self.rest = Rest::Chunks(Some(size));
                        }
                        _ => self.read_more().await?,
                    }
                }
                _ => self.read_more().await?,
            }
        }
    }

    /// Sends an interim response.
    pub(super) async fn interim(&mut self, response: &Response) -> io::Result<()> {
        self.stream.write_all(head(response).as_bytes()).await
    }

    /// Sends the response; returns whether the connection can be used further.
    pub(super) async fn respond(&mut self, response: Response) -> io::Result<bool> {
        let is_read = matches!(self.rest, Rest::End);
        let mut response = response;
        if !is_read {
            response = response.field("Connection", "close");
        }
        if response.status != 204 && !self.is_head {
            let length = response.body.len();
            response = response.field("Content-Length", length);
        }
        let mut text = head(&response);
        if response.status != 204 && !self.is_head {
            text.push_str(&response.body);
        }
        self.stream.write_all(text.as_bytes()).await?;
        if !is_read {
            self.stream.shutdown().await?;
            // Closing with unread data would reset the connection, and the response with it.
            let drain = async { while self.read_more().await.is_ok() {} };
            let _ = tokio::time::timeout(std::time::Duration::from_secs(1), drain).await;
        }
        Ok(is_read)
    }
}

fn head(response: &Response) -> String {
    let mut text = format!("HTTP/1.1 {} Status\r\n", response.status);
    for (name, value) in &response.fields {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text + "\r\n"
}
