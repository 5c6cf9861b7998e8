//! Bodies that send a range of a source.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use http_body::{Body, Frame, SizeHint};
use landfall_protocol::{Algorithm, Checksum, Hasher, headers::UPLOAD_CHECKSUM};
use parking_lot::Mutex;
use tokio::time::{Instant, Sleep, sleep_until};

use crate::{
    Error,
    progress::{Meter, RequestBytes},
    rate_limit::RateLimiter,
    source::BlockReader,
};

/// The checksum that follows a body.
#[derive(Debug)]
pub(crate) struct ContentTrailer {
    algorithm: Algorithm,
    hasher: Option<Hasher>,
}

impl ContentTrailer {
    pub(crate) fn new(algorithm: Algorithm) -> Self {
        Self {
            algorithm,
            hasher: Some(algorithm.hasher()),
        }
    }

    fn finish(&mut self) -> Option<HeaderMap> {
        let hasher = self.hasher.take()?;
        let checksum = checksum(self.algorithm, hasher);
        let value = HeaderValue::try_from(checksum.to_string()).ok()?;
        Some(HeaderMap::from_iter([(UPLOAD_CHECKSUM, value)]))
    }
}

/// Returns a finished checksum.
pub(crate) fn checksum(algorithm: Algorithm, hasher: Hasher) -> Checksum {
    // The length of algorithms that have several.
    let bytes = (1..=64).rev().find(|bytes| algorithm.takes_length(*bytes));
    Checksum {
        algorithm,
        digest: hasher.digest(bytes.unwrap_or_default()),
    }
}

/// A body of known length. Its blocks go to the connection without being copied.
#[derive(Debug)]
pub(crate) struct ContentBody {
    reader: BlockReader,
    remaining: u64,
    bytes: Arc<RequestBytes>,
    failure: Arc<Mutex<Option<Error>>>,
    limiters: Vec<Arc<RateLimiter>>,
    /// A block that waits for the rate limit.
    delayed: Option<(Bytes, Pin<Box<Sleep>>)>,
    /// The rest of a block that is larger than the rate limit sends at once.
    rest: Bytes,
    trailer: Option<ContentTrailer>,
    /// True after a block: the connection then sends it, while it is in the cache of the CPU, instead of taking more.
    yields: bool,
}

impl ContentBody {
    /// Creates a body of `length` bytes.
    pub(crate) fn new(reader: BlockReader, length: u64, bytes: Arc<RequestBytes>) -> Self {
        Self {
            reader,
            remaining: length,
            bytes,
            failure: Arc::default(),
            limiters: Vec::new(),
            delayed: None,
            rest: Bytes::new(),
            trailer: None,
            yields: false,
        }
    }

    /// Creates a body that does not count as content.
    pub(super) fn from_bytes(bytes: Vec<u8>) -> Self {
        let length = bytes.len() as u64;
        let reader = BlockReader::from_blocks([bytes.into()].into());
        let meter = Arc::new(Meter::new(None, None));
        Self::new(reader, length, Arc::new(RequestBytes::new(meter)))
    }

    /// Keeps to all of these limits.
    pub(crate) fn limited(mut self, limiters: &[Arc<RateLimiter>]) -> Self {
        self.limiters = limiters.to_vec();
        self
    }

    /// Sends a checksum after the content; its length is then not named.
    pub(crate) fn with_trailer(mut self, trailer: Option<ContentTrailer>) -> Self {
        self.trailer = trailer;
        self
    }

    pub(super) fn bytes(&self) -> Arc<RequestBytes> {
        self.bytes.clone()
    }

    /// Returns where the error of the source is stored, if there is one.
    pub(super) fn failure(&self) -> Arc<Mutex<Option<Error>>> {
        self.failure.clone()
    }

    fn poll_block(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        if let Some((_, sleep)) = &mut self.delayed {
            ready!(sleep.as_mut().poll(cx));
        }
        if let Some((block, _)) = self.delayed.take() {
            return Poll::Ready(Some(Ok(block)));
        }
        let mut block = match self.rest.is_empty() {
            false => std::mem::take(&mut self.rest),
            true => match ready!(self.reader.poll_next(cx)) {
                Some(Ok(block)) => block,
                other => return Poll::Ready(other),
            },
        };
        if let Some(burst) = self.limiters.iter().map(|one| one.burst()).min() {
            self.rest = block.split_off(block.len().min(burst));
            let delays = self.limiters.iter().map(|one| one.reserve(block.len()));
            let delay = delays.max().unwrap_or_default();
            if delay > Duration::ZERO {
                let mut sleep = Box::pin(sleep_until(Instant::now() + delay));
                if sleep.as_mut().poll(cx).is_pending() {
                    self.delayed = Some((block, sleep));
                    return Poll::Pending;
                }
            }
        }
        Poll::Ready(Some(Ok(block)))
    }

    fn fail(&mut self, error: io::Error) -> io::Error {
        let copy = io::Error::new(error.kind(), error.to_string());
        *self.failure.lock() = Some(Error::from_source(error));
        copy
    }
}

impl Body for ContentBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let this = &mut *self;
        if std::mem::take(&mut this.yields) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if this.remaining > 0 {
            let error = match ready!(this.poll_block(cx)) {
                Some(Ok(block)) if block.len() as u64 <= this.remaining => {
                    this.remaining -= block.len() as u64;
                    this.bytes.add(block.len() as u64);
                    this.yields = this.remaining > 0;
                    if let Some(hasher) = this.trailer.as_mut().and_then(|t| t.hasher.as_mut()) {
                        hasher.update(&block);
                    }
                    return Poll::Ready(Some(Ok(Frame::data(block))));
                }
                Some(Err(error)) => error,
                _ => io::ErrorKind::UnexpectedEof.into(),
            };
            return Poll::Ready(Some(Err(this.fail(error))));
        }
        let trailers = this.trailer.as_mut().and_then(ContentTrailer::finish);
        Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        self.remaining == 0 && self.trailer.as_ref().is_none_or(|t| t.hasher.is_none())
    }

    fn size_hint(&self) -> SizeHint {
        // A body with trailers must be chunked in HTTP/1.1.
        if self.trailer.is_some() {
            return SizeHint::default();
        }
        SizeHint::with_exact(self.remaining)
    }
}
