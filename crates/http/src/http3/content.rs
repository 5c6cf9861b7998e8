//! The content of a request.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use h3::error::StreamError;
use http_body::{Body, Frame, SizeHint};

use super::interim::{Exchange, Receiving};
use super::window::{ReceiveWindow, WINDOW};
use crate::body_error::BodyError;
use crate::stats::NetStats;

/// The content of a request of HTTP/3.
pub(crate) struct Http3Content {
    /// `None` after the end.
    receiving: Option<Receiving>,
    /// Polled before the request was passed on.
    first: Option<Result<Frame<Bytes>, BodyError>>,
    has_data_ended: bool,
    /// Bytes of `Content-Length` that have not arrived.
    missing: Option<u64>,
    received: u64,
    exchange: Arc<Exchange>,
    window: Arc<ReceiveWindow>,
    has_large_window: bool,
}

impl std::fmt::Debug for Http3Content {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Http3Content")
            .field("missing", &self.missing)
            .field("received", &self.received)
            .finish_non_exhaustive()
    }
}

impl Http3Content {
    pub(super) fn new(
        receiving: Receiving,
        content_length: Option<u64>,
        exchange: Arc<Exchange>,
        window: Arc<ReceiveWindow>,
    ) -> Self {
        Self {
            receiving: Some(receiving),
            first: None,
            has_data_ended: false,
            missing: content_length,
            received: 0,
            exchange,
            window,
            has_large_window: false,
        }
    }

    /// Most requests without content have ended when their head arrives.
    pub(super) fn poll_first(&mut self, cx: &mut Context<'_>) {
        if let Poll::Ready(first) = self.poll_rest(cx) {
            self.first = first;
        }
    }

    fn poll_rest(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = match ready!(self.poll_data(cx)) {
            Ok(Some(data)) => return Poll::Ready(Some(Ok(Frame::data(data)))),
            Ok(None) => match &mut self.receiving {
                Some(receiving) => ready!(receiving.poll_recv_trailers(cx))
                    .map_err(body_error)
                    .transpose(),
                None => None,
            },
            Err(error) => Some(Err(error)),
        };
        self.end();
        Poll::Ready(frame.map(|frame| frame.map(Frame::trailers)))
    }

    pub(crate) fn exchange(&self) -> &Arc<Exchange> {
        &self.exchange
    }

    /// `None` after the data, and after the end.
    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, BodyError>> {
        let Some(receiving) = self.receiving.as_mut().filter(|_| !self.has_data_ended) else {
            return Poll::Ready(Ok(None));
        };
        let data = ready!(receiving.poll_recv_data(cx)).map_err(body_error)?;
        // The buffer is one `Bytes`, which is not copied.
        let data = data.map(|mut data| data.copy_to_bytes(data.remaining()));
        let Some(data) = data else {
            self.has_data_ended = true;
            return Poll::Ready(match self.missing {
                Some(1..) => Err(BodyError::UnexpectedEnd),
                _ => Ok(None),
            });
        };
        let len = data.len() as u64;
        if let Some(missing) = &mut self.missing {
            *missing = missing.checked_sub(len).ok_or_else(|| {
                BodyError::Malformed("the content is longer than its Content-Length".to_owned())
            })?;
        }
        self.received += len;
        NetStats::add(&self.window.server.stats.bytes_in, len);
        if self.received > WINDOW && !self.has_large_window {
            self.has_large_window = self.window.enlarge();
        }
        Poll::Ready(Ok(Some(data)))
    }

    fn end(&mut self) {
        self.receiving = None;
        self.restore_window();
    }

    fn restore_window(&mut self) {
        if std::mem::take(&mut self.has_large_window) {
            self.window.restore();
        }
    }
}

impl Body for Http3Content {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.first.take() {
            Some(first) => Poll::Ready(Some(first)),
            None => self.poll_rest(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.receiving.is_none() && self.first.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        let first = self.first.as_ref().and_then(|first| first.as_ref().ok());
        let first = first.and_then(Frame::data_ref).map_or(0, Bytes::len) as u64;
        match (&self.receiving, self.missing) {
            (None, _) => SizeHint::with_exact(0),
            (Some(_), Some(missing)) => SizeHint::with_exact(first + missing),
            (Some(_), None) => SizeHint::default(),
        }
    }
}

/// The rest is refused after the response (RFC 9114 section 4.1).
impl Drop for Http3Content {
    fn drop(&mut self) {
        self.restore_window();
        if let Some(receiving) = self.receiving.take() {
            self.exchange.abandon(receiving);
        }
    }
}

fn body_error(error: StreamError) -> BodyError {
    match error {
        StreamError::RemoteTerminate { .. } | StreamError::ConnectionError { .. } => {
            BodyError::Reset
        }
        StreamError::HeaderTooBig { .. } => {
            BodyError::Malformed("the trailers are too long".to_owned())
        }
        StreamError::StreamError { reason, .. } => BodyError::Malformed(reason),
        _ => BodyError::UnexpectedEnd,
    }
}
