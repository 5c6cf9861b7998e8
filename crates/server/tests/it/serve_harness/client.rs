//! A client that sends exactly the given bytes.

use std::{
    fmt::Write as _,
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    thread,
    time::{Duration, Instant},
};

use super::{TIMEOUT, assert_same};

/// Returns the path of a `Location`.
pub(crate) fn path_of(location: &str) -> String {
    match location.split_once("://") {
        Some((_, rest)) => rest[rest.find('/').unwrap()..].to_owned(),
        None => location.to_owned(),
    }
}

/// Returns the id at the end of an upload's path.
pub(crate) fn id_of(path: &str) -> &str {
    path.rsplit('/').next().unwrap()
}

/// A request builder.
#[derive(Clone)]
pub(crate) struct Request {
    method: &'static str,
    path: String,
    headers: Vec<(String, String)>,
    body: Option<Vec<u8>>,
}

impl Request {
    /// Creates a request with `Host` and the headers of every tus request.
    pub(crate) fn new(method: &'static str, path: &str) -> Self {
        Self {
            method,
            path: path.to_owned(),
            headers: vec![
                ("Host".into(), "landfall.test".into()),
                ("Tus-Resumable".into(), "1.0.0".into()),
            ],
            body: None,
        }
    }

    pub(crate) fn get(path: &str) -> Self {
        Self::new("GET", path)
    }

    pub(crate) fn post() -> Self {
        Self::new("POST", "/files/")
    }

    /// Declares more bytes; the test sends the body separately.
    pub(crate) fn patch(path: &str, offset: u64) -> Self {
        Self::new("PATCH", path)
            .with("Upload-Offset", offset)
            .with("Content-Type", "application/offset+octet-stream")
    }

    pub(crate) fn with(mut self, name: &str, value: impl ToString) -> Self {
        self.headers.push((name.to_owned(), value.to_string()));
        self
    }

    pub(crate) fn body(mut self, body: &[u8]) -> Self {
        self.body = Some(body.to_owned());
        self
    }

    /// Serializes the request.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut head = format!("{} {} HTTP/1.1\r\n", self.method, self.path);
        for (name, value) in &self.headers {
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

/// A response.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    #[track_caller]
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut values = self
            .headers
            .iter()
            .filter(|(found, _)| found.eq_ignore_ascii_case(name));
        let value = values.next().map(|(_, value)| value.as_str());
        assert_eq!(values.next(), None, "{name} more than once");
        value
    }

    #[track_caller]
    pub(crate) fn number(&self, name: &str) -> u64 {
        let value = self.header(name);
        value
            .and_then(|value| value.parse().ok())
            .unwrap_or_else(|| panic!("{name} is {value:?} in {self:?}"))
    }

    #[track_caller]
    pub(crate) fn offset(&self) -> u64 {
        self.number("Upload-Offset")
    }

    /// Returns the path of the created upload.
    #[track_caller]
    pub(crate) fn created(&self) -> String {
        assert_eq!(self.status, 201, "{self:?}");
        path_of(self.header("Location").unwrap())
    }

    /// Checks status and error code.
    #[track_caller]
    pub(crate) fn refuses(&self, status: u16, code: &str) {
        let text = String::from_utf8_lossy(&self.body);
        assert!(
            self.status == status && text.starts_with(&format!("{code}: ")),
            "not {status} {code} but {} {text}",
            self.status
        );
    }
}

/// A connection.
pub(crate) struct Client<S = TcpStream> {
    pub(crate) stream: S,
    buffer: Vec<u8>,
}

impl Client {
    pub(crate) fn connect(address: SocketAddr) -> Self {
        Self::try_connect(address).unwrap()
    }

    pub(crate) fn try_connect(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.set_write_timeout(Some(TIMEOUT))?;
        stream.set_nodelay(true)?;
        Ok(Self::new(stream))
    }
}

impl<S: Read + Write> Client<S> {
    pub(crate) fn new(stream: S) -> Self {
        Self {
            stream,
            buffer: Vec::new(),
        }
    }

