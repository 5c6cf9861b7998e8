//! Bytes on their way to the service: shared pieces of memory, sent without copying.

use std::{
    collections::VecDeque,
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

/// The bytes of a part or an object, in memory so that a failed attempt can be made again.
///
/// A clone shares the memory.
#[derive(Clone, Debug, Default)]
pub struct Payload {
    chunks: Vec<Bytes>,
    length: u64,
    sha256: Option<[u8; 32]>,
}

impl Payload {
    /// The bytes of all `chunks` in order. With `sha256`, their digest, the service checks them and
    /// the signature covers them; without it they are sent as `UNSIGNED-PAYLOAD`. The digest is
    /// taken as given: a wrong one makes the service refuse the request.
    pub fn new(chunks: Vec<Bytes>, sha256: Option<[u8; 32]>) -> Self {
        let length = chunks.iter().map(|chunk| chunk.len() as u64).sum();
        Self {
            chunks,
            length,
            sha256,
        }
    }

    /// How many bytes it has.
    pub fn len(&self) -> u64 {
        self.length
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// The pieces, in order.
    pub fn chunks(&self) -> impl Iterator<Item = &Bytes> {
        self.chunks.iter()
    }

    /// The digest that was given.
    pub fn sha256(&self) -> Option<&[u8; 32]> {
        self.sha256.as_ref()
    }

    /// A body that sends it once.
    pub fn body(&self) -> PayloadBody {
        PayloadBody {
            chunks: self
                .chunks
                .iter()
                .filter(|chunk| !chunk.is_empty())
                .cloned()
                .collect(),
            left: self.length,
        }
    }
}

impl From<Bytes> for Payload {
    /// Without a digest.
    fn from(bytes: Bytes) -> Self {
        Self::new(vec![bytes], None)
    }
}

/// The body of one request: the chunks of a [`Payload`], each as a frame.
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
