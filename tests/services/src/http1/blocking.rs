use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    thread,
    time::{Duration, Instant},
};

use super::{Message, Received, Request, TIMEOUT};

/// A connection whose calls block.
#[derive(Debug)]
pub struct Client<S = TcpStream> {
    /// For what this type does not do.
    pub stream: S,
    received: Received,
}

impl Client {
    /// Connects.
    #[must_use]
    pub fn connect(address: SocketAddr) -> Self {
        Self::try_connect(address).unwrap()
    }

    /// Connects to a server that may be away.
    ///
    /// # Errors
    ///
    /// Fails like the system call.
    pub fn try_connect(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.set_write_timeout(Some(TIMEOUT))?;
        stream.set_nodelay(true)?;
        Ok(Self::new(stream))
    }
}

impl<S: Read + Write> Client<S> {
    /// Uses a connection.
    pub fn new(stream: S) -> Self {
        let received = Received::default();
        Self { stream, received }
    }

    /// Sends these bytes.
    #[track_caller]
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).unwrap();
    }

    /// Like [`Self::send`], to a server that may have closed the connection.
    ///
    /// # Errors
    ///
    /// Fails like the system call.
    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.stream.write_all(bytes.as_ref())
    }

    /// Sends a request and reads its response.
    #[track_caller]
    pub fn ask(&mut self, request: Request) -> Message {
        self.try_ask(request)
            .unwrap()
            .expect("the connection ended without an answer")
    }

    /// Sends a request and reads its response; `None` if the connection ends before it starts.
    ///
    /// # Errors
    ///
    /// Fails when the connection does, or ends within the response.
    pub fn try_ask(&mut self, request: Request) -> io::Result<Option<Message>> {
        self.stream.write_all(&request.bytes())?;
        self.read(request.method)
    }

    /// Sends the head of a request; the test sends its body of this length.
    #[track_caller]
    pub fn begin(&mut self, request: Request, length: u64) {
        self.send(request.with("Content-Length", length).bytes());
    }

    /// Reads the next response.
    #[track_caller]
    pub fn answer(&mut self) -> Message {
        self.try_answer()
            .unwrap()
            .expect("the connection ended without an answer")
    }

    /// Reads the next response; `None` if the connection ends before one starts.
    ///
    /// # Errors
    ///
    /// Fails when the connection does, or ends within the response.
    pub fn try_answer(&mut self) -> io::Result<Option<Message>> {
        self.read("PATCH")
    }

    fn read(&mut self, method: &str) -> io::Result<Option<Message>> {
        loop {
            if let Some(message) = self.received.take(method) {
                return Ok(Some(message));
            }
            if self.fill()? == 0 {
                // A partial message is neither a response nor a clean end.
                return match self.received.0.is_empty() {
                    true => Ok(None),
                    false => Err(io::ErrorKind::UnexpectedEof.into()),
                };
            }
        }
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
        self.received.0.extend_from_slice(&chunk[..n]);
        Ok(n)
    }

    /// Waits until the server closes the connection, cleanly or not, without another byte.
    #[track_caller]
    pub fn is_closed(&mut self) {
        let received = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert_eq!(received(&self.received.0), "");
        match self.fill() {
            Ok(0) => {}
            Ok(_) => panic!("more: {}", received(&self.received.0)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => panic!("still open"),
            Err(_) => {}
        }
    }

    /// Creates an upload and returns its path.
    #[track_caller]
    pub fn create(&mut self, length: u64) -> String {
        let request = Request::post().with("Upload-Length", length);
        self.ask(request).created()
    }

    /// Creates an upload with its bytes and returns its path.
    #[track_caller]
    pub fn upload(&mut self, bytes: &[u8]) -> String {
        let request = Request::post()
            .with("Upload-Length", bytes.len())
            .with("Content-Type", "application/offset+octet-stream")
            .body(bytes);
        self.ask(request).created()
    }

    /// Appends.
    #[track_caller]
    pub fn patch(&mut self, path: &str, offset: u64, bytes: &[u8]) -> Message {
        self.ask(Request::patch(path, offset).body(bytes))
    }

    /// Sends HEAD.
    #[track_caller]
    pub fn head(&mut self, path: &str) -> Message {
        self.ask(Request::new("HEAD", path))
    }

    /// Returns the offset by HEAD.
    #[track_caller]
    pub fn offset(&mut self, path: &str) -> u64 {
        let answer = self.head(path);
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.offset()
    }

    /// Waits until HEAD returns this offset.
    #[track_caller]
    pub fn reaches(&mut self, path: &str, offset: u64) {
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
    pub fn resumes_to(&mut self, path: &str, whole: &[u8]) {
        let offset = self.offset(path);
        let rest = &whole[usize::try_from(offset).unwrap()..];
        let answer = self.patch(path, offset, rest);
        assert_eq!(answer.status, 204, "{answer:?}");
        assert_eq!(answer.offset(), whole.len() as u64);
        self.holds(path, whole);
    }

    /// Checks that a download returns `whole`.
    #[track_caller]
    pub fn holds(&mut self, path: &str, whole: &[u8]) {
        let answer = self.ask(Request::get(path));
        assert_eq!(answer.status, 200, "{}", answer.text());
        // Without printing megabytes.
        assert_eq!(answer.body.len(), whole.len(), "another length");
        let differing = answer.body.iter().zip(whole).position(|(a, b)| a != b);
        assert_eq!(differing, None, "other bytes of {}", whole.len());
    }
}
