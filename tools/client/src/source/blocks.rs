//! Reads a range of a source in blocks.

use std::{
    collections::VecDeque,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Bytes, BytesMut};
use tokio::task::JoinHandle;

use super::FileContent;

/// The size of reads. The blocks that a connection takes at a time fit into the cache of the CPU.
const MAX_BLOCK_BYTES: usize = 128 * 1024;
/// Blocks that are kept to be read into again: as many as a connection takes at a time.
const MAX_SPARE_BLOCKS: usize = 8;

/// A reader of a range in blocks. A file is read one block ahead.
#[derive(Debug)]
pub(crate) struct BlockReader(ReaderKind);

#[derive(Debug)]
enum ReaderKind {
    Blocks(VecDeque<Bytes>),
    File(FileReader),
}

/// A reader of a range of a file.
///
/// Blocks in the page cache are read in the task: a hop to another thread costs more than the copy. Others are read
/// in the thread pool; while one is sent, the next one is read, by the system or the pool. The last block is withheld
/// if the file has changed, so that no upload is complete with bytes of two versions.
#[derive(Debug)]
struct FileReader {
    file: FileContent,
    offset: u64,
    remaining: u64,
    reading: Option<JoinHandle<io::Result<Bytes>>>,
    /// Blocks that were sent, the oldest first. One that is not in use any more is read into again.
    spare: VecDeque<Bytes>,
}

impl BlockReader {
    pub(crate) fn from_blocks(blocks: VecDeque<Bytes>) -> Self {
        Self(ReaderKind::Blocks(blocks))
    }

    pub(super) fn from_file(file: FileContent, offset: u64, length: u64) -> Self {
        Self(ReaderKind::File(FileReader {
            file,
            offset,
            remaining: length,
            reading: None,
            spare: VecDeque::with_capacity(MAX_SPARE_BLOCKS),
        }))
    }

    /// Returns the next block; `None` at the end.
    pub(crate) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        match &mut self.0 {
            ReaderKind::Blocks(blocks) => Poll::Ready(blocks.pop_front().map(Ok)),
            ReaderKind::File(reader) => reader.poll_next(cx),
        }
    }

    /// Returns the next block; `None` at the end.
    pub(crate) async fn next(&mut self) -> Option<io::Result<Bytes>> {
        std::future::poll_fn(|cx| self.poll_next(cx)).await
    }
}

/// Returns a range of bytes as blocks.
pub(super) fn split(bytes: &Bytes, offset: u64, length: u64) -> VecDeque<Bytes> {
    let position = |at: u64| usize::try_from(at).map_or(bytes.len(), |at| at.min(bytes.len()));
    let mut rest = bytes.slice(position(offset)..position(offset.saturating_add(length)));
    let mut blocks = VecDeque::with_capacity(rest.len() / MAX_BLOCK_BYTES + 1);
    while !rest.is_empty() {
        blocks.push_back(rest.split_to(rest.len().min(MAX_BLOCK_BYTES)));
    }
    blocks
}

impl FileReader {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        if self.reading.is_none() {
            if self.remaining == 0 {
                return Poll::Ready(None);
            }
            let mut block = self.take_block();
            if self.file.read_cached(&mut block, self.offset) {
                return Poll::Ready(Some(self.complete(block.freeze())));
            }
            self.start(block);
        }
        let Some(task) = &mut self.reading else {
            return Poll::Ready(None);
        };
        let block = ready!(Pin::new(task).poll(cx));
        self.reading = None;
        Poll::Ready(Some(match block.map_err(io::Error::other).flatten() {
            Ok(block) => {
                let block = self.complete(block);
                // Linux reads ahead, and the next block is probably cached.
                if self.remaining > 0 && cfg!(not(target_os = "linux")) {
                    let next = self.take_block();
                    self.start(next);
                }
                block
            }
            Err(error) => {
                self.remaining = 0;
                Err(error)
            }
        }))
    }

    /// Returns a buffer for the next block.
    fn take_block(&mut self) -> BytesMut {
        let size = usize::try_from(self.remaining).unwrap_or(MAX_BLOCK_BYTES);
        let size = size.min(MAX_BLOCK_BYTES);
        let mut block = match self.spare.pop_front().map(Bytes::try_into_mut) {
            Some(Ok(block)) if block.len() >= size => block,
            Some(Err(used)) => {
                self.spare.push_front(used);
                BytesMut::zeroed(size)
            }
            _ => BytesMut::zeroed(size),
        };
        block.truncate(size);
        block
    }

    /// Reads a block in the thread pool.
    fn start(&mut self, mut block: BytesMut) {
        let (file, offset) = (self.file.clone(), self.offset);
        self.reading = Some(tokio::task::spawn_blocking(move || {
            file.read_exact_at(&mut block, offset)?;
            Ok(block.freeze())
        }));
    }

    fn complete(&mut self, block: Bytes) -> io::Result<Bytes> {
        self.offset += block.len() as u64;
        self.remaining -= block.len() as u64;
        if self.remaining > 0 && self.spare.len() < MAX_SPARE_BLOCKS {
            self.spare.push_back(block.clone());
        }
        if self.remaining == 0 {
            self.file.check_unchanged().map_err(io::Error::other)?;
        }
        Ok(block)
    }
}
