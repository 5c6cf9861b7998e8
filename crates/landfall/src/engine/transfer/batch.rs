//! Received bytes that are not stored yet, and their memory budget.

use std::pin::Pin;

use bytes::Bytes;
use tokio::sync::{Semaphore, SemaphorePermit};

/// Maximum bytes per write: large enough to amortize a system call, small enough to stay in the CPU's
/// second-level cache until they are written.
pub(super) const BATCH_BYTES: usize = 256 * 1024;
/// Maximum frames per batch: each has an allocation, and a system call accepts no more.
const BATCH_FRAMES: usize = 1024;

#[derive(Debug)]
pub(in crate::engine) struct Memory {
    /// Batches being written. A waiting transfer waits for the store, never for a client.
    batches: Semaphore,
    /// Bytes held until their body is complete and verified. No transfer waits for these.
    unverified: Semaphore,
}

impl Memory {
    pub(in crate::engine) fn new(bytes: usize) -> Self {
        let half = (bytes / 2).clamp(BATCH_BYTES, Semaphore::MAX_PERMITS);
        Self {
            batches: Semaphore::new(half / BATCH_BYTES),
            unverified: Semaphore::new(half),
        }
    }
}

#[derive(Debug)]
pub(in crate::engine) struct WriteBatch<'a> {
    memory: &'a Memory,
    frames: Vec<Bytes>,
    frame_bytes: usize,
    permit: Option<SemaphorePermit<'a>>,
    /// Copies of earlier frames: a frame of one byte may keep a whole read buffer allocated.
    packed: Vec<u8>,
    packed_permit: Option<SemaphorePermit<'a>>,
    pack_limit: usize,
}

impl<'a> WriteBatch<'a> {
    /// Creates an empty batch for a body of this length.
    pub(in crate::engine) fn new(memory: &'a Memory, length: Option<u64>) -> Self {
        let pack_limit = length.map_or(Ok(BATCH_BYTES), usize::try_from);
        Self {
            memory,
            frames: Vec::new(),
            frame_bytes: 0,
            permit: None,
            packed: Vec::new(),
            packed_permit: None,
            pack_limit: pack_limit.unwrap_or(usize::MAX),
        }
    }

    pub(super) fn try_permit(&mut self) -> bool {
        if self.permit.is_none() {
            self.permit = self.memory.batches.try_acquire().ok();
        }
        self.permit.is_some()
    }

    /// Waits for a permit, or returns the output of `interrupts`. Boxed because it is rare.
    pub(super) fn permit_or<T: Send>(
        &mut self,
        interrupts: impl Future<Output = T> + Send,
    ) -> Pin<Box<impl Future<Output = Option<T>> + Send>> {
        Box::pin(async {
            tokio::select! {
                biased;
                permit = self.memory.batches.acquire() => {
                    self.permit = permit.ok();
                    None
                }
                interrupt = interrupts => Some(interrupt),
            }
        })
    }

    pub(super) fn push(&mut self, frame: Bytes) {
        self.frame_bytes += frame.len();
        if !frame.is_empty() {
            self.frames.push(frame);
        }
    }

    pub(super) fn frames(&self) -> &[Bytes] {
        &self.frames
    }

    pub(super) fn is_full(&self, max_bytes: usize) -> bool {
        self.frame_bytes >= max_bytes || self.frames.len() >= BATCH_FRAMES
    }

    pub(super) fn can_pack(&mut self) -> bool {
        if self.pack_limit > BATCH_BYTES || self.packed.len() + self.frame_bytes > self.pack_limit {
            return false;
        }
        if self.packed_permit.is_none() {
            let Ok(bytes) = u32::try_from(self.pack_limit) else {
                return false;
            };
            self.packed_permit = self.memory.unverified.try_acquire_many(bytes).ok();
        }
        self.packed_permit.is_some()
    }

    pub(super) fn pack(&mut self) {
        if self.packed.is_empty() {
            self.packed.reserve_exact(self.pack_limit);
        }
        for frame in &self.frames {
            self.packed.extend_from_slice(frame);
        }
        self.clear_frames();
    }

    /// Takes all bytes in order; their memory stays accounted for until [`clear`](Self::clear).
    pub(in crate::engine) fn take(&mut self) -> Vec<Bytes> {
        if self.packed.is_empty() {
            return std::mem::take(&mut self.frames);
        }
        let mut all = vec![Bytes::from(std::mem::take(&mut self.packed))];
        all.append(&mut self.frames);
        all
    }

    pub(in crate::engine) fn clear(&mut self, list: Vec<Bytes>) {
        self.frames = list;
        self.packed = Vec::new();
        self.packed_permit = None;
        self.clear_frames();
    }

    fn clear_frames(&mut self) {
        self.frames.clear();
        self.frame_bytes = 0;
        self.permit = None;
    }
}
