//! The bytes of an object on their way from the service.

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
    Inner, Place,
    call::Silence,
    error::{Error, ErrorKind, Result},
    retry::Patience,
    stats::Operation,
    transport::AnswerBody,
};

/// The bytes of an object, as they come. Dropping it closes the connection unless all have come.
///
/// Where the connection is cut in the middle, the rest is asked for again, of the same version of
/// the object.
pub struct ObjectBody {
    stream: Pin<Box<dyn Stream<Item = Result<Bytes>> + Send>>,
    length: u64,
}

/// What is left to read.
struct Reading {
    inner: Arc<Inner>,
    place: Place,
    etag: String,
    left: Range<u64>,
    body: AnswerBody,
    attempt: u32,
}

impl ObjectBody {
    pub(super) fn new(
        inner: Arc<Inner>,
        place: Place,
        etag: String,
        range: Range<u64>,
        body: AnswerBody,
    ) -> Self {
        let length = range.end - range.start;
        let reading = Reading {
            inner,
            place,
            etag,
            left: range,
            body,
            attempt: 0,
        };
        let stream = unfold(Some(reading), |reading| async {
            let mut reading = reading?;
            match reading.next().await {
                Ok(Some(bytes)) => Some((Ok(bytes), Some(reading))),
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
            Error::new(ErrorKind::Other, Operation::GetObject.name(), "")
                .with_message(format!("{} bytes are more than {max}", self.length))
        };
        let length = usize::try_from(self.length).map_err(|_| too_many())?;
        if length > max {
            return Err(too_many());
        }
        let Some(first) = self.stream.next().await.transpose()? else {
            return Ok(Bytes::new());
        };
        if first.len() == length {
            return Ok(first);
        }
        let mut all = BytesMut::with_capacity(length);
        all.extend_from_slice(&first);
        while let Some(bytes) = self.stream.next().await.transpose()? {
            all.extend_from_slice(&bytes);
        }
        Ok(all.freeze())
    }
}

impl Reading {
    async fn next(&mut self) -> Result<Option<Bytes>> {
        while !self.left.is_empty() {
            let idle = self.inner.settings.idle_timeout;
            let cut: BoxError = match timeout(idle, self.body.frame()).await {
                Ok(Some(Ok(frame))) => match frame.into_data() {
                    Ok(bytes) if bytes.is_empty() => continue,
                    Ok(bytes) => return self.take(bytes).map(Some),
                    Err(_trailers) => continue,
                },
                Ok(Some(Err(error))) => error,
                Ok(None) => "the connection was cut".into(),
                Err(_) => Silence.into(),
            };
            self.resume(cut).await?;
        }
        Ok(None)
    }

    fn take(&mut self, bytes: Bytes) -> Result<Bytes> {
        let length = bytes.len() as u64;
        if length > self.left.end - self.left.start {
            return Err(self
                .error(ErrorKind::Other)
                .with_message("more bytes than announced"));
        }
        self.inner.stats.of(Operation::GetObject).received(length);
        self.left.start += length;
        self.attempt = 0;
        Ok(bytes)
    }

    /// Asks for the rest. Each time it gets on, it may fail as often as any other call.
    async fn resume(&mut self, cut: BoxError) -> Result<()> {
        self.attempt += 1;
        let patience = Patience::new(&self.inner.settings, 0);
        let wait = patience
            .wait(self.attempt, None)
            .filter(|_| !self.etag.is_empty());
        let Some(wait) = wait else {
            return Err(self
                .error(ErrorKind::Unavailable { retry_after: None })
                .with_source(cut));
        };
        sleep(wait).await;
        let (head, range, body) = self
            .inner
            .open_object(&self.place, Some(self.left.clone()), Some(&self.etag))
            .await?;
        if range != self.left || head.etag != self.etag {
            return Err(self
                .error(ErrorKind::Other)
                .with_message("the object has changed"));
        }
        self.body = body;
        Ok(())
    }

    fn error(&self, kind: ErrorKind) -> Error {
        Error::new(kind, Operation::GetObject.name(), self.place.to_string())
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
