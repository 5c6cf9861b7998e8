//! Streams of requests as the codec reads them, and as hyper's server does. The fuzz targets use this file, too.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::mem;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderMap, Request, Response, Version};
use http_body_util::{BodyExt, Full};
use landfall_http::HttpRejection;
use landfall_http::http1::{
    ContentDecoder, Decoded, Framing, HeadRules, HeadSearch, empty_lines, parse,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

pub(crate) type Fields = Vec<(String, Vec<u8>)>;

/// A request, with as much of its content as there was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) version: Version,
    pub(crate) fields: Fields,
    pub(crate) content: Vec<u8>,
    pub(crate) trailers: Option<Fields>,
    pub(crate) is_complete: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// All bytes were read, perhaps of an incomplete request.
    Open,
    /// The last request does not keep the connection.
    Closes,
    Rejected(HttpRejection),
    Malformed(&'static str),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stream {
    pub(crate) requests: Vec<Found>,
    pub(crate) ending: Ending,
    /// Of the last request.
    pub(crate) framing: Framing,
    pub(crate) expects_continue: bool,
}

/// `input` in pieces of these lengths, repeatedly.
pub(crate) fn cut<'a>(input: &'a [u8], lengths: &'a [usize]) -> impl Iterator<Item = &'a [u8]> {
    let mut lengths = lengths.iter().cycle();
    let mut rest = input;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let length = lengths.next().copied().unwrap_or(usize::MAX);
        let (piece, after) = rest.split_at(length.clamp(1, rest.len()));
        rest = after;
        Some(piece)
    })
}

/// Reads with the codec, as a connection does.
pub(crate) fn read<'a>(pieces: impl Iterator<Item = &'a [u8]>, rules: &HeadRules) -> Stream {
    let mut reader = Reader {
        input: BytesMut::new(),
        search: HeadSearch::default(),
        content: ContentDecoder::new(Framing::None, 0),
        keeps: true,
        found: Stream {
            requests: Vec::new(),
            ending: Ending::Open,
            framing: Framing::None,
            expects_continue: false,
        },
    };
    for piece in pieces {
        reader.input.extend_from_slice(piece);
        while reader.found.ending == Ending::Open && reader.step(rules) {}
    }
    reader.found
}

struct Reader {
    input: BytesMut,
    search: HeadSearch,
    content: ContentDecoder,
    keeps: bool,
    found: Stream,
}

impl Reader {
    /// Returns false if it needs more input.
    fn step(&mut self, rules: &HeadRules) -> bool {
        match self.found.requests.last() {
            Some(Found {
                is_complete: false, ..
            }) => self.read_content(),
            Some(_) if !self.keeps => {
                self.found.ending = Ending::Closes;
                false
            }
            _ => self.read_head(rules),
        }
    }

    fn read_content(&mut self) -> bool {
        let Some(request) = self.found.requests.last_mut() else {
            return false;
        };
        match self.content.decode(&mut self.input) {
            Ok(None) => {
                assert!(self.input.is_empty() && !self.content.is_end());
                return false;
            }
            Ok(Some(Decoded::Data(data))) => {
                assert!(!data.is_empty());
                request.content.extend_from_slice(&data);
            }
            Ok(Some(Decoded::Trailers(fields))) => {
                request.trailers = Some(list(&fields));
                request.is_complete = true;
            }
            Ok(Some(Decoded::End)) => request.is_complete = true,
            Err(malformed) => {
                assert_eq!(self.content.decode(&mut self.input), Err(malformed));
                self.found.ending = Ending::Malformed(malformed.0);
            }
        }
        assert!(!request.is_complete || self.content.is_end());
        true
    }

    fn read_head(&mut self, rules: &HeadRules) -> bool {
        self.input.advance(empty_lines(&self.input));
        if self.input.is_empty() {
            return false;
        }
        let end = match self.search.end(&self.input, rules.max_head) {
            Ok(Some(end)) => end,
            Ok(None) => {
                assert!(self.input.len() <= rules.max_head);
                return false;
            }
            Err(rejection) => {
                self.found.ending = Ending::Rejected(rejection);
                return false;
            }
        };
        assert!(end <= rules.max_head);
        let head = self.input.split_to(end).freeze();
        let search = mem::take(&mut self.search);
        let head = match parse(&head, &search, HeaderMap::new(), rules) {
            Ok(head) => head,
            Err(rejection) => {
                self.found.ending = Ending::Rejected(rejection);
                return false;
            }
        };
        self.content = ContentDecoder::new(head.framing, rules.max_head);
        self.keeps = head.keep_alive;
        self.found.framing = head.framing;
        self.found.expects_continue = head.expects_continue;
        self.found.requests.push(found(&head.request));
        true
    }
}

fn found<B>(request: &Request<B>) -> Found {
    Found {
        method: request.method().to_string(),
        target: request.uri().to_string(),
        version: request.version(),
        fields: list(request.headers()),
        content: Vec::new(),
        trailers: None,
        is_complete: false,
    }
}

pub(crate) fn list(fields: &HeaderMap) -> Fields {
    let field = |(name, value): (&http::HeaderName, &http::HeaderValue)| {
        (name.as_str().to_owned(), value.as_bytes().to_vec())
    };
    fields.iter().map(field).collect()
}

/// Reads with hyper's server. Returns the requests, and its output.
pub(crate) fn read_with_hyper<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<Found>, String) {
    let requests = Arc::new(Mutex::new(Vec::new()));
    let written = Arc::new(Mutex::new(Vec::new()));
    let seen = requests.clone();
    let service = hyper::service::service_fn(move |request: Request<hyper::body::Incoming>| {
        let seen = seen.clone();
        async move {
            collect(request, &seen).await;
            Ok::<_, Infallible>(Response::new(Full::new(Bytes::new())))
        }
    });
    let io = hyper_util::rt::TokioIo::new(Memory {
        unread: pieces.map(Bytes::copy_from_slice).collect(),
        written: written.clone(),
    });
    let mut builder = hyper::server::conn::http1::Builder::new();
    let mut connection = std::pin::pin!(builder.half_close(true).serve_connection(io, service));
    // It waits for nothing but itself.
    let mut context = Context::from_waker(Waker::noop());
    for turn in 0.. {
        assert!(turn < 1_000_000, "hyper does not end");
        if connection.as_mut().poll(&mut context).is_ready() {
            break;
        }
    }
    let requests = requests.lock().expect("no panic").clone();
    let written = String::from_utf8_lossy(&written.lock().expect("no panic")).into_owned();
    (requests, written)
}

async fn collect(request: Request<hyper::body::Incoming>, seen: &Mutex<Vec<Found>>) {
    let at = {
        let mut seen = seen.lock().expect("no panic");
        seen.push(found(&request));
        seen.len() - 1
    };
    let mut body = request.into_body();
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else {
            return;
        };
        let request = &mut seen.lock().expect("no panic")[at];
        match frame.into_data() {
            Ok(data) => request.content.extend_from_slice(&data),
            Err(other) => request.trailers = other.trailers_ref().map(list),
        }
    }
    seen.lock().expect("no panic")[at].is_complete = true;
}

/// A socket whose client has sent everything.
struct Memory {
    unread: VecDeque<Bytes>,
    written: Arc<Mutex<Vec<u8>>>,
}

impl AsyncRead for Memory {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some(piece) = self.unread.front_mut() {
            let taken = piece.split_to(piece.len().min(into.remaining()));
            into.put_slice(&taken);
            if piece.is_empty() {
                self.unread.pop_front();
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Memory {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.written
            .lock()
            .expect("no panic")
            .extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
