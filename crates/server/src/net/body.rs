//! Bodies: of requests, as the service reads them, and of responses, as hyper sends them.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;

use super::edge::{Link, Turn};
use super::shutdown::Step;
use super::turns::QueuedBody;
use super::watch::{Phase, READING, Verdict, WRITING, Watch, Word};

/// Why a request body ended before its end.
///
/// Whatever was read before it is good; the service should keep it. An answer can still be sent
/// (and may reach the client, except after [`Reset`](Self::Reset)); the connection closes with it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BodyError {
    /// No byte came for [`Limits::body_timeout`](super::Limits::body_timeout).
    #[error("no byte of the request body came for too long")]
    Timeout,
    /// The body came below [`Limits::min_rate`](super::Limits::min_rate).
    #[error("the request body came too slowly")]
    TooSlow,
    /// The client reset the connection or, in HTTP/2, the stream.
    #[error("the client reset the connection")]
    Reset,
    /// The client closed its side before the end of the body.
    #[error("the request body ended before it was complete")]
    UnexpectedEnd,
    /// The server is being shut down.
    #[error("the server is shutting down")]
    ShuttingDown,
    /// The framing of the body is invalid: a chunk size, a chunk's end, a trailer.
    #[error("the request body is malformed: {0}")]
    Malformed(String),
    /// Another failure of the connection.
    #[error("the connection failed")]
    Connection(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl BodyError {
    fn from_hyper(error: hyper::Error) -> Self {
        let incomplete = error.is_incomplete_message();
        let Some(io) =
            std::error::Error::source(&error).and_then(|s| s.downcast_ref::<io::Error>())
        else {
            return match incomplete {
                true => Self::UnexpectedEnd,
                // What is left are HTTP/2's stream errors and a connection that went away.
                false => Self::Reset,
            };
        };
        if let Some(stop) = io.get_ref().and_then(|inner| inner.downcast_ref::<Stop>()) {
            return stop.0.error();
        }
        match io.kind() {
            io::ErrorKind::UnexpectedEof => Self::UnexpectedEnd,
            io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData => {
                Self::Malformed(io.to_string())
            }
            io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe => Self::Reset,
            _ => Self::Connection(Box::new(error)),
        }
    }
}

/// Why the wire itself ends a body.
#[derive(Clone, Copy, Debug)]
pub(super) enum Cause {
    Timeout,
    TooSlow,
    ShuttingDown,
}

impl Cause {
    fn error(self) -> BodyError {
        match self {
            Self::Timeout => BodyError::Timeout,
            Self::TooSlow => BodyError::TooSlow,
            Self::ShuttingDown => BodyError::ShuttingDown,
        }
    }
}

/// A [`Cause`] on its way through hyper, which passes I/O errors on to the reader of the body.
#[derive(Debug, thiserror::Error)]
#[error("stopped by the server")]
pub(super) struct Stop(pub(super) Cause);

impl From<Cause> for io::Error {
    fn from(cause: Cause) -> Self {
        Self::other(Stop(cause))
    }
}

/// The body of a request: its data frames and, after them, its trailers.
///
/// Dropping it unread is fine: a small rest is discarded and the connection goes on, a large one
/// ends the connection after the response, which says so.
#[derive(Debug)]
pub struct Body {
    /// `None` once the connection has taken what is left of it.
    inner: Option<Incoming>,
    kind: Kind,
    /// Bytes at the beginning of `inner` that have been received before.
    skip: usize,
    /// Its place among the bodies of its address, where that is counted.
    queued: Option<Box<QueuedBody>>,
}

#[derive(Debug)]
enum Kind {
    /// There is none, or its end has been seen.
    Ended,
    /// The wire does the watching; `word` is the phase this body stands for.
    Http1 { link: Arc<Link>, word: Word },
    /// Streams of one connection wait on their own.
    Http2 { link: Arc<Link>, watch: Arc<Watch> },
}

impl Body {
    pub(super) fn empty(inner: Incoming) -> Self {
        Self {
            inner: Some(inner),
            kind: Kind::Ended,
            skip: 0,
            queued: None,
        }
    }

    pub(super) fn http1(
        inner: Incoming,
        link: Arc<Link>,
        word: Word,
        queued: Option<Box<QueuedBody>>,
    ) -> Self {
        Self {
            inner: Some(inner),
            kind: Kind::Http1 { link, word },
            skip: 0,
            queued,
        }
    }

    pub(super) fn http2(inner: Incoming, link: Arc<Link>, queued: Option<Box<QueuedBody>>) -> Self {
        let watch = Arc::new(Watch::new(Phase::Body, false));
        link.gate.admit(watch.clone());
        Self {
            inner: Some(inner),
            kind: Kind::Http2 { link, watch },
            skip: 0,
            queued,
        }
    }

    fn end(&mut self) {
        self.queued = None;
        match std::mem::replace(&mut self.kind, Kind::Ended) {
            Kind::Ended => {}
            Kind::Http1 { link, word } => {
                link.set_leftover(0);
                link.watch.enter_from(word, Phase::Handling);
            }
            Kind::Http2 { watch, .. } => watch.close(),
        }
    }

    /// For HTTP/2, whose connection can't fail for the sake of one body.
    fn stopped(&self, cx: &Context<'_>) -> Option<BodyError> {
        let Kind::Http2 { link, watch } = &self.kind else {
            return None;
        };
        watch.register(cx.waker());
        if link.gate.step() >= Step::Cutting {
            return Some(BodyError::ShuttingDown);
        }
        match watch.verdict()? {
            Verdict::Stalled => Some(BodyError::Timeout),
            Verdict::TooSlow => Some(BodyError::TooSlow),
            _ => None,
        }
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Some(error) = self.stopped(cx) {
            self.end();
            return Poll::Ready(Some(Err(error)));
        }
        if let Some(queued) = &mut self.queued
            && queued.poll_turn(cx).is_pending()
        {
            // The client isn't waited for.
            if let Kind::Http2 { watch, .. } = &self.kind {
                watch.set_waiting(0);
            }
            return Poll::Pending;
        }
        let is_http2 = matches!(self.kind, Kind::Http2 { .. });
        loop {
            let Some(inner) = &mut self.inner else {
                return Poll::Ready(None);
            };
            let frame = Pin::new(inner).poll_frame(cx);
            if let Some(queued) = &mut self.queued {
                match &frame {
                    // Over HTTP/2 more frames may be at hand, so that the service may wait for its
                    // store before it polls again: not in its turn.
                    Poll::Ready(Some(Ok(frame))) if !is_http2 => {
                        queued.receive(frame.data_ref().map_or(0, Bytes::len));
                    }
                    _ => queued.release(),
                }
            }
            if let Kind::Http2 { watch, .. } = &self.kind {
                watch.set_waiting(if frame.is_pending() { READING } else { 0 });
                if let Poll::Ready(Some(Ok(frame))) = &frame {
                    watch.add_read(frame.data_ref().map_or(0, Bytes::len));
                }
            }
            match ready!(frame) {
                Some(Ok(frame)) if self.skip > 0 && frame.is_data() => {
                    let mut data = frame.into_data().unwrap_or_default();
                    let skipped = data.len().min(self.skip);
                    self.skip -= skipped;
                    data.advance(skipped);
                    if !data.is_empty() {
                        return Poll::Ready(Some(Ok(Frame::data(data))));
                    }
                }
                Some(Ok(frame)) => {
                    if self.is_end_stream() || frame.is_trailers() {
                        self.end();
                    }
                    return Poll::Ready(Some(Ok(frame)));
                }
                ended => {
                    if let Kind::Http1 { link, .. } = &self.kind
                        && let Some(replaced) = link.handover.poll_body(cx)
                    {
                        let (inner, skip) = ready!(replaced);
                        (self.inner, self.skip) = (Some(inner), skip);
                        continue;
                    }
                    return Poll::Ready(match ended {
                        Some(Err(error)) => Some(Err(BodyError::from_hyper(error))),
                        _ => {
                            self.end();
                            None
                        }
                    });
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(Incoming::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        match &self.inner {
            Some(inner) => inner.size_hint(),
            None => SizeHint::with_exact(0),
        }
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        match &self.kind {
            Kind::Ended => {}
            Kind::Http1 { link, .. } => {
                if let Some(inner) = self.inner.take() {
                    link.abandon(inner);
                }
            }
            Kind::Http2 { watch, .. } => watch.close(),
        }
    }
}

pin_project_lite::pin_project! {
    /// The body of a response on its way to hyper.
    #[derive(Debug)]
    pub(super) struct Reply<B> {
        #[pin]
        inner: Content<B>,
        // Dropped when hyper has taken all of it.
        turn: Turn,
        // HTTP/2: what the sweeper sees of this stream.
        stream: Option<Arc<Watch>>,
    }
}

pin_project_lite::pin_project! {
    #[project = ContentProjection]
    #[derive(Debug)]
    enum Content<B> {
        Service { #[pin] body: B },
        Refusal { text: Option<Bytes> },
    }
}

impl<B> Reply<B> {
    pub(super) fn service(body: B, turn: Turn, stream: Option<Arc<Watch>>) -> Self {
        if let Some(stream) = &stream {
            stream.set_waiting(WRITING);
        }
        Self {
            inner: Content::Service { body },
            turn,
            stream,
        }
    }

    pub(super) fn refusal(text: Bytes, turn: Turn) -> Self {
        Self {
            inner: Content::Refusal { text: Some(text) },
            turn,
            stream: None,
        }
    }
}

impl<B> http_body::Body for Reply<B>
where
    B: http_body::Body<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let me = self.project();
        match me.inner.project() {
            ContentProjection::Service { body } => {
                let frame = body.poll_frame(cx);
                if let Some(stream) = me.stream {
                    // hyper asks again when the client has room for more.
                    stream.set_waiting(if frame.is_pending() { 0 } else { WRITING });
                    if let Poll::Ready(Some(Ok(frame))) = &frame {
                        stream.add_written(frame.data_ref().map_or(0, Bytes::len));
                    }
                }
                frame
            }
            ContentProjection::Refusal { text } => {
                Poll::Ready(text.take().map(|text| Ok(Frame::data(text))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.inner {
            Content::Service { body } => body.is_end_stream(),
            Content::Refusal { text } => text.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.inner {
            Content::Service { body } => body.size_hint(),
            Content::Refusal { text } => {
                SizeHint::with_exact(text.as_ref().map_or(0, |text| text.len() as u64))
            }
        }
    }
}
