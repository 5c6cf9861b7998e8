//! Reading the bytes of an upload.

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
    io_pool::IoPool,
    sys::{self, CachedRead},
};
use crate::{
    store::{ByteStream, Read, Result, StoreError},
    upload::{Upload, UploadId},
};

const CHUNK_BYTES: usize = 256 * 1024;

#[async_trait]
impl Read for FileStore {
    async fn read(&self, upload: &Upload, range: Range<u64>) -> Result<ByteStream> {
        let (inner, id) = (Arc::clone(&self.0), upload.id.clone());
        let step = move || {
            let data_path = inner.data_path(&id)?;
            let fail = |error| failed(&id, "opening the data", error);
            let (dir, name) = inner.root.parent(&data_path).map_err(fail)?;
            let file = sys::open_read(dir.as_fd(), name).map_err(fail)?;
            let version = sys::stat_open(file.as_fd()).map_err(fail)?;
            Ok((file, version))
        };
        let (file, version) = self.0.io.run_inline(0, step).await?;
        if !version.is_file() || range.start > range.end || range.end > version.size {
            return Err(StoreError::Other {
                action: format!("reading bytes {range:?} of upload {}", upload.id),
                source: "the range exceeds the offset".into(),
            });
        }
        Ok(Box::pin(ChunkStream {
            io: self.0.io.clone(),
            id: upload.id.clone(),
            file: Arc::new(file),
            range,
            buffer: BytesMut::new(),
            pending: None,
        }))
    }
}

/// A stream of a file's bytes: from the page cache in the task, otherwise on the blocking pool. The
/// buffer is reused once its last chunk was sent.
struct ChunkStream {
    io: IoPool,
    id: UploadId,
    file: Arc<OwnedFd>,
    range: Range<u64>,
    buffer: BytesMut,
    pending: Option<Pending>,
}

type Pending = Pin<Box<dyn Future<Output = Result<BytesMut>> + Send>>;

impl ChunkStream {
    fn take_chunk(&mut self) -> Bytes {
        self.range.start += self.buffer.len() as u64;
        self.buffer.split().freeze()
    }

    fn fail<T>(&mut self, error: StoreError) -> Poll<Option<Result<T>>> {
        self.range.start = self.range.end;
        Poll::Ready(Some(Err(error)))
    }
}

impl Stream for ChunkStream {
    type Item = Result<Bytes>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if this.pending.is_none() {
            let remaining = this.range.end - this.range.start;
            if remaining == 0 {
                return Poll::Ready(None);
            }
            let len = usize::try_from(remaining)
                .unwrap_or(CHUNK_BYTES)
                .min(CHUNK_BYTES);
            let offset = this.range.start;
            this.buffer.reserve(len);
            let cached = sys::read_cached(this.file.as_fd(), &mut this.buffer, len, offset);
            if cached == CachedRead::Done {
                return Poll::Ready(Some(Ok(this.take_chunk())));
            }
            let (io, file, id) = (this.io.clone(), Arc::clone(&this.file), this.id.clone());
            let mut buffer = std::mem::take(&mut this.buffer);
            this.pending = Some(Box::pin(async move {
                let read = move || {
                    sys::read_into(file.as_fd(), &mut buffer, len, offset)
                        .map_err(|error| failed(&id, "reading the data", error))?;
                    Ok(buffer)
                };
                if cached == CachedRead::NotCached {
                    io.run_blocking(read).await
                } else {
                    io.run_inline(len, read).await
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
                let what = "its data was truncated while it was read".into();
                let id = this.id.clone();
                this.fail(StoreError::Damaged { id, what })
            }
            Ok(buffer) => {
                this.buffer = buffer;
                Poll::Ready(Some(Ok(this.take_chunk())))
            }
            Err(error) => this.fail(error),
        }
    }
}
