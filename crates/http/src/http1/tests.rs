//! Responses through a socket that takes single bytes, or stops anywhere, as a strict parser reads them.

use std::collections::VecDeque;
use std::future::{Ready, ready};
use std::io::{self, IoSlice};
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body::{Frame, SizeHint};
use landfall::service::Peer;
use parking_lot::Mutex;
use proptest::prelude::*;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Semaphore;

use super::channel::Http1Io;
use super::connection::Http1;
use crate::connection::ConnectionShared;
use crate::io::{ScriptedSocket, ServerIo};
use crate::limits::ConnectionLimits;
use crate::limits::timeouts::{Phase, ServerShared};
use crate::service::ConnectionService;
use crate::shutdown::{FirstRequest, Shutdown, ShutdownPhase};
use crate::stats::{NetStats, OpenConnection};
use crate::{Body, HttpService, interim_sender};

/// Lengths of the pieces of a content. Those above 2 KiB are not copied.
const PIECES: [usize; 7] = [2_049, 1, 3_000, 0, 2_048, 2_100, 40];

/// Pipelined, of each way to end a content; that of HTTP/1.0 ends the connection.
const REQUESTS: &str = "GET /sized HTTP/1.1\r\nHost: a\r\n\r\n\
    HEAD /sized HTTP/1.1\r\nHost: a\r\n\r\n\
    GET /chunked HTTP/1.1\r\nHost: a\r\n\r\n\
    HEAD /chunked HTTP/1.1\r\nHost: a\r\n\r\n\
    PUT /trailers HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx\
    PUT /interim HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx\
    GET /empty HTTP/1.1\r\nHost: a\r\n\r\n\
    GET /204 HTTP/1.1\r\nHost: a\r\n\r\n\
    GET /chunked HTTP/1.0\r\n\r\n";

fn content() -> Vec<u8> {
    let len = PIECES.iter().sum();
    (0..len).map(|n: usize| b'a' + (n % 23) as u8).collect()
}

/// Responds with the [`content`] in its pieces. Before those of the set bits it is pending once.
#[derive(Clone)]
struct Pieces {
    pending: u8,
}

impl HttpService for Pieces {
    type Body = PieceBody;
    type Future = Ready<Response<PieceBody>>;

    fn call(&self, request: Request<Body>) -> Self::Future {
        let path = request.uri().path();
        let mut rest = Bytes::from(content());
        let mut pieces: VecDeque<_> = PIECES.iter().map(|len| rest.split_to(*len)).collect();
        let mut response = Response::builder();
        match path {
            "/interim" => {
                let sender = interim_sender(&request).unwrap();
                let interim = Response::builder().status(104).header("location", "/a");
                sender.send(interim.body(()).unwrap());
            }
            "/empty" => pieces.clear(),
            "/204" => response = response.status(204),
            _ => {}
        }
        let length = pieces.iter().map(Bytes::len).sum::<usize>() as u64;
        let body = PieceBody {
            pieces,
            length: (path == "/sized").then_some(length),
            trailers: path == "/trailers",
            pending: self.pending.into(),
        };
        ready(response.body(body).unwrap())
    }
}

struct PieceBody {
    pieces: VecDeque<Bytes>,
    length: Option<u64>,
    trailers: bool,
    /// A bit for each piece, and for the end.
    pending: u64,
}

