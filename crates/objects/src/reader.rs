//! Reads the body of an object piece by piece, and opens it again after an interruption. It makes no call of its
//! own.

use std::{ops::Range, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::unfold;
use http_body_util::BodyExt;
use landfall::{BoxError, store::RecentlyUsed};
use tokio::time::{sleep, timeout};

use crate::{
    call::{BodyStalled, Caller, Error, ErrorKind, ResponseBody, Result, RetryPolicy},
    object::{Object, ObjectBody, ObjectHead, ObjectRef},
};

/// The most that a response whose client takes nothing keeps.
const PIECE_BYTES: usize = 32 * 1024;

/// Objects that are open between two pieces, besides those of clients that continue at once: opening one is a
/// request, which costs time and money.
const MAX_IDLE: usize = 256;
const STALLED_AFTER: Duration = Duration::from_secs(2);

/// The objects of a client that are open while no task reads them.
#[derive(Debug)]
pub struct IdleObjects(RecentlyUsed<OpenObject>);

impl Default for IdleObjects {
    fn default() -> Self {
        Self(RecentlyUsed::new(MAX_IDLE, STALLED_AFTER))
    }
}

impl IdleObjects {
    /// Takes one out, for tests.
    #[doc(hidden)]
    pub fn take(&self, key: u64) -> Option<OpenObject> {
        self.0.take(key)
    }
}

/// A client whose objects are read piece by piece.
#[async_trait]
pub trait OpenObjects: Send + Sync + 'static {
    /// The operation that opens an object, as the service names it.
    const OPERATION: &'static str;

    /// Opens a range of an object, or all of it; only this version, if one is named.
    async fn open(
        &self,
        object: &ObjectRef,
        range: Option<Range<u64>>,
        version: Option<&str>,
    ) -> Result<(ObjectHead, Range<u64>, ResponseBody)>;

    /// Returns what makes the calls.
    fn caller(&self) -> &Caller;

    /// Returns the objects that are open.
    fn idle_objects(&self) -> &IdleObjects;
}

/// Opens an object whose download goes on after an interruption.
///
/// # Errors
/// Those of [`OpenObjects::open`]; later ones are items of the body.
pub async fn read_object<S: OpenObjects>(
    client: &Arc<S>,
    object: &ObjectRef,
    range: Option<Range<u64>>,
) -> Result<Object> {
    let (head, range, body) = client.open(object, range, None).await?;
    let reader = ObjectReader {
        client: Arc::clone(client),
        object: object.clone(),
        etag: head.etag.clone(),
        left: range.clone(),
        key: client.idle_objects().0.insert(OpenObject::new(body)),
        attempt: 0,
    };
    let body = reader.into_stream();
    Ok(Object { head, range, body })
}

/// An object that is being received.
#[derive(Debug)]
pub struct OpenObject {
    body: ResponseBody,
    /// Received, and not passed on.
    received: Bytes,
}

impl OpenObject {
    fn new(body: ResponseBody) -> Self {
        let received = Bytes::new();
        Self { body, received }
    }

    /// Removes a piece, which keeps no larger buffer.
    fn take_piece(&mut self) -> Option<Bytes> {
        let len = self.received.len().min(PIECE_BYTES);
        (len > 0).then(|| Bytes::copy_from_slice(&self.received.split_to(len)))
    }
}

struct ObjectReader<S: OpenObjects> {
    client: Arc<S>,
    object: ObjectRef,
    etag: String,
    left: Range<u64>,
    /// Of the idle object; 0 for none.
    key: u64,
    attempt: u32,
}

impl<S: OpenObjects> ObjectReader<S> {
    fn into_stream(self) -> ObjectBody {
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
        let mut open = match self.client.idle_objects().0.take(self.key) {
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
                    self.key = self.client.idle_objects().0.insert(open);
                }
                return Ok(Some(piece));
            }
            let idle = self.client.caller().limits.idle_timeout;
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
        let stats = &self.client.caller().stats;
        stats.count(S::OPERATION, |stats| stats.bytes_in += length);
        Ok(bytes)
    }

    async fn resume(&mut self, source: BoxError) -> Result<OpenObject> {
        self.attempt += 1;
        let policy = RetryPolicy::new(&self.client.caller().limits, 0);
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
        let opened = self.client.open(&self.object, left, etag);
        let (head, range, body) = opened.await?;
        if range != self.left || head.etag != self.etag {
            let why = "the object has changed during the download";
            return Err(self.error(ErrorKind::Other).with_message(why));
        }
        Ok(OpenObject::new(body))
    }

    fn error(&self, kind: ErrorKind) -> Error {
        Error::new(kind, S::OPERATION, self.object.to_string())
    }
}

impl<S: OpenObjects> Drop for ObjectReader<S> {
    fn drop(&mut self) {
        drop(self.client.idle_objects().0.take(self.key));
    }
}
