//! Reading bytes back.

use std::{
    future::Future,
    ops::Range,
    os::fd::{AsFd, OwnedFd},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures_core::Stream;

use super::{
    FileStore,
    files::failed,
    steps::Steps,
    sys::{self, Cached},
};
use crate::{
    store::{ByteStream, Read, Result, StoreError},
    upload::{Upload, UploadId},
};

/// The most bytes read at once.
const PIECE: usize = 256 * 1024;

#[async_trait]
impl Read for FileStore {
    async fn read(&self, upload: &Upload, range: Range<u64>) -> Result<ByteStream> {
        let (inner, id) = (Arc::clone(&self.0), upload.id.clone());
        let step = move || {
            let place = inner.place(&id)?;
            let fail = |error| failed(&id, "opening the data", error);
            let (dir, name) = inner.root.parent(&place).map_err(fail)?;
            let file = sys::open_read(dir.as_fd(), name).map_err(fail)?;
            let stamp = sys::stat_open(file.as_fd()).map_err(fail)?;
            Ok((file, stamp))
        };
        let (file, stamp) = self.0.steps.quick(0, step).await?;
        if !stamp.is_file() || range.start > range.end || range.end > stamp.size {
            return Err(StoreError::Other {
                action: format!("reading bytes {range:?} of upload {}", upload.id),
                source: "the range goes beyond the offset".into(),
            });
        }
        Ok(Box::pin(Pieces {
            steps: self.0.steps.clone(),
            id: upload.id.clone(),
            file: Arc::new(file),
            range,
            buffer: BytesMut::new(),
            pending: None,
        }))
    }
}

/// The bytes of a file, piece by piece: taken from memory in the task if they are there, else read
/// on a thread. The buffer is used again once its last piece has been sent.
struct Pieces {
    steps: Steps,
    id: UploadId,
    file: Arc<OwnedFd>,
    /// What is still to come.
    range: Range<u64>,
    buffer: BytesMut,
    pending: Option<Pending>,
}

type Pending = Pin<Box<dyn Future<Output = Result<BytesMut>> + Send>>;

impl Pieces {
    fn give(&mut self) -> Bytes {
        self.range.start += self.buffer.len() as u64;
        self.buffer.split().freeze()
    }

    fn end<T>(&mut self, error: StoreError) -> Poll<Option<Result<T>>> {
        self.range.start = self.range.end;
        Poll::Ready(Some(Err(error)))
    }
}

impl Stream for Pieces {
    type Item = Result<Bytes>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if this.pending.is_none() {
            let rest = this.range.end - this.range.start;
            if rest == 0 {
                return Poll::Ready(None);
            }
            let len = usize::try_from(rest).unwrap_or(PIECE).min(PIECE);
            let offset = this.range.start;
            this.buffer.reserve(len);
            let cached = sys::read_cached(this.file.as_fd(), &mut this.buffer, len, offset);
            if cached == Cached::Read {
                return Poll::Ready(Some(Ok(this.give())));
            }
            let (steps, file, id) = (this.steps.clone(), Arc::clone(&this.file), this.id.clone());
            let mut buffer = std::mem::take(&mut this.buffer);
            this.pending = Some(Box::pin(async move {
                let read = move || {
                    sys::read_into(file.as_fd(), &mut buffer, len, offset)
                        .map_err(|error| failed(&id, "reading the data", error))?;
                    Ok(buffer)
                };
                if cached == Cached::No {
                    steps.slow(read).await
                } else {
                    steps.quick(len, read).await
                }
            }));
        }
        let Some(pending) = &mut this.pending else {
            return Poll::Ready(None);
        };
        let read = ready!(pending.as_mut().poll(cx));
        this.pending = None;
        match read {
            Ok(buffer) if buffer.is_empty() => {
                let what = "its data became shorter while it was read".into();
                let id = this.id.clone();
                this.end(StoreError::Damaged { id, what })
            }
            Ok(buffer) => {
                this.buffer = buffer;
                Poll::Ready(Some(Ok(this.give())))
            }
            Err(error) => this.end(error),
        }
    }
}
