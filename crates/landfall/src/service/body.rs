//! Response bodies, which read the bytes of an upload from the store only when the server polls for more.
//!
//! The stated length is exact. An error of the store ends the body before it, so the client notices the missing bytes.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use crate::{
    engine::{Engine, add},
    store::{ByteStream, StoreError},
};

/// The body of a response: empty, a text, or the bytes of an upload.
pub struct ResponseBody(Inner);

enum Inner {
    Empty,
    Full(Bytes),
    Stream {
        bytes: ByteStream,
        left: u64,
        engine: Arc<Engine>,
    },
}

impl ResponseBody {
    pub(super) const fn empty() -> Self {
        Self(Inner::Empty)
    }

    pub(super) fn full(text: impl Into<Bytes>) -> Self {
        let text = text.into();
        Self(if text.is_empty() {
            Inner::Empty
        } else {
            Inner::Full(text)
        })
    }

    pub(super) fn stream(bytes: ByteStream, length: u64, engine: Arc<Engine>) -> Self {
        Self(if length == 0 {
            Inner::Empty
        } else {
            Inner::Stream {
                bytes,
                left: length,
                engine,
            }
        })
    }

    fn len(&self) -> u64 {
        match &self.0 {
            Inner::Empty => 0,
            Inner::Full(text) => text.len() as u64,
            Inner::Stream { left, .. } => *left,
        }
    }
}

impl std::fmt::Debug for ResponseBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ResponseBody({} bytes)", self.len())
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = StoreError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, StoreError>>> {
        match &mut self.0 {
            Inner::Empty => Poll::Ready(None),
            Inner::Full(text) => {
                let text = std::mem::take(text);
                self.0 = Inner::Empty;
                Poll::Ready(Some(Ok(Frame::data(text))))
            }
            Inner::Stream {
                bytes,
                left,
                engine,
            } => match ready!(bytes.as_mut().poll_next(cx)) {
                Some(Ok(chunk)) => {
                    *left = left.saturating_sub(chunk.len() as u64);
                    add(&engine.counters.bytes_sent, chunk.len() as u64);
                    Poll::Ready(Some(Ok(Frame::data(chunk))))
                }
                Some(Err(error)) => {
                    tracing::error!(%error, "failed to read upload for download");
                    Poll::Ready(Some(Err(error)))
                }
                None => {
                    self.0 = Inner::Empty;
                    Poll::Ready(None)
                }
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.0, Inner::Empty)
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.len())
    }
}