    #[track_caller]
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).unwrap();
    }

    /// Like [`Self::send`], for a server that may have closed the connection.
    pub(crate) fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.stream.write_all(bytes.as_ref())
    }

    /// Sends a request and reads its response.
    #[track_caller]
    pub(crate) fn ask(&mut self, request: Request) -> Answer {
        self.try_ask(request)
            .unwrap()
            .expect("the connection ended without an answer")
    }

    pub(crate) fn try_ask(&mut self, request: Request) -> io::Result<Option<Answer>> {
        self.stream.write_all(&request.bytes())?;
        self.read_answer(request.method)
    }

    /// Sends the head of a request; the test sends its body of this length.
    #[track_caller]
    pub(crate) fn begin(&mut self, request: Request, length: u64) {
        self.send(request.with("Content-Length", length).bytes());
    }

    /// Reads the next response.
    #[track_caller]
    pub(crate) fn answer(&mut self) -> Answer {
        self.try_answer()
            .unwrap()
            .expect("the connection ended without an answer")
    }

    /// Reads the next response; `None` if the connection ends before one starts.
    pub(crate) fn try_answer(&mut self) -> io::Result<Option<Answer>> {
        self.read_answer("PATCH")
    }

    fn read_answer(&mut self, method: &str) -> io::Result<Option<Answer>> {
        let end = loop {
            if let Some(at) = self.buffer.windows(4).position(|w| w == b"\r\n\r\n") {
                break at + 4;
            }
            if self.fill()? == 0 {
                // A partial head is neither a response nor a clean end.
                return if self.buffer.is_empty() {
                    Ok(None)
                } else {
                    Err(io::ErrorKind::UnexpectedEof.into())
                };
            }
        };
        let head = String::from_utf8(self.buffer.drain(..end).collect()).unwrap();
        let mut lines = head.trim_end().split("\r\n");
        let status = lines.next().unwrap().split(' ').nth(1).unwrap();
        let headers = lines
            .map(|line| {
                let (name, value) = line.split_once(':').unwrap();
                (name.to_owned(), value.trim().to_owned())
            })
            .collect();
        let mut answer = Answer {
            status: status.parse().unwrap(),
            headers,
            body: Vec::new(),
        };
        let has_body = method != "HEAD" && !matches!(answer.status, 100..200 | 204 | 304);
        let length = match answer.header("Content-Length") {
            Some(length) if has_body => length.parse().unwrap(),
            _ => 0,
        };
        while self.buffer.len() < length {
            if self.fill()? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        answer.body = self.buffer.drain(..length).collect();
        Ok(Some(answer))
    }

    fn fill(&mut self) -> io::Result<usize> {
        let mut chunk = [0; 64 * 1024];
        let n = loop {
            match self.stream.read(&mut chunk) {
                // Other tests in this process use signals.
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => break read?,
            }
        };
        self.buffer.extend_from_slice(&chunk[..n]);
        Ok(n)
    }

    /// Waits until the server closes the connection, cleanly or not, without another byte.
    #[track_caller]
    pub(crate) fn is_closed(&mut self) {
        assert_eq!(String::from_utf8_lossy(&self.buffer), "");
        match self.fill() {
            Ok(0) => {}
            Ok(_) => panic!("more: {}", String::from_utf8_lossy(&self.buffer)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => panic!("still open"),
            Err(_) => {}
        }
    }

    /// Creates an upload and returns its path.
    #[track_caller]
    pub(crate) fn create(&mut self, length: u64) -> String {
        self.ask(Request::post().with("Upload-Length", length))
            .created()
    }

    /// Creates an upload with its bytes and returns its path.
    #[track_caller]
    pub(crate) fn upload(&mut self, bytes: &[u8]) -> String {
        let request = Request::post()
            .with("Upload-Length", bytes.len())
            .with("Content-Type", "application/offset+octet-stream")
            .body(bytes);
        self.ask(request).created()
    }

    #[track_caller]
    pub(crate) fn patch(&mut self, path: &str, offset: u64, bytes: &[u8]) -> Answer {
        self.ask(Request::patch(path, offset).body(bytes))
    }

    #[track_caller]
    pub(crate) fn head(&mut self, path: &str) -> Answer {
        self.ask(Request::new("HEAD", path))
    }

    /// Returns its offset by HEAD.
    #[track_caller]
    pub(crate) fn offset(&mut self, path: &str) -> u64 {
        let answer = self.head(path);
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.offset()
    }

    /// Waits until HEAD returns this offset.
    #[track_caller]
    pub(crate) fn reaches(&mut self, path: &str, offset: u64) {
        let end = Instant::now() + TIMEOUT;
        loop {
            let now = self.offset(path);
            if now == offset {
                return;
            }
            assert!(now < offset, "{now} is past {offset}");
            assert!(Instant::now() < end, "{now} is all that came of {offset}");
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// Sends the rest from the offset that HEAD tells, and checks that the upload then holds `whole`.
    #[track_caller]
    pub(crate) fn resumes_to(&mut self, path: &str, whole: &[u8]) {
        let offset = self.offset(path);
        let rest = &whole[usize::try_from(offset).unwrap()..];
        let answer = self.patch(path, offset, rest);
        assert_eq!(answer.status, 204, "{answer:?}");
        assert_eq!(answer.offset(), whole.len() as u64);
        self.holds(path, whole);
    }

    /// Checks that a download returns `whole`.
    #[track_caller]
    pub(crate) fn holds(&mut self, path: &str, whole: &[u8]) {
        let answer = self.ask(Request::get(path));
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_same(&answer.body, whole);
    }
}