impl http_body::Body for PieceBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if self.pending & 1 == 1 {
            self.pending &= !1;
            return Poll::Pending;
        }
        self.pending >>= 1;
        let data = self.pieces.pop_front().map(Frame::data);
        let has_trailers = data.is_none() && std::mem::take(&mut self.trailers);
        let trailers = has_trailers.then(|| Frame::trailers(HeaderMap::new()));
        Poll::Ready(data.or(trailers).map(Ok))
    }

    fn size_hint(&self) -> SizeHint {
        self.length
            .map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

/// What a socket does with the bytes that it is offered.
#[derive(Clone, Debug)]
enum Script {
    /// Takes the byte at one of these positions in another call than the byte before it, after it was pending.
    Stops(Vec<usize>),
    /// Takes as many bytes, repeatedly; is pending if none.
    Takes(VecDeque<usize>),
}

#[derive(Debug)]
struct Wire {
    input: VecDeque<u8>,
    output: Vec<u8>,
    script: Script,
}

#[derive(Clone, Debug)]
struct WireSocket(Arc<Mutex<Wire>>);

impl ScriptedSocket for WireSocket {}

impl AsyncRead for WireSocket {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let input = &mut self.0.lock().input;
        let len = input.len().min(buf.remaining());
        buf.put_slice(&input.drain(..len).collect::<Vec<_>>());
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for WireSocket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut wire = self.0.lock();
        let offered: usize = slices.iter().map(|slice| slice.len()).sum();
        let at = wire.output.len();
        let take = match &mut wire.script {
            Script::Stops(stops) => match stops.first() {
                Some(stop) if *stop <= at => {
                    stops.remove(0);
                    0
                }
                Some(stop) => offered.min(stop - at),
                None => offered,
            },
            Script::Takes(takes) => {
                takes.rotate_left(1);
                offered.min(*takes.back().unwrap())
            }
        };
        if take == 0 {
            return Poll::Pending;
        }
        let mut left = take;
        for slice in slices {
            let part = left.min(slice.len());
            wire.output.extend_from_slice(&slice[..part]);
            left -= part;
        }
        Poll::Ready(Ok(take))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Serves the [`REQUESTS`]. Returns all bytes of the responses.
fn serve(pending: u8, script: Script) -> Vec<u8> {
    let stats = Arc::new(NetStats::default());
    let (limits, shutdown) = (
        ConnectionLimits::default(),
        Shutdown::new(Duration::from_secs(1)),
    );
    let server = Arc::new(ServerShared::new(limits, shutdown, stats.clone(), None));
    let permit = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
    let activity = server.track_new(Phase::Head, true);
    let open = OpenConnection::new(stats, permit);
    let shared = ConnectionShared::admit(server, activity, open, Peer::default(), false).unwrap();
    let wire = Arc::new(Mutex::new(Wire {
        input: REQUESTS.bytes().collect(),
        output: Vec::new(),
        script,
    }));
    let channel = Http1Io::new(ServerIo::scripted(WireSocket(wire.clone()), shared.clone()));
    let service = ConnectionService {
        service: Pieces { pending },
        shared,
    };
    let mut http1 = Http1::new(channel, service, false);
    let mut cx = Context::from_waker(Waker::noop());
    let mut first_request = FirstRequest::default();
    let ended = (0..1_000_000).any(|_| {
        let polled = http1.poll(&mut cx, ShutdownPhase::Running, &mut first_request);
        polled.is_ready()
    });
    assert!(ended);
    drop(http1);
    std::mem::take(&mut wire.lock().output)
}

/// Reads one message after another, by the letter of RFC 9112.
struct Parser<'a> {
    bytes: &'a [u8],
    at: usize,
    /// Where the bytes are that are not content.
    framing: Vec<Range<usize>>,
}

impl<'a> Parser<'a> {
    fn line(&mut self) -> &'a str {
        let rest = &self.bytes[self.at..];
        let len = rest.windows(2).position(|pair| pair == b"\r\n");
        let len = len.expect("a line without end");
        let line = std::str::from_utf8(&rest[..len]).unwrap();
        assert!(!line.contains(['\r', '\n']), "{line:?}");
        self.framing.push(self.at..self.at + len + 2);
        self.at += len + 2;
        line
    }

    fn take(&mut self, len: usize) -> &'a [u8] {
        let taken = &self.bytes[self.at..][..len];
        self.at += len;
        taken
    }

    fn chunks(&mut self) -> Vec<u8> {
        let mut content = Vec::new();
        loop {
            let size = self.line();
            assert!(
                size.bytes().all(|byte| byte.is_ascii_hexdigit()),
                "{size:?}"
            );
            let size = usize::from_str_radix(size, 16).unwrap();
            content.extend_from_slice(self.take(size));
            assert_eq!(self.line(), "", "behind a chunk of {size}");
            if size == 0 {
                return content;
            }
        }
    }

    /// Returns the status, the content, and whether another message may follow.
    fn message(&mut self, has_content: bool) -> (u16, Vec<u8>, bool) {
        let status = self.line();
        let (version, status) = status.split_once(' ').unwrap();
        let status: u16 = status[..3].parse().unwrap();
        let (mut length, mut is_chunked, mut closes) = (None, false, false);
        loop {
            let field = self.line();
            if field.is_empty() {
                break;
            }
            let (name, value) = field.split_once(": ").unwrap();
            match name {
                "Content-Length" => length = Some(value.parse().unwrap()),
                "Transfer-Encoding" => is_chunked = value == "chunked",
                "Connection" => closes = value == "close",
                _ => {}
            }
        }
        assert!(!(length.is_some() && is_chunked), "two lengths");
        let is_old = version == "HTTP/1.0";
        assert!(!(is_old && is_chunked), "chunks of HTTP/1.0");
        let content = match (length, is_chunked) {
            _ if !has_content || matches!(status, 100..200 | 204) => Vec::new(),
            (Some(length), _) => self.take(length).to_vec(),
            (None, true) => self.chunks(),
            (None, false) => self.take(self.bytes.len() - self.at).to_vec(),
        };
        (status, content, !closes)
    }
}

