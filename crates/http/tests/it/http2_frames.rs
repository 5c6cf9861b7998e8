//! A client of HTTP/2 that sends and reads single frames.

use std::time::Duration;

use rustls::version::TLS13;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use landfall_http::{ConnectionLimits, Listener};

use crate::harness::{Server, TIMEOUT};
use crate::tls::{Authority, load, wrap};

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;

/// END_STREAM of frames with content, and ACK of others.
pub(crate) const END_STREAM: u8 = 1;
pub(crate) const ACK: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;

pub(crate) const NO_ERROR: u32 = 0;
pub(crate) const PROTOCOL_ERROR: u32 = 1;
pub(crate) const CANCEL: u32 = 8;
pub(crate) const ENHANCE_YOUR_CALM: u32 = 11;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

impl Frame {
    /// The error of RST_STREAM, and the increment of WINDOW_UPDATE.
    pub(crate) fn number(&self) -> u32 {
        u32::from_be_bytes(self.payload[..4].try_into().unwrap())
    }

    /// The last stream and the error of GOAWAY.
    pub(crate) fn goaway(&self) -> (u32, u32) {
        assert_eq!(self.kind, GOAWAY);
        let error = self.payload[4..8].try_into().unwrap();
        (self.number(), u32::from_be_bytes(error))
    }

    /// The value of a setting.
    pub(crate) fn setting(&self, id: u16) -> Option<u32> {
        assert_eq!(self.kind, SETTINGS);
        let settings = self.payload.chunks(6);
        settings
            .filter(|setting| setting[..2] == id.to_be_bytes())
            .map(|setting| u32::from_be_bytes(setting[2..].try_into().unwrap()))
            .next()
    }
}

pub(crate) fn encode(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let head = [&length[1..], &[kind, flags], &stream.to_be_bytes()].concat();
    [&head, payload].concat()
}

/// A field of HPACK, without indexing: a name of the static table below 15, or one that is written out.
pub(crate) fn field(index: u8, name: &str, value: &str) -> Vec<u8> {
    let mut bytes = vec![index];
    for text in [name, value]
        .iter()
        .filter(|text| index == 0 || *text != &name)
    {
        // An integer with a prefix of 7 bits (RFC 7541 section 5.1), below 255.
        match u8::try_from(text.len()).unwrap() {
            length @ 0..127 => bytes.push(length),
            length => bytes.extend([127, length - 127]),
        }
        bytes.extend(text.as_bytes());
    }
    bytes
}

/// `PUT` of a path.
pub(crate) fn head(path: &str) -> Vec<u8> {
    let fields = [(2, "PUT"), (6, "http"), (1, "a.example"), (4, path)];
    let fields = fields.map(|(index, value)| field(index, ":", value));
    fields.concat()
}

pub(crate) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

pub(crate) struct RawClient {
    stream: Box<dyn Stream>,
    buffer: Vec<u8>,
}

impl RawClient {
    /// Sends the preface.
    pub(crate) async fn new(stream: impl Stream + 'static) -> Self {
        let mut client = Self {
            stream: Box::new(stream),
            buffer: Vec::new(),
        };
        let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        client
            .write(&[preface, encode(SETTINGS, 0, 0, &[])].concat())
            .await
            .unwrap();
        client
    }

    pub(crate) async fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        let written = timeout(TIMEOUT, self.stream.write_all(bytes));
        written.await.expect("the server does not read")
    }

    pub(crate) async fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        self.write(&encode(kind, flags, stream, payload))
            .await
            .unwrap();
    }

    /// `None` at the end of the connection.
    pub(crate) async fn frame(&mut self) -> Option<Frame> {
        timeout(TIMEOUT, self.read()).await.expect("no frame came")
    }

    /// Confirms settings.
    async fn read(&mut self) -> Option<Frame> {
        let frame = loop {
            if let Some(frame) = self.decode() {
                break frame;
            }
            if self.stream.read_buf(&mut self.buffer).await.unwrap_or(0) == 0 {
                return None;
            }
        };
        if frame.kind == SETTINGS && frame.flags & ACK == 0 {
            self.write(&encode(SETTINGS, ACK, 0, &[])).await.ok()?;
        }
        Some(frame)
    }

    fn decode(&mut self) -> Option<Frame> {
        let head = *self.buffer.first_chunk::<9>()?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        (self.buffer.len() >= 9 + length).then(|| Frame {
            kind: head[3],
            flags: head[4],
            stream: u32::from_be_bytes([head[5], head[6], head[7], head[8]]),
            payload: self.buffer.drain(..9 + length).skip(9).collect(),
        })
    }

    /// The next frame of this kind; others are skipped.
    pub(crate) async fn next(&mut self, kind: u8) -> Frame {
        loop {
            let frame = self.frame().await.expect("the connection has ended");
            if frame.kind == kind {
                return frame;
            }
        }
    }

    /// The frames that come in a time.
    pub(crate) async fn frames_within(&mut self, time: Duration) -> Vec<Frame> {
        let mut frames = Vec::new();
        let reading = async {
            while let Some(frame) = self.read().await {
                frames.push(frame);
            }
        };
        drop(timeout(time, reading).await);
        frames
    }
}

/// A server without TLS, or with it.
pub(crate) struct Http2Server {
    pub(crate) server: Server,
    authority: Option<Authority>,
}

impl Http2Server {
    pub(crate) fn start(with_tls: bool, change: impl FnOnce(&mut ConnectionLimits)) -> Self {
        let listener = Listener::tcp("127.0.0.1", 0).unwrap();
        let authority = with_tls.then(Authority::new);
        let listener = match &authority {
            Some(authority) => listener.with_tls(load(authority.files(&["a.example"]))),
            None => listener,
        };
        let server = Server::on(listener, Duration::from_secs(5), |limits| {
            limits.http2 = true;
            change(limits);
        });
        Self { server, authority }
    }

    pub(crate) async fn connect(&self) -> RawClient {
        RawClient::new(self.connect_silently().await).await
    }

    /// Without the preface.
    pub(crate) async fn connect_silently(&self) -> Box<dyn Stream> {
        let tcp = TcpStream::connect(self.server.address).await.unwrap();
        let Some(authority) = &self.authority else {
            return Box::new(tcp);
        };
        let mut config = authority.client(&[&TLS13]);
        config.alpn_protocols = vec![b"h2".to_vec()];
        Box::new(wrap(tcp, config, "a.example").await.unwrap())
    }

    /// Other connections are served.
    pub(crate) async fn still_serves(&self) {
        let mut client = self.connect().await;
        client
            .send(HEADERS, END_STREAM | END_HEADERS, 1, &head("/"))
            .await;
        assert_eq!(client.next(DATA).await.payload, b"hello");
    }
}
