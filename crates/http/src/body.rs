//! Bodies: of requests, as the service reads them, and of responses, as hyper sends them.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use landfall::service::InterimSender;

use super::body_error::BodyError;
use super::connection::{ConnectionShared, HELD_BY_SERVICE, RequestGuard};
use super::fair_queue::QueuedBody;
use super::handover::Continuation;
use super::shutdown::ShutdownPhase;
use super::stream::StreamContent;
use super::timeouts::{ConnectionActivity, Phase, PhaseEpoch, READING, TimeoutAction, WRITING};

/// The body of a response.
pub trait ResponseBody:
    http_body::Body<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>>
    + Send
    + 'static
{
}

impl<B> ResponseBody for B
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
}

/// The body of a request: its data frames, then its trailers.
///
/// It may be dropped before its end. A small rest is discarded and the connection is reused; a larger
/// one ends the connection after the response (`Connection: close`).
#[derive(Debug)]
pub struct Body {
    /// `None` once the connection has taken the rest of it.
    inner: Option<RequestContent>,
    kind: Kind,
    /// Received before a handover.
    skip: usize,
    queued: Option<Box<QueuedBody>>,
}

/// The content of a request, as its connection receives it.
#[derive(Debug)]
pub(super) enum RequestContent {
    /// HTTP/1.
    Hyper(Incoming),
    /// HTTP/2 or HTTP/3.
    Stream(Box<StreamContent>),
}

impl http_body::Body for RequestContent {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.get_mut() {
            Self::Hyper(incoming) => {
                let frame = Pin::new(incoming).poll_frame(cx);
                frame.map(|frame| frame.map(|frame| frame.map_err(BodyError::from_hyper)))
            }
            Self::Stream(content) => Pin::new(&mut **content).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Hyper(incoming) => incoming.is_end_stream(),
            Self::Stream(content) => content.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Hyper(incoming) => incoming.size_hint(),
            Self::Stream(content) => content.size_hint(),
        }
    }
}

#[derive(Debug)]
enum Kind {
    Ended,
    /// HTTP/1: `ServerIo` applies the timeouts; `epoch` is the phase of this body.
    Http1 {
        shared: Arc<ConnectionShared>,
        epoch: PhaseEpoch,
    },
    /// HTTP/2 or HTTP/3.
    Stream {
        shared: Arc<ConnectionShared>,
        activity: Arc<ConnectionActivity>,
    },
}

impl Body {
    pub(super) fn new(
        inner: RequestContent,
        shared: &Arc<ConnectionShared>,
        is_multiplexed: bool,
        queued: Option<Box<QueuedBody>>,
    ) -> Self {
        let shared = shared.clone();
        let kind = if inner.is_end_stream() {
            shared.set_unread_bytes(0);
            if !is_multiplexed {
                shared.activity.enter(Phase::Handling);
            }
            Kind::Ended
        } else if is_multiplexed {
            let activity = shared.server.track_new(Phase::Body, false);
            Kind::Stream { shared, activity }
        } else {
            shared.set_unread_bytes(HELD_BY_SERVICE);
            let epoch = shared.activity.enter(Phase::Body);
            Kind::Http1 { shared, epoch }
        };
        Self {
            inner: Some(inner),
            kind,
            skip: 0,
            queued,
        }
    }

    /// The HTTP/1 connection that receives this body.
    pub(super) fn http1_connection(&self) -> Option<&Arc<ConnectionShared>> {
        match &self.kind {
            Kind::Http1 { shared, .. } => Some(shared),
            Kind::Ended | Kind::Stream { .. } => None,
        }
    }

    pub(super) fn stream_interim_sender(&self) -> Option<Arc<dyn InterimSender>> {
        match (&self.kind, &self.inner) {
            (Kind::Stream { .. }, Some(RequestContent::Stream(content))) => {
                Some(content.exchange().clone())
            }
            _ => None,
        }
    }

    fn end(&mut self) {
        self.queued = None;
        match std::mem::replace(&mut self.kind, Kind::Ended) {
            Kind::Ended => {}
            Kind::Http1 { shared, epoch } => {
                shared.set_unread_bytes(0);
                shared.activity.enter_from(epoch, Phase::Handling);
            }
            Kind::Stream { activity, .. } => activity.close(),
        }
    }

