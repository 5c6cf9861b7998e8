//! Request bodies by script.

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::Frame;
use landfall::service::RequestBodyError;
use tokio::sync::Notify;

/// The next action of a body.
#[derive(Debug)]
pub(super) enum Step {
    Data(Bytes),
    /// Nothing to give for a moment.
    Pause,
    /// Hangs without an end, and notifies when it is polled.
    Hang(Arc<Notify>),
    /// The connection breaks.
    Break,
    Trailers(HeaderMap),
}

/// A body that follows a script, and then ends.
#[derive(Debug, Default)]
pub(super) struct ScriptedBody(pub(super) VecDeque<Step>);

impl http_body::Body for ScriptedBody {
    type Data = Bytes;
    type Error = RequestBodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, RequestBodyError>>> {
        match self.0.pop_front() {
            None => Poll::Ready(None),
            Some(Step::Data(data)) => Poll::Ready(Some(Ok(Frame::data(data)))),
            Some(Step::Trailers(fields)) => Poll::Ready(Some(Ok(Frame::trailers(fields)))),
            Some(Step::Break) => {
                self.0.push_front(Step::Break);
                Poll::Ready(Some(Err(RequestBodyError::UnexpectedEnd)))
            }
            Some(Step::Pause) => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            Some(Step::Hang(reached)) => {
                reached.notify_one();
                self.0.push_front(Step::Hang(reached));
                Poll::Pending
            }
        }
    }
}

/// A body that yields the bytes sent to it, until the sender is dropped.
#[derive(Debug)]
pub(super) struct SentBody(pub(super) tokio::sync::mpsc::Receiver<Bytes>);

impl http_body::Body for SentBody {
    type Data = Bytes;
    type Error = RequestBodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, RequestBodyError>>> {
        self.0
            .poll_recv(cx)
            .map(|data| data.map(|data| Ok(Frame::data(data))))
    }
}
