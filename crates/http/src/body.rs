//! Bodies: of requests, as the service reads them, and of responses.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use landfall::service::{InterimSender, RequestBodyError};

use super::http1::Http1Content;
use super::limits::fair_queue::QueuedBody;
use super::stream::StreamContent;

/// The body of a response.
pub trait ResponseBody:
    http_body::Body<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>>
    + Send
    + Unpin
    + 'static
{
}

impl<B> ResponseBody for B
where
    B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
}

/// The body of a request: its data frames, then its trailers.
///
/// It may be dropped before its end. A small rest is discarded and the connection is reused; a larger
/// one ends the connection after the response (`Connection: close`).
#[derive(Default)]
pub struct Body {
    content: RequestContent,
    queued: Option<Box<QueuedBody>>,
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Body").finish_non_exhaustive()
    }
}

/// The content of a request, as its connection receives it.
#[derive(Default)]
pub(super) enum RequestContent {
    /// None, or no more.
    #[default]
    Ended,
    /// HTTP/1.
    Http1(Http1Content),
    /// HTTP/2 or HTTP/3.
    Stream(Box<StreamContent>),
}

impl RequestContent {
    fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, RequestBodyError>>> {
        match self {
            Self::Ended => Poll::Ready(None),
            Self::Http1(content) => content.poll_frame(cx),
            Self::Stream(content) => Pin::new(&mut **content).poll_frame(cx),
        }
    }

    pub(super) fn is_end(&self) -> bool {
        match self {
            Self::Ended => true,
            Self::Http1(content) => content.is_end(),
            Self::Stream(content) => content.is_end_stream(),
        }
    }
}

impl Body {
    pub(super) fn new(content: RequestContent, queued: Option<Box<QueuedBody>>) -> Self {
        Self { content, queued }
    }

    pub(super) fn interim_sender(&self) -> Option<Arc<dyn InterimSender>> {
        match &self.content {
            RequestContent::Http1(content) => Some(content.interim_sender()),
            RequestContent::Stream(content) if !content.is_end_stream() => {
                Some(content.exchange().clone())
            }
            _ => None,
        }
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = RequestBodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, RequestBodyError>>> {
        let me = &mut *self;
        if let Some(queued) = &mut me.queued
            && queued.poll_turn(cx).is_pending()
        {
            // The server does not wait for the client now.
            if let RequestContent::Stream(content) = &me.content {
                content.exchange().set_reading(false);
            }
            return Poll::Pending;
        }
        let frame = me.content.poll_frame(cx);
        if let Some(queued) = &mut me.queued {
            match &frame {
                // A stream may have more frames buffered, and the service may wait for its store before it
                // polls again. Release the turn meanwhile.
                Poll::Ready(Some(Ok(frame))) if matches!(me.content, RequestContent::Http1(_)) => {
                    queued.receive(frame.data_ref().map_or(0, Bytes::len));
                }
                _ => queued.release(),
            }
        }
        let is_end = match &frame {
            Poll::Ready(None) => true,
            Poll::Ready(Some(Ok(frame))) => frame.is_trailers() || me.content.is_end(),
            Poll::Ready(Some(Err(_))) | Poll::Pending => false,
        };
        if is_end {
            me.queued = None;
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.content.is_end()
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            RequestContent::Ended => SizeHint::with_exact(0),
            RequestContent::Http1(content) => content.size_hint(),
            RequestContent::Stream(content) => content.size_hint(),
        }
    }
}
