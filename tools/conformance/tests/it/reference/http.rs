//! HTTP/1.1 for the reference server: as much as the checks need.

use tokio::io::{self, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// The head of a request.
#[derive(Clone, Debug, Default)]
pub(crate) struct Head {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) fields: Vec<(String, String)>,
}

impl Head {
    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        let fields = self.fields.iter();
        let fields = fields.filter(move |(other, _)| other.eq_ignore_ascii_case(name));
        fields.map(|(_, value)| value.as_str())
    }

    pub(crate) fn field<'a>(&'a self, name: &'a str) -> Option<&'a str> {
        self.all(name).next()
    }
}

/// The remaining body of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rest {
    Bytes(u64),
    /// Between chunks.
    Chunks,
    /// In a chunk with this many bytes left.
    Chunk(u64),
    End,
}

/// A response.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) fields: Vec<(&'static str, String)>,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    pub(crate) fn new(status: u16) -> Self {
        Self {
            status,
            ..Self::default()
        }
    }

    pub(crate) fn with(mut self, name: &'static str, value: impl ToString) -> Self {
        self.fields.push((name, value.to_string()));
        self
    }
}

/// A connection, and the request that is read from it.
#[derive(Debug)]
pub(crate) struct Http {
    stream: TcpStream,
    received: Vec<u8>,
    rest: Rest,
    expects: bool,
    pub(crate) trailers: Vec<(String, String)>,
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

impl Http {
    pub(crate) fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            received: Vec::new(),
            rest: Rest::End,
            expects: false,
            trailers: Vec::new(),
        }
    }

    async fn read_more(&mut self) -> io::Result<()> {
        let mut buffer = [0; 32 * 1024];
        match self.stream.read(&mut buffer).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            read => {
                self.received.extend_from_slice(&buffer[..read]);
                Ok(())
            }
        }
    }

    /// Reads the head of the next request. `InvalidData` is a request that is not HTTP.
    pub(crate) async fn head(&mut self) -> io::Result<Head> {
        let head = loop {
            let mut fields = [httparse::EMPTY_HEADER; 64];
            let mut request = httparse::Request::new(&mut fields);
            let parsed = request.parse(&self.received).map_err(|_| invalid("head"))?;
            if let httparse::Status::Complete(length) = parsed {
                let target = request.path.unwrap_or_default();
                let path = match target.strip_prefix("http://") {
                    Some(rest) => rest.find('/').map_or("/", |start| &rest[start..]),
                    None => target,
                };
                let fields = request.headers.iter().map(|field| {
                    let value = String::from_utf8_lossy(field.value).into_owned();
                    (field.name.to_owned(), value)
                });
                let head = Head {
                    method: request.method.unwrap_or_default().to_owned(),
                    path: path.to_owned(),
                    fields: fields.collect(),
                };
                self.received.drain(..length);
                break head;
            }
            self.read_more().await?;
        };
        let lengths: Vec<_> = head.all("Content-Length").collect();
        let is_chunked = head.field("Transfer-Encoding").is_some();
        self.rest = match lengths.as_slice() {
            _ if head.all("Host").count() != 1 => return Err(invalid("Host")),
            [] if is_chunked => Rest::Chunks,
            [] => Rest::End,
            [length] if !is_chunked => {
                Rest::Bytes(length.parse().map_err(|_| invalid("Content-Length"))?)
            }
            _ => return Err(invalid("two lengths")),
        };
        self.expects = head.field("Expect").is_some();
        self.trailers.clear();
        Ok(head)
    }

    /// The bytes of the body, if the request has `Content-Length`.
    pub(crate) fn declared(&self) -> Option<u64> {
        match self.rest {
            Rest::Bytes(length) => Some(length),
            Rest::End => Some(0),
            _ => None,
        }
    }

    /// Reads the next bytes of the body; none at its end. An error is an interruption.
    pub(crate) async fn piece(&mut self) -> io::Result<Vec<u8>> {
        if std::mem::take(&mut self.expects) {
            self.stream
                .write_all(b"HTTP/1.1 100 Continue\r\n\r\n")
                .await?;
        }
        loop {
            match self.rest {
                Rest::End | Rest::Bytes(0) => {
                    self.rest = Rest::End;
                    return Ok(Vec::new());
                }
                Rest::Bytes(left) | Rest::Chunk(left) if !self.received.is_empty() => {
                    let length = self
                        .received
                        .len()
                        .min(usize::try_from(left).unwrap_or(usize::MAX));
                    let rest = self.received.split_off(length);
                    let piece = std::mem::replace(&mut self.received, rest);
                    let left = left - piece.len() as u64;
                    self.rest = match self.rest {
                        Rest::Bytes(_) => Rest::Bytes(left),
                        _ if left > 0 => Rest::Chunk(left),
                        _ => self.chunk_end().await?,
                    };
                    return Ok(piece);
                }
                Rest::Chunks => {
                    let size = httparse::parse_chunk_size(&self.received);
                    match size.map_err(|_| invalid("chunk size"))? {
                        httparse::Status::Complete((start, 0)) => {
                            self.received.drain(..start);
                            self.read_trailers().await?;
                        }
                        httparse::Status::Complete((start, size)) => {
                            self.received.drain(..start);
                            self.rest = Rest::Chunk(size);
                        }
                        httparse::Status::Partial => self.read_more().await?,
                    }
                }
                _ => self.read_more().await?,
            }
        }
    }

    async fn chunk_end(&mut self) -> io::Result<Rest> {
        while self.received.len() < 2 {
            self.read_more().await?;
        }
        self.received.drain(..2);
        Ok(Rest::Chunks)
    }

    async fn read_trailers(&mut self) -> io::Result<()> {
        loop {
            let mut fields = [httparse::EMPTY_HEADER; 16];
            let parsed = httparse::parse_headers(&self.received, &mut fields);
            if let httparse::Status::Complete((length, fields)) =
                parsed.map_err(|_| invalid("trailers"))?
            {
                let fields = fields.iter().map(|field| {
                    let value = String::from_utf8_lossy(field.value).into_owned();
                    (field.name.to_owned(), value)
                });
                self.trailers = fields.collect();
                self.received.drain(..length);
                self.rest = Rest::End;
                return Ok(());
            }
            self.read_more().await?;
        }
    }

    /// Sends a 104, which clients of tus do not know.
    pub(crate) async fn announce(&mut self) -> io::Result<()> {
        let head = b"HTTP/1.1 104 Upload Resumption Supported\r\n\r\n";
        self.stream.write_all(head).await
    }

    /// Sends a response, and then reads the rest of the request. False if the connection ends.
    pub(crate) async fn reply(&mut self, reply: &Reply, is_head: bool) -> io::Result<bool> {
        // The client of a request that is rejected early sends no body.
        let closes = self.expects && self.rest != Rest::End;
        let mut head = format!("HTTP/1.1 {} Reference\r\n", reply.status);
        for (name, value) in &reply.fields {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if reply.status != 204 {
            head.push_str(&format!("Content-Length: {}\r\n", reply.body.len()));
        }
        if closes {
            head.push_str("Connection: close\r\n");
        }
        head.push_str("\r\n");
        self.stream.write_all(head.as_bytes()).await?;
        if !is_head {
            self.stream.write_all(&reply.body).await?;
        }
        if closes {
            return Ok(false);
        }
        while self.rest != Rest::End {
            self.piece().await?;
        }
        Ok(true)
    }
}
