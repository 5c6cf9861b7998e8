//! The content of a request on a stream.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, EXPECT};
use http::{HeaderMap, Request};
use http_body::{Body, Frame, SizeHint};
use landfall::service::RequestBodyError;

use super::window::{ReceiveWindow, WindowUse};
use super::{Exchange, ReceiveHalf};
use crate::limits::timeouts::Phase;

type ContentFrame = Result<Frame<Bytes>, RequestBodyError>;

/// The content of a request of HTTP/2 or HTTP/3.
pub(crate) struct StreamContent {
    /// `None` after the end.
    half: Option<Box<dyn ReceiveHalf>>,
    has_data_ended: bool,
    window: WindowUse,
    /// Polled before the request was passed on.
    first: Option<ContentFrame>,
    /// Bytes of `Content-Length` that have not arrived.
    missing: Option<u64>,
    /// The client waits for 100 (Continue).
    expects_continue: bool,
    exchange: Arc<Exchange>,
}

impl StreamContent {
    pub(crate) fn new(
        half: impl ReceiveHalf,
        head: &Request<()>,
        window: &Arc<ReceiveWindow>,
        exchange: Arc<Exchange>,
    ) -> Self {
        let has_ended = half.has_ended();
        if !has_ended {
            exchange.activity.enter(Phase::Body);
        }
        let half: Box<dyn ReceiveHalf> = Box::new(half);
        let expectation = head.headers().get(EXPECT).map(|value| value.as_bytes());
        Self {
            half: Some(half).filter(|_| !has_ended),
            has_data_ended: false,
            window: WindowUse::new(window.clone()),
            first: None,
            missing: content_length(head.headers()),
            expects_continue: expectation
                .is_some_and(|value| value.eq_ignore_ascii_case(b"100-continue")),
            exchange,
        }
    }

    /// Of a protocol in which the end may arrive after the head: most requests without content have ended when
    /// their head arrives.
    pub(crate) fn poll_first(&mut self, cx: &mut Context<'_>) {
        if let Poll::Ready(first) = self.poll_rest(cx) {
            self.first = first;
        }
    }

    pub(crate) fn exchange(&self) -> &Arc<Exchange> {
        &self.exchange
    }

    fn poll_rest(&mut self, cx: &mut Context<'_>) -> Poll<Option<ContentFrame>> {
        let Some(mut half) = self.half.take() else {
            return Poll::Ready(None);
        };
        let frame = self.poll_half(cx, &mut *half).map(Result::transpose);
        let is_last = match &frame {
            Poll::Pending => false,
            Poll::Ready(Some(Ok(frame))) => frame.is_trailers() || half.has_ended(),
            Poll::Ready(_) => true,
        };
        if is_last {
            self.window.restore();
            self.exchange.end_content();
        } else {
            self.half = Some(half);
        }
        frame
    }

    fn poll_half(
        &mut self,
        cx: &mut Context<'_>,
        half: &mut dyn ReceiveHalf,
    ) -> Poll<Result<Option<Frame<Bytes>>, RequestBodyError>> {
        if !self.has_data_ended {
            if let Some(data) = ready!(half.poll_data(cx))? {
                let len = data.len() as u64;
                if let Some(missing) = &mut self.missing {
                    // The content may be longer than its `Content-Length`.
                    let less = missing.checked_sub(len);
                    *missing = less.ok_or(RequestBodyError::Malformed)?;
                }
                self.window.receive(len);
                self.exchange.activity.add_read(data.len());
                return Poll::Ready(Ok(Some(Frame::data(data))));
            }
            self.has_data_ended = true;
            if self.missing.is_some_and(|missing| missing > 0) {
                return Poll::Ready(Err(RequestBodyError::UnexpectedEnd));
            }
        }
        let trailers = ready!(half.poll_trailers(cx))?;
        Poll::Ready(Ok(trailers.map(Frame::trailers)))
    }
}

impl Body for StreamContent {
    type Data = Bytes;
    type Error = RequestBodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<ContentFrame>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(first));
        }
        if self.half.is_some()
            && let Some(error) = self.exchange.stopped(cx)
        {
            return Poll::Ready(Some(Err(error)));
        }
        let frame = self.poll_rest(cx);
        if self.half.is_some() {
            self.exchange.set_reading(frame.is_pending());
        }
        if std::mem::take(&mut self.expects_continue) && frame.is_pending() {
            self.exchange.send_continue();
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.half.is_none() && self.first.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        let first = self.first.as_ref().and_then(|first| first.as_ref().ok());
        let first = first.and_then(Frame::data_ref).map_or(0, Bytes::len) as u64;
        match (&self.half, self.missing) {
            (None, _) => SizeHint::with_exact(first),
            (Some(_), Some(missing)) => SizeHint::with_exact(first + missing),
            (Some(_), None) => SizeHint::default(),
        }
    }
}

/// The rest is refused after the response (RFC 9113 section 8.1, RFC 9114 section 4.1).
impl Drop for StreamContent {
    fn drop(&mut self) {
        if let Some(half) = self.half.take() {
            self.exchange.abandon(half, self.missing);
        }
    }
}

/// Anything that is not one number is for the service to reject.
fn content_length(fields: &HeaderMap) -> Option<u64> {
    let mut values = fields.get_all(CONTENT_LENGTH).iter();
    let value = values.next()?.to_str().ok()?;
    value.parse().ok().filter(|_| values.next().is_none())
}
