//! Adapters between the bodies of the HTTP server and of the library.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt as _, Full, combinators::MapErr};
use landfall::{
    service::{RequestBodyError, ResponseBody},
    store::BoxError,
};

use crate::net::{self, BodyError};

/// A request body with the library's error type.
pub(super) type UploadBody = MapErr<net::Body, fn(BodyError) -> RequestBodyError>;

/// Converts a request body.
pub(super) fn upload_body(body: net::Body) -> UploadBody {
    body.map_err(|error| match error {
        BodyError::Timeout | BodyError::TooSlow => RequestBodyError::Timeout,
        BodyError::Reset => RequestBodyError::Reset,
        BodyError::ShuttingDown => RequestBodyError::ShuttingDown,
        BodyError::Malformed(_) => RequestBodyError::Malformed,
        _ => RequestBodyError::UnexpectedEnd,
    })
}

/// A response body: of an upload, or of anything else.
#[derive(Debug)]
pub(super) enum AppBody {
    Upload(ResponseBody),
    Text(Full<Bytes>),
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
            Self::Text(text) => Pin::new(text)
                .poll_frame(cx)
                .map_err(|never| match never {}),
            #[cfg(feature = "grants")]
            Self::Page(body) => Pin::new(body).poll_frame(cx).map_err(Into::into),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Upload(body) => body.is_end_stream(),
            Self::Text(text) => text.is_end_stream(),
            #[cfg(feature = "grants")]
            Self::Page(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Upload(body) => body.size_hint(),
            Self::Text(text) => text.size_hint(),
            #[cfg(feature = "grants")]
            Self::Page(body) => body.size_hint(),
        }
    }
}
