//! Reads the body of an object piece by piece, and opens it again after an interruption.

use std::{ops::Range, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::stream::unfold;
use http_body_util::BodyExt;
use landfall::{BoxError, store::RecentlyUsed};
use tokio::time::{sleep, timeout};

use super::{
    Inner, ObjectBody, ObjectRef,
    error::{Error, ErrorKind, Result},
    http_send::{BodyStalled, ResponseBody},
    settings::RetryPolicy,
    stats::Operation,
};

/// The most that a response whose client takes nothing keeps.
const PIECE_BYTES: usize = 32 * 1024;

/// Objects that are open between two pieces, besides those of clients that continue at once: opening one is a
/// request, which costs time and money.
const MAX_IDLE: usize = 256;
const STALLED_AFTER: Duration = Duration::from_secs(2);

pub(super) fn idle_objects() -> RecentlyUsed<OpenObject> {
    RecentlyUsed::new(MAX_IDLE, STALLED_AFTER)
}

/// An object that is being received.
#[derive(Debug)]
pub(super) struct OpenObject {
    body: ResponseBody,
    /// Received, and not passed on.
    received: Bytes,
}

impl OpenObject {
    pub(super) fn new(body: ResponseBody) -> Self {
        let received = Bytes::new();
        Self { body, received }
    }

    /// Removes a piece, which keeps no larger buffer.
    fn take_piece(&mut self) -> Option<Bytes> {
        let len = self.received.len().min(PIECE_BYTES);
        (len > 0).then(|| Bytes::copy_from_slice(&self.received.split_to(len)))
    }
}

pub(super) struct ObjectReader {
    pub(super) inner: Arc<Inner>,
    pub(super) object: ObjectRef,
    pub(super) etag: String,
    pub(super) left: Range<u64>,
    /// Of the idle object; 0 for none.
    pub(super) key: u64,
    pub(super) attempt: u32,
}

impl ObjectReader {
    pub(super) fn into_stream(self) -> ObjectBody {
        let stream = unfold(Some(self), |reader| async {
            let mut reader = reader?;
            match reader.next().await {
                Ok(Some(bytes)) => Some((Ok(bytes), Some(reader))),
                Ok(None) => None,
                Err(error) => Some((Err(error), None)),
            }
        });
        Box::pin(stream)
    }

    async fn next(&mut self) -> Result<Option<Bytes>> {
        if self.left.is_empty() {
            return Ok(None);
        }
        let mut open = match self.inner.idle_objects.take(self.key) {
            Some(open) => open,
            // The client has taken nothing for a while.
            None => self.reopen().await?,
        };
        self.key = 0;
        loop {
            if let Some(piece) = open.take_piece() {
                self.left.start += piece.len() as u64;
                self.attempt = 0;
                if !self.left.is_empty() {
                    self.key = self.inner.idle_objects.insert(open);
                }
                return Ok(Some(piece));
            }
            let idle = self.inner.settings.idle_timeout;
            let error: BoxError = match timeout(idle, open.body.frame()).await {
                Ok(Some(Ok(frame))) => {
                    if let Ok(bytes) = frame.into_data() {
                        open.received = self.check(bytes)?;
                    }
                    continue;
                }
                Ok(Some(Err(error))) => error,
                Ok(None) => "the connection was closed early".into(),
                Err(_) => BodyStalled.into(),
            };
            open = self.resume(error).await?;
        }
    }

    fn check(&self, bytes: Bytes) -> Result<Bytes> {
        let length = bytes.len() as u64;
        if length > self.left.end - self.left.start {
            let why = "the body is longer than its content length";
            return Err(self.error(ErrorKind::Other).with_message(why));
        }
        let stats = &self.inner.stats;
        stats.count(Operation::GetObject, |stats| stats.bytes_in += length);
        Ok(bytes)
    }

    async fn resume(&mut self, source: BoxError) -> Result<OpenObject> {
        self.attempt += 1;
        let policy = RetryPolicy::new(&self.inner.settings, 0);
        let wait = policy.next_delay(self.attempt, None);
        let Some(wait) = wait.filter(|_| !self.etag.is_empty()) else {
            let error = self.error(ErrorKind::Unavailable { retry_after: None });
            return Err(error.with_source(source));
        };
        sleep(wait).await;
        self.reopen().await
    }

    async fn reopen(&self) -> Result<OpenObject> {
        if self.etag.is_empty() {
            let why = "the service names no version of the object, so its download cannot continue after a pause";
            return Err(self.error(ErrorKind::Other).with_message(why));
        }
        let (left, etag) = (Some(self.left.clone()), Some(&*self.etag));
        let opened = self.inner.open_object(&self.object, left, etag);
        let (head, range, body) = opened.await?;
        if range != self.left || head.etag != self.etag {
            let why = "the object has changed during the download";
            return Err(self.error(ErrorKind::Other).with_message(why));
        }
        Ok(OpenObject::new(body))
    }

    fn error(&self, kind: ErrorKind) -> Error {
        Error::new(kind, Operation::GetObject.name(), self.object.to_string())
    }
}

impl Drop for ObjectReader {
    fn drop(&mut self) {
        drop(self.inner.idle_objects.take(self.key));
    }
}