/// Checks the responses. Returns where their framing is.
fn check(output: &[u8]) -> Vec<Range<usize>> {
    let mut parser = Parser {
        bytes: output,
        at: 0,
        framing: Vec::new(),
    };
    let all = content();
    let expected: [(&str, u16, &[u8]); 10] = [
        ("GET", 200, &all),
        ("HEAD", 200, b""),
        ("GET", 200, &all),
        ("HEAD", 200, b""),
        ("PUT", 200, &all),
        ("PUT", 104, b""),
        ("PUT", 200, &all),
        ("GET", 200, b""),
        ("GET", 204, b""),
        ("GET", 200, &all),
    ];
    for (n, (method, status, content)) in expected.into_iter().enumerate() {
        let (found, body, continues) = parser.message(method != "HEAD");
        assert_eq!(found, status, "response {n}");
        assert!(body == content, "the content of response {n}");
        assert_eq!(continues, n != 9, "response {n}");
    }
    assert_eq!(parser.at, output.len());
    parser.framing
}

#[test]
fn responses_pass_whole() {
    check(&serve(0, Script::Takes([usize::MAX].into())));
}

#[test]
fn responses_pass_byte_by_byte() {
    for pending in [0, u8::MAX] {
        for takes in [&[1][..], &[0, 1], &[1, 2, 0]] {
            let takes = takes.iter().copied().collect();
            check(&serve(pending, Script::Takes(takes)));
        }
    }
}

/// Also with a second stop shortly behind the first.
#[test]
fn responses_pass_a_socket_that_stops_anywhere_in_their_framing() {
    for pending in [0, u8::MAX] {
        let output = serve(pending, Script::Takes([usize::MAX].into()));
        let framing = check(&output);
        // Those of short lines, as they precede and follow chunks, and the ends of heads.
        let places = framing
            .into_iter()
            .filter(|line| line.len() < 9)
            .flat_map(|line| line.start.saturating_sub(1)..line.end + 1);
        let mut places: Vec<usize> = places.collect();
        places.dedup();
        for first in places {
            check(&serve(pending, Script::Stops(vec![first])));
            check(&serve(pending, Script::Stops(vec![first, first + 1])));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn responses_pass_any_socket(
        pending in any::<u8>(),
        takes in prop::collection::vec(prop_oneof![0..=3_usize, 0..4_000_usize], 1..40),
    ) {
        // It takes something at last.
        let takes = takes.into_iter().chain([7]).collect();
        check(&serve(pending, Script::Takes(takes)));
    }
}
