//! Reads ranges of data files, in chunks of 32 KiB.
//!
//! A chunk in the page cache is read in the task, any other through the [`IoPool`]. A file that becomes shorter during
//! the read is an error, never a short download.

use std::{ops::Range, sync::Arc};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures_util::stream;

use super::{
    FileStore,
    io_pool::{IoPool, StepKind},
    open_reads::ReadFile,
    sys::CachedRead,
};
use crate::{
    store::{ByteStream, Read, Result, StoreError},
    upload::Upload,
};

/// A response keeps one while its client takes nothing.
const CHUNK_BYTES: usize = 32 * 1024;

#[async_trait]
impl Read for FileStore {
    async fn read(&self, upload: &Upload, range: Range<u64>) -> Result<ByteStream> {
        let (inner, id, length) = (Arc::clone(&self.0), upload.id.clone(), upload.length);
        let open = move || ReadFile::open(inner, id, length);
        let file = self.0.io.run(StepKind::Short(0), open).await?;
        let version = file.version();
        if range.start > range.end || range.end > version.size {
            return Err(StoreError::other(
                format!("reading bytes {range:?} of upload {}", upload.id),
                "the range exceeds the offset",
            ));
        }
        let reader = ChunkReader {
            io: self.0.io.clone(),
            file: Arc::new(file),
            range,
            buffer: BytesMut::new(),
        };
        Ok(Box::pin(stream::try_unfold(reader, async |mut reader| {
            let chunk = reader.next().await?;
            Ok(chunk.map(|chunk| (chunk, reader)))
        })))
    }
}

/// Reads from the page cache in the task, otherwise on the blocking pool. The buffer is reused once its
/// last chunk was sent.
struct ChunkReader {
    io: IoPool,
    file: Arc<ReadFile>,
    range: Range<u64>,
    buffer: BytesMut,
}

impl ChunkReader {
    async fn next(&mut self) -> Result<Option<Bytes>> {
        let Range { start, end } = self.range;
        if start == end {
            return Ok(None);
        }
        let len = usize::try_from(end - start).unwrap_or(CHUNK_BYTES);
        let len = len.min(CHUNK_BYTES);
        self.buffer.reserve(len);
        let cached = self.file.read_cached(&mut self.buffer, len, start);
        if cached != CachedRead::Done {
            let file = Arc::clone(&self.file);
            let mut buffer = std::mem::take(&mut self.buffer);
            let read = move || {
                file.read(&mut buffer, len, start)?;
                Ok(buffer)
            };
            let kind = match cached {
                CachedRead::NotCached => StepKind::Waiting,
                CachedRead::Done | CachedRead::Unknown => StepKind::Short(len),
            };
            self.buffer = self.io.run(kind, read).await?;
        }
        if self.buffer.is_empty() {
            let what = "its data was truncated while it was read";
            return Err(StoreError::damaged(self.file.id(), what));
        }
        self.range.start += self.buffer.len() as u64;
        Ok(Some(self.buffer.split().freeze()))
    }
}
