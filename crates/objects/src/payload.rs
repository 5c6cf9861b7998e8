//! The bytes of one request, as a list of shared buffers that are sent without copying. It sends nothing.

use std::{
    collections::VecDeque,
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::sync::watch;

/// The bytes of a part or object, kept in memory for retries.
///
/// Clones share the memory.
#[derive(Clone, Debug, Default)]
pub struct Payload {
    chunks: Vec<Bytes>,
    length: u64,
    sha256: Option<[u8; 32]>,
    gate: Option<Barrier>,
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
            gate: None,
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
            gate: self.gate.clone(),
            waiting: None,
        }
    }

    /// Holds back the last chunk of each body until the gate opens. If it never will, the body fails.
    #[must_use]
    pub fn behind(mut self, gate: Barrier) -> Self {
        self.gate = Some(gate);
        self
    }

    /// Returns this payload between two other texts.
    #[must_use]
    pub fn between(self, before: Bytes, after: Bytes) -> Self {
        let chunks = [before].into_iter().chain(self.chunks).chain([after]);
        Self {
            gate: self.gate,
            ..Self::new(chunks.collect(), None)
        }
    }
}

impl From<Bytes> for Payload {
    fn from(bytes: Bytes) -> Self {
        Self::new(vec![bytes], None)
    }
}

/// The body of one request: each chunk of a [`Payload`] is a frame.
#[derive(Default)]
pub struct PayloadBody {
    chunks: VecDeque<Bytes>,
    left: u64,
    gate: Option<Barrier>,
    waiting: Option<Pin<Box<dyn Future<Output = bool> + Send>>>,
}

impl fmt::Debug for PayloadBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("PayloadBody");
        debug.field("left", &self.left).finish_non_exhaustive()
    }
}

/// Opens once; clones are one gate.
#[derive(Clone, Debug)]
pub struct Barrier(watch::Receiver<bool>);

/// The key of a gate, which never opens if this is dropped.
#[derive(Debug)]
pub struct BarrierKey(watch::Sender<bool>);

impl Barrier {
    /// Creates a closed gate and its key.
    pub fn new() -> (BarrierKey, Self) {
        let (key, gate) = watch::channel(false);
        (BarrierKey(key), Self(gate))
    }

    /// Waits until the gate opens; returns false if it never will.
    pub async fn opened(mut self) -> bool {
        self.0.wait_for(|is_open| *is_open).await.is_ok()
    }
}

impl BarrierKey {
    /// Opens the gate.
    pub fn open(self) {
        self.0.send_replace(true);
    }
}

/// The bytes before those of a body were not stored.
#[derive(Debug, thiserror::Error)]
#[error("the part before this one was not stored")]
pub struct NeverOpened;

impl Body for PayloadBody {
    type Data = Bytes;
    type Error = NeverOpened;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, NeverOpened>>> {
        if self.chunks.len() == 1
            && let Some(gate) = self.gate.take()
        {
            self.waiting = Some(Box::pin(gate.opened()));
        }
        if let Some(waiting) = &mut self.waiting {
            let is_open = ready!(waiting.as_mut().poll(context));
            self.waiting = None;
            if !is_open {
                self.chunks.clear();
                return Poll::Ready(Some(Err(NeverOpened)));
            }
        }
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

    #[tokio::test]
    async fn the_last_chunk_waits_for_the_gate() {
        let chunks = vec![Bytes::from_static(b"abc"), Bytes::from_static(b"de")];
        let (key, gate) = Barrier::new();
        let payload = Payload::new(chunks, None).behind(gate);
        let payload = payload.between(Bytes::from_static(b"("), Bytes::from_static(b")"));
        assert_eq!(payload.len(), 7);
        let mut body = payload.body();
        for wanted in ["(", "abc", "de"] {
            assert_eq!(frame(&mut body).await.expect("a frame"), wanted);
        }
        let last = tokio::spawn(async move { frame(&mut body).await });
        tokio::task::yield_now().await;
        assert!(!last.is_finished());
        key.open();
        assert_eq!(last.await.expect("no panic").expect("a frame"), ")");
        // A retry finds the gate open.
        let mut body = payload.body();
        while frame(&mut body).await.is_some() {}
        assert!(body.is_end_stream());
    }

    #[tokio::test]
    async fn a_body_fails_if_the_gate_never_opens() {
        let (key, gate) = Barrier::new();
        let mut body = Payload::from(Bytes::from_static(b"a")).behind(gate).body();
        drop(key);
        let frame = std::future::poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await;
        frame.expect("a frame").expect_err("not opened");
    }
}
