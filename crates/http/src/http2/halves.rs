//! The halves of a stream.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, Response};
use landfall::service::RequestBodyError;

use crate::connection::ConnectionShared;
use crate::stream::{ReceiveHalf, SendHalf, task};

/// The most that is passed to h2 at once.
const MAX_PIECE: usize = 32 * 1024;

/// Interim responses of a stream are not limited by flow control. More than 100 (Continue) and the announcement of
/// an upload wait until the socket has been flushed.
const MAX_UNFLUSHED: usize = 2;

pub(super) struct Receiving(pub(super) RecvStream);

impl ReceiveHalf for Receiving {
    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, RequestBodyError>> {
        let data = ready!(self.0.poll_data(cx)).transpose();
        Poll::Ready(data.map_err(|error| body_error(&error)))
    }

    fn release(&mut self, len: usize) {
        // Fails only for more than has arrived.
        let _ = self.0.flow_control().release_capacity(len);
    }

    fn keeps_window(&self) -> bool {
        true
    }

    fn poll_trailers(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<HeaderMap>, RequestBodyError>> {
        self.0.poll_trailers(cx).map_err(|error| body_error(&error))
    }

    fn has_ended(&self) -> bool {
        self.0.is_end_stream()
    }

    /// h2 discards what arrives, up to the window of the stream.
    fn ignore(self: Box<Self>) -> Option<Box<dyn ReceiveHalf>> {
        None
    }

    /// h2 sends RST_STREAM with NO_ERROR when both halves are dropped after the response.
    fn refuse(self: Box<Self>) {}
}

fn body_error(error: &h2::Error) -> RequestBodyError {
    match error.is_library() && error.is_reset() {
        true => RequestBodyError::Malformed,
        false => RequestBodyError::Reset,
    }
}

pub(super) struct Sending {
    response: SendResponse<Bytes>,
    /// After the head.
    body: Option<SendStream<Bytes>>,
    /// Interim responses since the socket was flushed for the last time,
    unflushed: usize,
    /// and how often that was.
    flushes: u32,
    shared: Arc<ConnectionShared>,
}

impl Sending {
    pub(super) fn new(response: SendResponse<Bytes>, shared: Arc<ConnectionShared>) -> Self {
        Self {
            response,
            body: None,
            unflushed: 0,
            flushes: 0,
            shared,
        }
    }

    /// Returns how many of the next bytes can be sent now.
    fn poll_capacity(
        &mut self,
        cx: &mut Context<'_>,
        wanted: usize,
    ) -> Poll<Result<usize, h2::Error>> {
        if let Some(body) = &mut self.body
            && let Poll::Ready(reset) = body.poll_reset(cx)
        {
            return Poll::Ready(Err(reset.map_or_else(|error| error, h2::Error::from)));
        }
        let Some(body) = self.body.as_mut().filter(|_| wanted > 0) else {
            return Poll::Ready(Ok(wanted));
        };
        // Not more than the client takes now, so that the sweeper notices one that takes nothing.
        body.reserve_capacity(wanted.min(MAX_PIECE));
        let capacity = match body.capacity() {
            0 => ready!(body.poll_capacity(cx)).unwrap_or(Err(Reason::CANCEL.into()))?,
            capacity => capacity,
        };
        Poll::Ready(Ok(capacity.min(wanted)))
    }
}

impl SendHalf for Sending {
    type Error = h2::Error;

    fn can_send_interim(&mut self) -> bool {
        let flushes = self.shared.flushes.load(Relaxed);
        if flushes != self.flushes {
            (self.unflushed, self.flushes) = (0, flushes);
        }
        self.unflushed < MAX_UNFLUSHED
    }

    async fn send_interim(&mut self, head: Response<()>) -> Result<(), h2::Error> {
        self.unflushed += 1;
        self.response.send_informational(head)
    }

    async fn send_head(&mut self, head: Response<()>, is_end: bool) -> Result<(), h2::Error> {
        self.body = Some(self.response.send_response(head, is_end)?);
        Ok(())
    }

    async fn send_data(&mut self, mut data: Bytes, is_end: bool) -> Result<(), h2::Error> {
        while is_end || !data.is_empty() {
            let capacity = poll_fn(|cx| self.poll_capacity(cx, data.len())).await?;
            let piece = data.split_to(capacity);
            task::count_written(piece.len());
            if let Some(body) = &mut self.body {
                body.send_data(piece, is_end && data.is_empty())?;
            }
            if data.is_empty() {
                break;
            }
        }
        Ok(())
    }

    async fn send_trailers(&mut self, trailers: HeaderMap) -> Result<(), h2::Error> {
        match &mut self.body {
            Some(body) => body.send_trailers(trailers),
            None => Ok(()),
        }
    }

    fn poll_left(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let reset = match &mut self.body {
            Some(body) => body.poll_reset(cx),
            None => self.response.poll_reset(cx),
        };
        reset.map(drop)
    }

    fn cut(&mut self) {
        self.response.send_reset(Reason::INTERNAL_ERROR);
    }
}
