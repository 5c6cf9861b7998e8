//! A small HTTP/1.1 client over one kept-alive connection: as little work as the measured server
//! leaves it, because it runs on the same processors.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// How long a server may keep a connection waiting before the run counts as failed.
const PATIENCE: Duration = Duration::from_secs(600);
/// Size of the receive buffer; a reply head that doesn't fit is an error.
const INBOX: usize = 64 << 10;

/// What went wrong, in words for the report.
pub(crate) type Fault = String;

/// The part of a reply that the benchmark looks at.
#[derive(Debug, Default)]
pub(crate) struct Reply {
    /// The status code.
    pub(crate) status: u16,
    /// `Upload-Offset`.
    pub(crate) offset: Option<u64>,
    /// `Location`.
    pub(crate) location: Option<String>,
    /// `Tus-Extension`.
    pub(crate) extensions: Option<String>,
    /// `ETag`.
    pub(crate) etag: Option<String>,
    /// `Content-Length`.
    pub(crate) length: Option<u64>,
    chunked: bool,
    close: bool,
}

impl Reply {
    /// Fails unless the status is one of `wanted`.
    pub(crate) fn expect(&self, request: &str, wanted: &[u16]) -> Result<(), Fault> {
        if wanted.contains(&self.status) {
            return Ok(());
        }
        Err(format!(
            "{request} answered {}, expected {wanted:?}",
            self.status
        ))
    }
}

/// A connection to the server that is measured.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    address: SocketAddr,
    inbox: Box<[u8]>,
    /// What was received and not yet looked at is `inbox[taken..filled]`.
    taken: usize,
    filled: usize,
    /// The server said it closes after the last reply; the next request needs a new connection.
    closed: bool,
}

impl Connection {
    /// Connects.
    pub(crate) fn open(address: SocketAddr) -> Result<Self, Fault> {
        let stream = Self::dial(address)?;
        let inbox = vec![0; INBOX].into_boxed_slice();
        Ok(Self {
            stream,
            address,
            inbox,
            taken: 0,
            filled: 0,
            closed: false,
        })
    }

    fn dial(address: SocketAddr) -> Result<TcpStream, Fault> {
        let dial = || -> io::Result<TcpStream> {
            let stream = TcpStream::connect(address)?;
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.set_write_timeout(Some(PATIENCE))?;
            Ok(stream)
        };
        dial().map_err(|error| format!("connect: {error}"))
    }

    /// Connects again, between requests: servers close connections that were idle for seconds.
    pub(crate) fn renew(&mut self) -> Result<(), Fault> {
        self.stream = Self::dial(self.address)?;
        self.taken = 0;
        self.filled = 0;
        self.closed = false;
        Ok(())
    }

    /// Whether the server keeps it open. To be called between requests.
    pub(crate) fn is_open(&self) -> bool {
        let peeked = self
            .stream
            .set_nonblocking(true)
            .and_then(|()| self.stream.peek(&mut [0]));
        let is_silent = peeked.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock);
        is_silent && self.stream.set_nonblocking(false).is_ok()
    }

    /// The bare connection, of which no answer is read.
    pub(crate) fn into_stream(self) -> TcpStream {
        self.stream
    }

    /// Sends the first bytes of a request; connects again if the server had closed.
    pub(crate) fn begin(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        if self.closed {
            self.renew()?;
        }
        self.send(bytes)
    }

    /// Sends more bytes of a request. A server that refuses in the middle of a body is named with
    /// the status it gave.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        let Err(error) = self.stream.write_all(bytes) else {
            return Ok(());
        };
        match self.reply(false, |_| Ok(())) {
            Ok(reply) => Err(format!(
                "answered {} before the body was sent",
                reply.status
            )),
            Err(_) => Err(format!("write: {error}")),
        }
    }

    /// Reads one reply and hands its body to `sink` piece by piece; replies with status 1xx are
    /// passed over. `bodiless` says that the request was a HEAD.
    pub(crate) fn reply(
        &mut self,
        bodiless: bool,
        mut sink: impl FnMut(&[u8]) -> Result<(), Fault>,
    ) -> Result<Reply, Fault> {
        let reply = self.answer()?;
        if bodiless || reply.status == 204 || reply.status == 304 {
            return Ok(reply);
        }
        if reply.chunked {
            self.chunks(&mut sink)?;
        } else if let Some(length) = reply.length {
            self.body(length, &mut sink)?;
        } else {
            return Err(format!("reply {} has no length", reply.status));
        }
        Ok(reply)
    }

    /// Reads the head of a reply that has a body without end, and must be in chunks. The body is
    /// for [`Connection::chunks`].
    pub(crate) fn endless(&mut self) -> Result<Reply, Fault> {
        let reply = self.answer()?;
        if reply.status == 200 && !reply.chunked {
            return Err("a reply that goes on is not in chunks".into());
        }
        Ok(reply)
    }

    /// Sends a request and reads the whole of a short answer, which is UTF-8.
    pub(crate) fn ask(&mut self, request: &str) -> Result<(Reply, String), Fault> {
        self.begin(request.as_bytes())?;
        let mut body = Vec::new();
        let reply = self.reply(false, |piece| {
            body.extend_from_slice(piece);
            Ok(())
        })?;
        let body = String::from_utf8(body).map_err(|_| "the answer is not UTF-8")?;
        Ok((reply, body))
    }

    fn answer(&mut self) -> Result<Reply, Fault> {
        loop {
            let reply = self.head()?;
            if reply.status >= 200 {
                self.closed = reply.close;
                return Ok(reply);
            }
        }
    }

    fn head(&mut self) -> Result<Reply, Fault> {
        let mut searched = 0;
        let end = loop {
            let unread = self.unread();
            if let Some(at) = find(&unread[searched..], b"\r\n\r\n") {
                break searched + at;
            }
            searched = unread.len().saturating_sub(3);
            self.fill()?;
        };
        let head = &self.unread()[..end];
        let head = std::str::from_utf8(head).map_err(|_| "reply head is not UTF-8")?;
        let reply = parse(head)?;
        self.take(end + 4);
        Ok(reply)
    }

    fn body(
        &mut self,
        mut left: u64,
        sink: &mut impl FnMut(&[u8]) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        while left > 0 {
            if self.taken == self.filled {
                self.fill()?;
            }
            let unread = self.unread();
            let piece = unread
                .len()
                .min(usize::try_from(left).unwrap_or(usize::MAX));
            sink(&unread[..piece])?;
            left -= piece as u64;
            self.take(piece);
        }
        Ok(())
    }

    /// Hands the body of a reply in chunks to `sink` until it ends, or `sink` fails.
    pub(crate) fn chunks(
        &mut self,
        sink: &mut impl FnMut(&[u8]) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        loop {
            let line = self.line()?;
            let size = line.split(';').next().unwrap_or_default().trim();
            let size = u64::from_str_radix(size, 16).map_err(|_| format!("chunk size {line:?}"))?;
            if size > 0 {
                self.body(size, sink)?;
                if !self.line()?.is_empty() {
                    return Err("chunk does not end where its size says".into());
                }
                continue;
            }
            while !self.line()?.is_empty() {}
            return Ok(());
        }
    }

    fn line(&mut self) -> Result<String, Fault> {
        loop {
            let unread = self.unread();
            if let Some(at) = find(unread, b"\r\n") {
                let line = String::from_utf8_lossy(&unread[..at]).into_owned();
                self.take(at + 2);
                return Ok(line);
            }
            self.fill()?;
        }
    }

    fn unread(&self) -> &[u8] {
        &self.inbox[self.taken..self.filled]
    }

    fn take(&mut self, count: usize) {
        self.taken += count;
    }

    /// Receives more; fails when what is unread already fills the buffer.
    fn fill(&mut self) -> Result<(), Fault> {
        self.inbox.copy_within(self.taken..self.filled, 0);
        self.filled -= self.taken;
        self.taken = 0;
        match self.stream.read(&mut self.inbox[self.filled..]) {
            Ok(0) if self.filled == INBOX => Err("a head or line of the reply is too long".into()),
            Ok(0) => Err("the server closed the connection".into()),
            Ok(count) => {
                self.filled += count;
                Ok(())
            }
            Err(error) => Err(format!("read: {error}")),
        }
    }
}

