//! Adapters between the bodies of the HTTP server and of the library.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use landfall::{
    service::{RequestBodyError, ResponseBody},
    store::BoxError,
};

use crate::net::{self, BodyError};

/// A request body with the library's error type.
#[derive(Debug)]
pub(super) struct UploadBody(pub(super) net::Body);

impl Body for UploadBody {
    type Data = Bytes;
    type Error = RequestBodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, RequestBodyError>>> {
        Pin::new(&mut self.0)
            .poll_frame(cx)
            .map_err(|error| match error {
                BodyError::Timeout | BodyError::TooSlow => RequestBodyError::Timeout,
                BodyError::Reset => RequestBodyError::Reset,
                BodyError::ShuttingDown => RequestBodyError::ShuttingDown,
                BodyError::Malformed(_) => RequestBodyError::Malformed,
                _ => RequestBodyError::UnexpectedEnd,
            })
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.size_hint()
    }
}

/// A response body: of an upload, or of anything else.
#[derive(Debug)]
pub(super) enum AppBody {
    Upload(ResponseBody),
    Text(Option<Bytes>),
    #[cfg(feature = "grants")]
    Page(axum::body::Body),
}

impl Body for AppBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match &mut *self {
            Self::Upload(body) => Pin::new(body).poll_frame(cx).map_err(Into::into),
            Self::Text(text) => Poll::Ready(text.take().map(|text| Ok(Frame::data(text)))),
            #[cfg(feature = "grants")]
            Self::Page(body) => Pin::new(body).poll_frame(cx).map_err(Into::into),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Upload(body) => body.is_end_stream(),
            Self::Text(text) => text.is_none(),
            #[cfg(feature = "grants")]
            Self::Page(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Upload(body) => body.size_hint(),
            Self::Text(text) => {
                SizeHint::with_exact(text.as_ref().map_or(0, |text| text.len() as u64))
            }
            #[cfg(feature = "grants")]
            Self::Page(body) => body.size_hint(),
        }
    }
}
