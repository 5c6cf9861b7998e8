//! HTTP/1.1 for the reference servers: as much as the checks need.

use tokio::io::{self, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// The head of a request.
#[derive(Clone, Debug, Default)]
pub(crate) struct Head {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) is_http_1_0: bool,
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
    /// Bytes of the current chunk; `None` before its size.
    Chunks(Option<u64>),
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

    pub(crate) fn without(mut self, name: &str) -> Self {
        self.fields.retain(|(other, _)| *other != name);
        self
    }

    pub(crate) fn head(&self) -> String {
        let mut head = format!("HTTP/1.1 {} Reference\r\n", self.status);
        for (name, value) in &self.fields {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head + "\r\n"
    }
}

/// A connection, and the request that is read from it.
#[derive(Debug)]
pub(crate) struct Http {
    pub(crate) stream: TcpStream,
    received: Vec<u8>,
    rest: Rest,
    /// Whether the client waits for 100, which is sent when a piece of the body is read.
    pub(crate) expects: bool,
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

    pub(crate) async fn read_more(&mut self) -> io::Result<()> {
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
                    is_http_1_0: request.version == Some(0),
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
            [] if is_chunked => Rest::Chunks(None),
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

    /// Whether all of the body has been read.
    pub(crate) fn is_read(&self) -> bool {
        matches!(self.rest, Rest::End | Rest::Bytes(0))
    }

    /// Reads the next bytes of the body; none at its end. An error is an interruption. Cancel safe.
    pub(crate) async fn piece(&mut self) -> io::Result<Vec<u8>> {
        if std::mem::take(&mut self.expects) {
            self.stream
                .write_all(b"HTTP/1.1 100 Continue\r\n\r\n")
                .await?;
        }
        loop {
            let available = self.received.len() as u64;
            match self.rest {
                Rest::End | Rest::Bytes(0) => {
                    self.rest = Rest::End;
                    return Ok(Vec::new());
                }
                Rest::Bytes(rest) | Rest::Chunks(Some(rest)) if rest > 0 && available > 0 => {
                    let size = rest.min(available);
                    let end = usize::try_from(size).unwrap();
                    let piece = self.received.drain(..end).collect();
                    self.rest = match self.rest {
                        Rest::Bytes(_) if rest == size => Rest::End,
                        Rest::Bytes(_) => Rest::Bytes(rest - size),
                        _ => Rest::Chunks(Some(rest - size)),
                    };
                    return Ok(piece);
                }
                Rest::Chunks(Some(0)) if available >= 2 => {
                    self.received.drain(..2);
                    self.rest = Rest::Chunks(None);
                }
                Rest::Chunks(None) => {
                    let size = httparse::parse_chunk_size(&self.received);
                    match size.map_err(|_| invalid("chunk size"))? {
                        httparse::Status::Complete((start, 0)) => {
                            if !self.take_trailers(start)? {
                                self.read_more().await?;
                            }
                        }
                        httparse::Status::Complete((start, size)) => {
                            self.received.drain(..start);
                            self.rest = Rest::Chunks(Some(size));
                        }
                        httparse::Status::Partial => self.read_more().await?,
                    }
                }
                _ => self.read_more().await?,
            }
        }
    }

    /// Takes the trailers after the last chunk. False if some of them have not arrived.
    fn take_trailers(&mut self, start: usize) -> io::Result<bool> {
        let mut fields = [httparse::EMPTY_HEADER; 16];
        let parsed = httparse::parse_headers(&self.received[start..], &mut fields);
        let httparse::Status::Complete((length, fields)) =
            parsed.map_err(|_| invalid("trailers"))?
        else {
            return Ok(false);
        };
        let fields = fields.iter().map(|field| {
            let value = String::from_utf8_lossy(field.value).into_owned();
            (field.name.to_owned(), value)
        });
        self.trailers = fields.collect();
        self.received.drain(..start + length);
        self.rest = Rest::End;
        Ok(true)
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
        let mut with_length = reply.clone();
        if reply.status != 204 {
            with_length = with_length.with("Content-Length", reply.body.len());
        }
        if closes {
            with_length = with_length.with("Connection", "close");
        }
        let head = with_length.head();
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
