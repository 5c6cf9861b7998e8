//! Reads the body of an object piece by piece, and opens it again after an interruption. It makes no call of its
//! own.

use std::{ops::Range, sync::Arc};

use bytes::Bytes;
use futures_util::stream::unfold;
use http_body_util::BodyExt;
use landfall::BoxError;
use tokio::time::{sleep, timeout};

use crate::{
    call::{BodyStalled, Error, ErrorKind, OpenObject, Result, RetryPolicy, Service},
    object::{Object, ObjectBody, ObjectRef},
};

/// Opens an object whose download goes on after an interruption.
///
/// # Errors
/// Those of [`Service::open`]; later ones are items of the body.
pub async fn read_object<S: Service>(
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
        key: client.caller().idle_objects.insert(OpenObject::new(body)),
        attempt: 0,
    };
    let body = reader.into_stream();
    Ok(Object { head, range, body })
}

struct ObjectReader<S: Service> {
    client: Arc<S>,
    object: ObjectRef,
    etag: String,
    left: Range<u64>,
    /// Of the idle object; 0 for none.
    key: u64,
    attempt: u32,
}

impl<S: Service> ObjectReader<S> {
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
        let mut open = match self.client.caller().idle_objects.take(self.key) {
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
                    self.key = self.client.caller().idle_objects.insert(open);
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
        stats.count(S::GET, |stats| stats.bytes_in += length);
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
        Error::new(kind, S::GET, self.object.to_string())
    }
}

impl<S: Service> Drop for ObjectReader<S> {
    fn drop(&mut self) {
        drop(self.client.caller().idle_objects.take(self.key));
    }
}
