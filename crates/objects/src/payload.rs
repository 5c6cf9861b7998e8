//! The bytes of one request, as a list of shared buffers that are sent without copying.

use std::{
    collections::VecDeque,
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

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
    /// With `sha256`, the digest of the payload, the service can verify the bytes; a wrong digest makes it
    /// reject the request.
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
mod tests {
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