fn parse(head: &str) -> Result<Reply, Fault> {
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.strip_prefix("HTTP/1.1 "));
    let status = status
        .and_then(|line| line.get(..3))
        .and_then(|code| code.parse().ok());
    let mut reply = Reply {
        status: status.ok_or("bad status line")?,
        ..Reply::default()
    };
    for line in lines {
        let Some((name, value)) = line.split_once(':') else {
            continue;
        };
        let value = value.trim();
        let number = || -> Result<Option<u64>, Fault> {
            value
                .parse()
                .map(Some)
                .map_err(|_| format!("{name}: {value:?} is no number"))
        };
        if name.eq_ignore_ascii_case("content-length") {
            reply.length = number()?;
        } else if name.eq_ignore_ascii_case("upload-offset") {
            reply.offset = number()?;
        } else if name.eq_ignore_ascii_case("location") {
            reply.location = Some(value.into());
        } else if name.eq_ignore_ascii_case("etag") {
            reply.etag = Some(value.into());
        } else if name.eq_ignore_ascii_case("tus-extension") {
            reply.extensions = Some(value.into());
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            reply.chunked = value.eq_ignore_ascii_case("chunked");
        } else if name.eq_ignore_ascii_case("connection") {
            reply.close = value.eq_ignore_ascii_case("close");
        }
    }
    Ok(reply)
}

/// Where `needle` first begins in `haystack`.
pub(crate) fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack
        .windows(needle.len())
        .position(|window| window == needle)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    /// Answers each of `replies` to whatever comes, on one connection.
    fn scripted(replies: &'static [&'static str]) -> Connection {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            for reply in replies {
                let mut buffer = [0; 1024];
                assert!(stream.read(&mut buffer).unwrap() > 0);
                stream.write_all(reply.as_bytes()).unwrap();
            }
        });
        Connection::open(address).unwrap()
    }

    #[test]
    fn reads_lengths_chunks_and_interim_replies() {
        let mut connection = scripted(&[
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n1\r\nd\r\n0\r\nt: 1\r\n\r\n",
            "HTTP/1.1 204 No Content\r\nUpload-Offset: 7\r\n\r\n",
        ]);
        for (want, offset) in [("hello", None), ("abcd", None), ("", Some(7))] {
            connection.begin(b"x").unwrap();
            let mut body = Vec::new();
            let reply = connection.reply(false, |piece| {
                body.extend_from_slice(piece);
                Ok(())
            });
            assert_eq!(reply.unwrap().offset, offset);
            assert_eq!(body, want.as_bytes());
        }
    }

    #[test]
    fn a_wrong_status_is_named() {
        let reply = Reply {
            status: 413,
            ..Reply::default()
        };
        let error = reply.expect("PATCH", &[204]).unwrap_err();
        assert_eq!(error, "PATCH answered 413, expected [204]");
    }
}