    /// The connection must not fail with an error of one of its streams.
    fn stopped(&self, cx: &Context<'_>) -> Option<BodyError> {
        let Kind::Stream { shared, activity } = &self.kind else {
            return None;
        };
        activity.register(cx.waker());
        if shared.server.shutdown_phase() >= ShutdownPhase::Aborting {
            return Some(BodyError::ShuttingDown);
        }
        match activity.action()? {
            TimeoutAction::BodyStalled => Some(BodyError::Timeout),
            TimeoutAction::BodyTooSlow => Some(BodyError::TooSlow),
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
            // The server does not wait for the client now.
            if let Kind::Stream { activity, .. } = &self.kind {
                activity.set_waiting(0);
            }
            return Poll::Pending;
        }
        let is_stream = matches!(self.kind, Kind::Stream { .. });
        loop {
            let Some(inner) = &mut self.inner else {
                return Poll::Ready(None);
            };
            let frame = Pin::new(inner).poll_frame(cx);
            if let Some(queued) = &mut self.queued {
                match &frame {
                    // A stream may have more frames buffered, and the service may wait for its store before it
                    // polls again. Release the turn meanwhile.
                    Poll::Ready(Some(Ok(frame))) if !is_stream => {
                        queued.receive(frame.data_ref().map_or(0, Bytes::len));
                    }
                    _ => queued.release(),
                }
            }
            if let Kind::Stream { activity, .. } = &self.kind {
                activity.set_waiting(if frame.is_pending() { READING } else { 0 });
                if let Poll::Ready(Some(Ok(frame))) = &frame {
                    activity.add_read(frame.data_ref().map_or(0, Bytes::len));
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
                    if let Kind::Http1 { shared, .. } = &self.kind
                        && let Some(replaced) = shared.handover.poll_body(cx)
                    {
                        match ready!(replaced) {
                            Continuation::Data(data) => {
                                return Poll::Ready(Some(Ok(Frame::data(data))));
                            }
                            Continuation::Rest(inner, skip) => {
                                (self.inner, self.skip) =
                                    (Some(RequestContent::Hyper(inner)), skip);
                            }
                        }
                        continue;
                    }
                    return Poll::Ready(match ended {
                        Some(Err(error)) => {
                            if let Kind::Http1 { shared, .. } = &self.kind {
                                // The next request cannot be found, or the time of this one is over.
                                shared.set_must_close(true);
                            }
                            Some(Err(error))
                        }
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
        self.inner
            .as_ref()
            .is_none_or(RequestContent::is_end_stream)
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
            Kind::Http1 { shared, .. } => {
                if let Some(RequestContent::Hyper(inner)) = self.inner.take() {
                    shared.abandon(inner);
                }
            }
            Kind::Stream { activity, .. } => activity.close(),
        }
    }
}

pin_project_lite::pin_project! {
    #[derive(Debug)]
    pub(super) struct OutgoingBody<B> {
        #[pin]
        inner: Either<B, Full<Bytes>>,
        guard: RequestGuard,
        stream: Option<Arc<ConnectionActivity>>,
    }
}

impl<B> OutgoingBody<B> {
    pub(super) fn service(
        body: B,
        guard: RequestGuard,
        stream: Option<Arc<ConnectionActivity>>,
    ) -> Self {
        if let Some(stream) = &stream {
            stream.set_waiting(WRITING);
        } else {
            guard.shared.forget_unsent();
        }
        Self {
            inner: Either::Left(body),
            guard,
            stream,
        }
    }

    pub(super) fn rejection(text: Bytes, guard: RequestGuard) -> Self {
        Self {
            inner: Either::Right(text.into()),
            guard,
            stream: None,
        }
    }
}

impl<B: ResponseBody> http_body::Body for OutgoingBody<B> {
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let me = self.project();
        let is_http1 = !me.guard.is_multiplexed;
        if is_http1 && me.guard.shared.must_send_first() {
            return Poll::Pending;
        }
        let frame = me.inner.poll_frame(cx);
        if let Some(stream) = me.stream {
            // Polled again when the client's window has space.
            stream.set_waiting(if frame.is_pending() { 0 } else { WRITING });
        } else if is_http1 && let Poll::Ready(Some(Ok(frame))) = &frame {
            me.guard
                .shared
                .add_unsent(frame.data_ref().map_or(0, Bytes::len));
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
