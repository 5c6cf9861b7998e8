//! Streams as sources. Bytes are held until the server has acknowledged them.

use std::{collections::VecDeque, fmt, io, time::Duration};

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _},
    time::{Instant, timeout_at},
};

use super::Chunk;
use crate::Error;

/// The size of reads.
const READ_BYTES: usize = 128 * 1024;

/// A chunk that is not full is sent after this time, so that a slow stream does not seem to stall.
const MAX_FILL_DURATION: Duration = Duration::from_secs(1);

/// A stream, and the bytes of it that may be sent again.
pub(crate) struct StreamContent {
    /// The lock is never contended: it makes the reader `Sync`.
    reader: Mutex<Box<dyn AsyncRead + Send + Unpin>>,
    length: Option<u64>,
    /// The offset of the first held byte.
    start: u64,
    blocks: VecDeque<Bytes>,
    held: u64,
    /// A block that is being read.
    partial: BytesMut,
    at_end: bool,
    error: Option<io::Error>,
}

impl fmt::Debug for StreamContent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamContent")
            .field("start", &self.start)
            .field("held", &self.held)
            .field("at_end", &self.at_end)
            .finish_non_exhaustive()
    }
}

impl StreamContent {
    pub(super) fn new(reader: Box<dyn AsyncRead + Send + Unpin>, length: Option<u64>) -> Self {
        Self {
            reader: Mutex::new(reader),
            length,
            start: 0,
            blocks: VecDeque::new(),
            held: 0,
            partial: BytesMut::new(),
            at_end: false,
            error: None,
        }
    }

    pub(super) fn length(&self) -> Option<u64> {
        self.length
    }

    /// Drops the bytes before `offset`, and reads until `max` bytes are held, the stream ends, or a second has
    /// passed since there are some.
    pub(super) async fn prepare(&mut self, offset: u64, max: u64) -> Result<Chunk, Error> {
        self.release(offset)?;
        let mut deadline = None;
        // One more byte shows whether the chunk is the last.
        while self.held <= max && !self.at_end {
            if let Some(error) = self.error.take() {
                return Err(Error::Source(error));
            }
            if self.held > 0 && deadline.is_none() {
                deadline = Some(Instant::now() + MAX_FILL_DURATION);
            }
            match deadline {
                None => self.read().await,
                Some(deadline) => {
                    if timeout_at(deadline, self.read()).await.is_err() {
                        break;
                    }
                }
            }
        }
        self.flush();
        let end = self.start + self.held;
        match self.length {
            Some(length) if end > length => {
                return Err(Error::SourceChanged(format!(
                    "the stream has more than {length} bytes"
                )));
            }
            Some(length) if self.at_end && end < length => {
                return Err(Error::SourceChanged(format!(
                    "the stream ended at {end} of {length} bytes"
                )));
            }
            _ => {}
        }
        let is_complete = self.at_end || self.length == Some(end);
        Ok(Chunk {
            length: self.held.min(max),
            is_last: is_complete && self.held <= max,
        })
    }

    /// Returns whether the stream can be sent from its start.
    pub(crate) fn has_start(&self) -> bool {
        self.start == 0
    }

    fn release(&mut self, offset: u64) -> Result<(), Error> {
        let mismatch = Error::OffsetMismatch {
            offset,
            available: self.start,
        };
        let Some(mut excess) = offset.checked_sub(self.start) else {
            return Err(mismatch);
        };
        if excess > self.held {
            return Err(mismatch);
        }
        self.flush();
        self.start = offset;
        self.held -= excess;
        while excess > 0 {
            let Some(front) = self.blocks.front_mut() else {
                break;
            };
            let size = usize::try_from(excess).map_or(front.len(), |n| n.min(front.len()));
            excess -= size as u64;
            if size == front.len() {
                self.blocks.pop_front();
            } else {
                *front = front.slice(size..);
            }
        }
        Ok(())
    }

    pub(super) async fn read_ahead(&mut self, max: u64) {
        while self.held <= max && !self.at_end && self.error.is_none() {
            self.read().await;
        }
    }

    /// Reads once. Cancel safe: what is read is in `self` before the future is ready.
    async fn read(&mut self) {
        if self.partial.len() == self.partial.capacity() {
            self.flush();
            self.partial.reserve(READ_BYTES);
        }
        match self.reader.get_mut().read_buf(&mut self.partial).await {
            Ok(0) => self.at_end = true,
            Ok(read) => self.held += read as u64,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => self.error = Some(error),
        }
    }

    /// Adds the partial block to the blocks.
    fn flush(&mut self) {
        if !self.partial.is_empty() {
            self.blocks.push_back(self.partial.split().freeze());
        }
    }

    /// Returns held bytes, of those that the last [`Self::prepare`] had.
    pub(crate) fn blocks(&self, offset: u64, length: u64) -> VecDeque<Bytes> {
        let mut skip = offset.saturating_sub(self.start);
        let mut rest = length;
        let mut blocks = VecDeque::new();
        for block in &self.blocks {
            let size = block.len() as u64;
            if skip >= size {
                skip -= size;
                continue;
            }
            let taken = (size - skip).min(rest);
            if taken == 0 {
                break;
            }
            let position = |at: u64| usize::try_from(at).unwrap_or(block.len());
            blocks.push_back(block.slice(position(skip)..position(skip + taken)));
            rest -= taken;
            skip = 0;
        }
        blocks
    }
}
