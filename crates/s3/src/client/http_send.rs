//! The seam between the client and its transport, which tests replace.

use std::{
    collections::VecDeque,
    convert::Infallible,
    fmt,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt, combinators::UnsyncBoxBody};
use landfall::BoxError;
use tokio::time::timeout;

/// The body of a response.
pub type ResponseBody = UnsyncBoxBody<Bytes, BoxError>;

/// An HTTP transport that sends one request once. The client adds signing, retries and deadlines.
#[async_trait]
pub trait HttpSend: fmt::Debug + Send + Sync + 'static {
    /// Sends a request with an absolute URI and returns the response once its head has arrived.
    ///
    /// Redirects are returned, not followed.
    ///
    /// # Errors
    /// Any error that prevents a response; it is treated as transient and retried.
    ///
    /// # Cancel safety
    /// A dropped call must abort the exchange. A request that has been sent may still take effect.
    async fn send(&self, request: Request<PayloadBody>)
    -> Result<Response<ResponseBody>, BoxError>;
}

pub(super) async fn collect(
    mut body: ResponseBody,
    idle: Duration,
    max: usize,
) -> Result<Bytes, BoxError> {
    let mut all = BytesMut::new();
    while let Some(frame) = timeout(idle, body.frame()).await.map_err(|_| BodyStalled)? {
        let Ok(data) = frame?.into_data() else {
            continue;
        };
        if all.len() + data.len() > max {
            return Err("the response is too large".into());
        }
        all.extend_from_slice(&data);
    }
    Ok(all.freeze())
}

#[derive(Debug, thiserror::Error)]
#[error("the response body stalled")]
pub(super) struct BodyStalled;

/// The bytes of a part or object, kept in memory for retries.
///
/// Clones share the memory.
#[derive(Clone, Debug, Default)]
pub struct Payload {
    chunks: Vec<Bytes>,
    length: u64,
    sha256: Option<[u8; 32]>,
}

impl Payload {
    /// Creates a payload of all `chunks` in order.
    ///
    /// With `sha256`, the digest of the payload, the signature covers the bytes and the service
    /// verifies them; a wrong digest makes it reject the request. Without it the payload is sent as
    /// `UNSIGNED-PAYLOAD`.
    pub fn new(chunks: Vec<Bytes>, sha256: Option<[u8; 32]>) -> Self {
        let length = chunks.iter().map(|chunk| chunk.len() as u64).sum();
        Self {
            chunks,
            length,
            sha256,
        }
    }

    /// Returns the length in bytes.
    pub fn len(&self) -> u64 {
        self.length
    }

    /// Returns true if the payload is empty.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Returns the chunks in order.
    pub fn chunks(&self) -> impl Iterator<Item = &Bytes> {
        self.chunks.iter()
    }

    /// Returns the digest passed to [`new`](Self::new).
    pub fn sha256(&self) -> Option<&[u8; 32]> {
        self.sha256.as_ref()
    }

    /// Returns a request body with the payload.
    pub fn body(&self) -> PayloadBody {
        let chunks = self.chunks.iter().filter(|chunk| !chunk.is_empty());
        PayloadBody {
            chunks: chunks.cloned().collect(),
            left: self.length,
        }
    }
}

impl From<Bytes> for Payload {
    fn from(bytes: Bytes) -> Self {
        Self::new(vec![bytes], None)
    }
}

/// The body of one request: each chunk of a [`Payload`] is a frame.
#[derive(Debug, Default)]
pub struct PayloadBody {
    chunks: VecDeque<Bytes>,
    left: u64,
}

impl Body for PayloadBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.chunks.pop_front().map(|chunk| {
            self.left -= chunk.len() as u64;
            Ok(Frame::data(chunk))
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.chunks.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

#[cfg(test)]
mod payload_tests {
    use super::*;

    #[tokio::test]
    async fn frames_are_the_chunks_themselves() {
        let chunk = Bytes::from_static(b"abc");
        let payload = Payload::new(
            vec![chunk.clone(), Bytes::new(), Bytes::from_static(b"de")],
            None,
        );
        assert_eq!(payload.len(), 5);
        let mut body = payload.body();
        assert_eq!(body.size_hint().exact(), Some(5));
        let first = frame(&mut body).await.expect("a frame");
        assert_eq!(first.as_ptr(), chunk.as_ptr(), "not copied");
        assert_eq!(body.size_hint().exact(), Some(2));
        assert!(!body.is_end_stream());
        assert_eq!(frame(&mut body).await.expect("a frame"), "de");
        assert!(body.is_end_stream());
        assert!(frame(&mut body).await.is_none());
    }

    async fn frame(body: &mut PayloadBody) -> Option<Bytes> {
        let frame =
            std::future::poll_fn(|context| Pin::new(&mut *body).poll_frame(context)).await?;
        Some(frame.expect("cannot fail").into_data().expect("data"))
    }
}
