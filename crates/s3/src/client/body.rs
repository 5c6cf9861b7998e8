use std::{ops::Range, sync::Arc};

use bytes::Bytes;
use futures_util::stream::unfold;
use http_body_util::BodyExt;
use landfall::BoxError;
use tokio::time::{sleep, timeout};

use super::{
    Inner, ObjectBody, ObjectRef,
    error::{Error, ErrorKind, Result},
    http_send::{BodyStalled, ResponseBody},
    settings::RetryPolicy,
    stats::Operation,
};

pub(super) struct ObjectReader {
    pub(super) inner: Arc<Inner>,
    pub(super) object: ObjectRef,
    pub(super) etag: String,
    pub(super) left: Range<u64>,
    pub(super) body: ResponseBody,
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
        while !self.left.is_empty() {
            let idle = self.inner.settings.idle_timeout;
            let error: BoxError = match timeout(idle, self.body.frame()).await {
                Ok(Some(Ok(frame))) => match frame.into_data() {
                    Ok(bytes) if bytes.is_empty() => continue,
                    Ok(bytes) => return self.take(bytes).map(Some),
                    Err(_trailers) => continue,
                },
                Ok(Some(Err(error))) => error,
                Ok(None) => "the connection was closed early".into(),
                Err(_) => BodyStalled.into(),
            };
            self.resume(error).await?;
        }
        Ok(None)
    }

    fn take(&mut self, bytes: Bytes) -> Result<Bytes> {
        let length = bytes.len() as u64;
        if length > self.left.end - self.left.start {
            let why = "the body is longer than its content length";
            return Err(self.error(ErrorKind::Other).with_message(why));
        }
        let stats = &self.inner.stats;
        stats.count(Operation::GetObject, |stats| stats.bytes_in += length);
        self.left.start += length;
        self.attempt = 0;
        Ok(bytes)
    }

    async fn resume(&mut self, source: BoxError) -> Result<()> {
        self.attempt += 1;
        let policy = RetryPolicy::new(&self.inner.settings, 0);
        let wait = policy.next_delay(self.attempt, None);
        let Some(wait) = wait.filter(|_| !self.etag.is_empty()) else {
            let error = self.error(ErrorKind::Unavailable { retry_after: None });
            return Err(error.with_source(source));
        };
        sleep(wait).await;
        let (left, etag) = (Some(self.left.clone()), Some(&*self.etag));
        let opened = self.inner.open_object(&self.object, left, etag);
        let (head, range, body) = opened.await?;
        if range != self.left || head.etag != self.etag {
            let why = "the object has changed during the download";
            return Err(self.error(ErrorKind::Other).with_message(why));
        }
        self.body = body;
        Ok(())
    }

    fn error(&self, kind: ErrorKind) -> Error {
        Error::new(kind, Operation::GetObject.name(), self.object.to_string())
    }
}
