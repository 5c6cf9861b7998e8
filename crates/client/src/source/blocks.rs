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

/// The size of reads. Larger blocks cost less per byte, until they no longer fit into the cache of the CPU.
const MAX_BLOCK_BYTES: usize = 512 * 1024;
/// Blocks that are kept to be read into again: one is read while another is sent.
const MAX_SPARE_BLOCKS: usize = 3;

/// A reader of a range in blocks. A file is read one block ahead.
#[derive(Debug)]
pub(crate) struct BlockReader(ReaderKind);

#[derive(Debug)]
enum ReaderKind {
    Blocks(VecDeque<Bytes>),
    File {
        file: FileContent,
        offset: u64,
        remaining: u64,
        reading: Option<JoinHandle<io::Result<Bytes>>>,
        /// Blocks that were sent, the oldest first. One that nobody else uses is read into again.
        spare: VecDeque<Bytes>,
    },
}

impl BlockReader {
    pub(crate) fn from_blocks(blocks: VecDeque<Bytes>) -> Self {
        Self(ReaderKind::Blocks(blocks))
    }

    pub(super) fn from_file(file: FileContent, offset: u64, length: u64) -> Self {
        Self(ReaderKind::File {
            file,
            offset,
            remaining: length,
            reading: None,
            spare: VecDeque::with_capacity(MAX_SPARE_BLOCKS),
        })
    }

    /// Returns the next block; `None` at the end.
    pub(crate) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        match &mut self.0 {
            ReaderKind::Blocks(blocks) => Poll::Ready(blocks.pop_front().map(Ok)),
            ReaderKind::File {
                file,
                offset,
                remaining,
                reading,
                spare,
            } => {
                start_reading(file, offset, remaining, reading, spare);
                let Some(task) = reading else {
                    return Poll::Ready(None);
                };
                let block = ready!(Pin::new(task).poll(cx));
                *reading = None;
                let block = match block.map_err(io::Error::other).flatten() {
                    Ok(block) => block,
                    Err(error) => {
                        *remaining = 0;
                        return Poll::Ready(Some(Err(error)));
                    }
                };
                start_reading(file, offset, remaining, reading, spare);
                if *remaining > 0 && spare.len() < MAX_SPARE_BLOCKS {
                    spare.push_back(block.clone());
                }
                Poll::Ready(Some(Ok(block)))
            }
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

fn start_reading(
    file: &FileContent,
    offset: &mut u64,
    remaining: &mut u64,
    reading: &mut Option<JoinHandle<io::Result<Bytes>>>,
    spare: &mut VecDeque<Bytes>,
) {
    if *remaining == 0 || reading.is_some() {
        return;
    }
    let size = usize::try_from(*remaining).map_or(MAX_BLOCK_BYTES, |n| n.min(MAX_BLOCK_BYTES));
    let mut block = match spare.pop_front().map(Bytes::try_into_mut) {
        Some(Ok(block)) if block.len() >= size => block,
        Some(Err(used)) => {
            spare.push_back(used);
            BytesMut::zeroed(size)
        }
        _ => BytesMut::zeroed(size),
    };
    block.truncate(size);
    let (file, at) = (file.clone(), *offset);
    *offset += size as u64;
    *remaining -= size as u64;
    *reading = Some(tokio::task::spawn_blocking(move || {
        file.read_exact_at(&mut block, at)?;
        Ok(block.freeze())
    }));
}
