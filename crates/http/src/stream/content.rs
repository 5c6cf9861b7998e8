//! The content of a request on a stream.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, EXPECT};
use http::{HeaderMap, Request};
use http_body::{Body, Frame, SizeHint};
use landfall::service::RequestBodyError;

use super::intake::Piece;
use super::window::{ReceiveWindow, WindowUse};
use super::{Exchange, ReceiveHalf};
use crate::limits::timeouts::Phase;

type ContentFrame = Result<Frame<Bytes>, RequestBodyError>;

/// The content of a request of HTTP/2 or HTTP/3.
pub(crate) struct StreamContent {
    has_ended: bool,
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
            let window = WindowUse::new(window.clone());
            exchange.begin_content(Box::new(half), window, content_length(head.headers()));
        }
        let expectation = head.headers().get(EXPECT).map(|value| value.as_bytes());
        Self {
            has_ended,
            expects_continue: expectation
                .is_some_and(|value| value.eq_ignore_ascii_case(b"100-continue")),
            exchange,
        }
    }

    /// Of a protocol in which the end may arrive after the head: most requests without content have ended when
    /// their head arrives.
    pub(crate) fn poll_first(&mut self, cx: &mut Context<'_>) {
        if self.exchange.poll_first(cx) {
            self.has_ended = true;
            self.exchange.end_content();
        }
    }

    pub(crate) fn exchange(&self) -> &Arc<Exchange> {
        &self.exchange
    }

    fn poll_rest(&mut self, cx: &mut Context<'_>) -> Poll<Option<ContentFrame>> {
        if self.has_ended {
            return Poll::Ready(None);
        }
        let (piece, is_last) = self.exchange.poll_content(cx);
        if is_last {
            self.has_ended = true;
            self.exchange.end_content();
        }
        piece.map(|piece| match piece {
            Piece::Data(data) => Some(Ok(Frame::data(data))),
            Piece::End(end) => end
                .map(|trailers| trailers.map(Frame::trailers))
                .transpose(),
        })
    }
}

impl Body for StreamContent {
    type Data = Bytes;
    type Error = RequestBodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<ContentFrame>> {
        if !self.has_ended
            && let Some(error) = self.exchange.stopped(cx)
        {
            return Poll::Ready(Some(Err(error)));
        }
        let frame = self.poll_rest(cx);
        if !self.has_ended {
            self.exchange.set_reading(frame.is_pending());
        }
        if std::mem::take(&mut self.expects_continue) && frame.is_pending() {
            self.exchange.send_continue();
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.has_ended
    }

    fn size_hint(&self) -> SizeHint {
        match (self.has_ended, self.exchange.content_left()) {
            (true, _) => SizeHint::with_exact(0),
            (false, Some(left)) => SizeHint::with_exact(left),
            (false, None) => SizeHint::default(),
        }
    }
}

/// The rest is refused after the response (RFC 9113 section 8.1, RFC 9114 section 4.1).
impl Drop for StreamContent {
    fn drop(&mut self) {
        if !self.has_ended {
            self.exchange.abandon();
        }
    }
}

/// Anything that is not one number is for the service to reject.
fn content_length(fields: &HeaderMap) -> Option<u64> {
    let mut values = fields.get_all(CONTENT_LENGTH).iter();
    let value = values.next()?.to_str().ok()?;
    value.parse().ok().filter(|_| values.next().is_none())
}
