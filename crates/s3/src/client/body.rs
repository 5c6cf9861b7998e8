use std::{
    fmt,
    ops::Range,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::{Bytes, BytesMut};
use futures_core::Stream;
use futures_util::{StreamExt, stream::unfold};
use http_body_util::BodyExt;
use landfall::BoxError;
use tokio::time::{sleep, timeout};

use super::{
    Inner, ObjectRef,
    error::{Error, ErrorKind, Result},
    http_send::{BodyStalled, ResponseBody},
    retry::RetryPolicy,
    stats::Operation,
};

/// The body of an object, as a stream.
pub struct ObjectBody {
    stream: Pin<Box<dyn Stream<Item = Result<Bytes>> + Send>>,
    length: u64,
}

struct ObjectReader {
    inner: Arc<Inner>,
    object: ObjectRef,
    etag: String,
    left: Range<u64>,
    body: ResponseBody,
    attempt: u32,
}

impl ObjectBody {
    pub(super) fn new(
        inner: Arc<Inner>,
        object: ObjectRef,
        etag: String,
        range: Range<u64>,
        body: ResponseBody,
    ) -> Self {
        let length = range.end - range.start;
        let reader = ObjectReader {
            inner,
            object,
            etag,
            left: range,
            body,
            attempt: 0,
        };
        let stream = unfold(Some(reader), |reader| async {
            let mut reader = reader?;
            match reader.next().await {
                Ok(Some(bytes)) => Some((Ok(bytes), Some(reader))),
                Ok(None) => None,
                Err(error) => Some((Err(error), None)),
            }
        });
        Self {
            stream: Box::pin(stream),
            length,
        }
    }

    pub(super) async fn collect(mut self, max: usize) -> Result<Bytes> {
        let too_many = || {
            Error::new(ErrorKind::Other, Operation::GetObject.name(), "").with_message(format!(
                "the object has {} bytes, more than the maximum of {max}",
                self.length
            ))
        };
        let length = usize::try_from(self.length).map_err(|_| too_many())?;
        if length > max {
            return Err(too_many());
        }
        let mut all = BytesMut::with_capacity(length);
        while let Some(bytes) = self.stream.next().await.transpose()? {
            all.extend_from_slice(&bytes);
        }
        Ok(all.freeze())
    }
}

impl ObjectReader {
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
            return Err(self
                .error(ErrorKind::Other)
                .with_message("the body is longer than its content length"));
        }
        self.inner
            .stats
            .operation(Operation::GetObject)
            .received(length);
        self.left.start += length;
        self.attempt = 0;
        Ok(bytes)
    }

    async fn resume(&mut self, source: BoxError) -> Result<()> {
        self.attempt += 1;
        let policy = RetryPolicy::new(&self.inner.settings, 0);
        let wait = policy
            .next_delay(self.attempt, None)
            .filter(|_| !self.etag.is_empty());
        let Some(wait) = wait else {
            return Err(self
                .error(ErrorKind::Unavailable { retry_after: None })
                .with_source(source));
        };
        sleep(wait).await;
        let (head, range, body) = self
            .inner
            .open_object(&self.object, Some(self.left.clone()), Some(&self.etag))
            .await?;
        if range != self.left || head.etag != self.etag {
            return Err(self
                .error(ErrorKind::Other)
                .with_message("the object has changed during the download"));
        }
        self.body = body;
        Ok(())
    }

    fn error(&self, kind: ErrorKind) -> Error {
        Error::new(kind, Operation::GetObject.name(), self.object.to_string())
    }
}

impl fmt::Debug for ObjectBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ObjectBody")
            .field("length", &self.length)
            .finish_non_exhaustive()
    }
}

impl Stream for ObjectBody {
    type Item = Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.stream.as_mut().poll_next(context)
    }
}
