//! Uploads in memory, for tests.

use std::{
    collections::BTreeMap,
    ops::{Bound, Range},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::SystemTime,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures_core::Stream;

use super::{
    Append, ByteStream, Concatenate, Cursor, DeferLength, Enumerate, Finish, Orphan, Page, Read,
    Result, Store, StoreError, Terminate,
};
use crate::{
    lease::{Fence, Locker, MemoryLocker},
    upload::{Snapshot, Upload, UploadId},
};

/// Uploads in memory: a store with every capability, for tests and as an example of a whole store.
///
/// Clones share the uploads, and the leases that [`Store::locker`] hands out, so that a second
/// handler on a clone finds what the first one kept, as after a restart. A wish for a place is kept
/// in the description and means nothing.
#[derive(Debug, Clone, Default)]
pub struct MemoryStore {
    uploads: Arc<Mutex<Uploads>>,
    locker: MemoryLocker,
}

#[derive(Debug, Default)]
struct Uploads {
    by_id: BTreeMap<UploadId, Slot>,
    capacity: Option<usize>,
    used: usize,
}

#[derive(Debug)]
struct Slot {
    upload: Arc<Upload>,
    bytes: Vec<u8>,
    /// Where the bytes on probation begin.
    held_from: Option<usize>,
    fence: Fence,
    modified: SystemTime,
}

impl MemoryStore {
    /// A store that takes as much as there is memory.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A store that is full when its uploads have `bytes` bytes together.
    #[must_use]
    pub fn with_capacity(bytes: usize) -> Self {
        let store = Self::new();
        store.lock().capacity = Some(bytes);
        store
    }

    /// A panic elsewhere leaves the uploads as they were, so poisoning says nothing.
    fn lock(&self) -> MutexGuard<'_, Uploads> {
        self.uploads.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Uploads {
    fn get(&self, id: &UploadId) -> Result<&Slot> {
        self.by_id
            .get(id)
            .ok_or_else(|| StoreError::NotFound(id.clone()))
    }

    /// The upload, for a change on behalf of the lease with `fence`.
    fn change(&mut self, id: &UploadId, fence: Fence) -> Result<&mut Slot> {
        let slot = self
            .by_id
            .get_mut(id)
            .ok_or_else(|| StoreError::NotFound(id.clone()))?;
        if fence < slot.fence {
            return Err(StoreError::LeaseLost(id.clone()));
        }
        slot.fence = fence;
        slot.modified = SystemTime::now();
        Ok(slot)
    }

    fn room(&self) -> usize {
        self.capacity
            .map_or(usize::MAX, |capacity| capacity.saturating_sub(self.used))
    }

    fn truncate(&mut self, id: &UploadId, len: usize) {
        if let Some(slot) = self.by_id.get_mut(id) {
            self.used -= slot.bytes.len() - len;
            slot.bytes.truncate(len);
            slot.held_from = None;
        }
    }
}

impl Slot {
    fn offset(&self) -> usize {
        self.held_from.unwrap_or(self.bytes.len())
    }

    fn snapshot(&self) -> Snapshot {
        Snapshot {
            upload: Arc::clone(&self.upload),
            offset: self.offset() as u64,
            modified: self.modified,
        }
    }
}

fn full() -> StoreError {
    StoreError::Full("the memory set apart for uploads is used up".into())
}

#[async_trait]
impl Store for MemoryStore {
    async fn create(&self, mut upload: Upload) -> Result<Arc<Upload>> {
        let mut uploads = self.lock();
        if uploads.by_id.contains_key(&upload.id) {
            return Err(StoreError::AlreadyExists(upload.id));
        }
        upload.storage.insert("Type".into(), "memorystore".into());
        let upload = Arc::new(upload);
        let slot = Slot {
            upload: Arc::clone(&upload),
            bytes: Vec::new(),
            held_from: None,
            fence: Fence(0),
            modified: SystemTime::now(),
        };
        uploads.by_id.insert(upload.id.clone(), slot);
        Ok(upload)
    }

    async fn load(&self, id: &UploadId) -> Result<Snapshot> {
        self.lock().get(id).map(Slot::snapshot)
    }

    async fn resume(&self, id: &UploadId, fence: Fence) -> Result<(Snapshot, Box<dyn Append>)> {
        let mut uploads = self.lock();
        let modified = uploads.get(id)?.modified;
        let slot = uploads.change(id, fence)?;
        slot.modified = modified;
        let (snapshot, offset) = (slot.snapshot(), slot.offset());
        uploads.truncate(id, offset);
        let append = Writer {
            store: self.clone(),
            id: id.clone(),
            fence,
            offset,
            sure: offset,
        };
        Ok((snapshot, Box::new(append)))
    }

    async fn save(&self, upload: &Upload, fence: Fence) -> Result<()> {
        let mut uploads = self.lock();
        let slot = uploads.change(&upload.id, fence)?;
        let storage = slot.upload.storage.clone();
        slot.upload = Arc::new(Upload {
            storage,
            ..upload.clone()
        });
        Ok(())
    }

    fn terminator(&self) -> Option<&dyn Terminate> {
        Some(self)
    }
    fn finisher(&self) -> Option<&dyn Finish> {
        Some(self)
    }
    fn reader(&self) -> Option<&dyn Read> {
        Some(self)
    }
    fn concatenator(&self) -> Option<&dyn Concatenate> {
        Some(self)
    }
    fn length_deferrer(&self) -> Option<&dyn DeferLength> {
        Some(self)
    }
    fn enumerator(&self) -> Option<&dyn Enumerate> {
        Some(self)
    }
    fn locker(&self) -> Option<Arc<dyn Locker>> {
        Some(Arc::new(self.locker.clone()))
    }
}

#[derive(Debug)]
struct Writer {
    store: MemoryStore,
    id: UploadId,
    fence: Fence,
    offset: usize,
    /// What no [`discard`](Append::discard_unverified) takes away.
    sure: usize,
}

#[async_trait]
impl Append for Writer {
    fn offset(&self) -> u64 {
        self.offset as u64
    }

    fn readable(&self) -> Option<u64> {
        let uploads = self.store.lock();
        uploads.get(&self.id).ok().map(|slot| slot.offset() as u64)
    }

    async fn write(&mut self, chunks: &mut Vec<Bytes>) -> Result<()> {
        let mut uploads = self.store.lock();
        for mut chunk in chunks.drain(..) {
            let (wanted, room) = (chunk.len(), uploads.room());
            chunk.truncate(room);
            let slot = uploads.change(&self.id, self.fence)?;
            slot.bytes.extend_from_slice(&chunk);
            self.offset = slot.bytes.len();
            uploads.used += chunk.len();
            if chunk.len() < wanted {
                return Err(full());
            }
        }
        Ok(())
    }

    async fn commit(&mut self) -> Result<u64> {
        Ok(self.store.lock().change(&self.id, self.fence)?.offset() as u64)
    }

    async fn begin_unverified(&mut self) -> Result<()> {
        let mut uploads = self.store.lock();
        uploads.change(&self.id, self.fence)?.held_from = Some(self.offset);
        self.sure = self.offset;
        Ok(())
    }

    async fn accept_unverified(&mut self) -> Result<()> {
        let mut uploads = self.store.lock();
        uploads.change(&self.id, self.fence)?.held_from = None;
        self.sure = self.offset;
        Ok(())
    }

    async fn discard_unverified(&mut self) -> Result<()> {
        let mut uploads = self.store.lock();
        uploads.change(&self.id, self.fence)?;
        uploads.truncate(&self.id, self.sure);
        self.offset = self.sure;
        Ok(())
    }
}

#[async_trait]
impl Terminate for MemoryStore {
    async fn terminate(&self, upload: &Upload, fence: Fence) -> Result<bool> {
        let mut uploads = self.lock();
        match uploads.change(&upload.id, fence) {
            Err(StoreError::NotFound(_)) => return Ok(false),
            slot => slot?,
        };
        uploads.truncate(&upload.id, 0);
        Ok(uploads.by_id.remove(&upload.id).is_some())
    }
}

#[async_trait]
impl Finish for MemoryStore {
    async fn finish(&self, upload: &Upload, fence: Fence) -> Result<Option<String>> {
        self.lock().change(&upload.id, fence).map(|_| None)
    }
}

#[async_trait]
impl Read for MemoryStore {
    async fn read(&self, upload: &Upload, range: Range<u64>) -> Result<ByteStream> {
        let uploads = self.lock();
        let slot = uploads.get(&upload.id)?;
        let bytes = usize::try_from(range.start)
            .ok()
            .zip(usize::try_from(range.end).ok())
            .and_then(|(start, end)| slot.bytes[..slot.offset()].get(start..end))
            .ok_or_else(|| StoreError::Other {
                action: format!("reading bytes {range:?} of upload {}", upload.id),
                source: "the range goes beyond the offset".into(),
            })?;
        Ok(Box::pin(Pieces(Bytes::copy_from_slice(bytes))))
    }
}

/// Bytes as a stream of pieces.
struct Pieces(Bytes);

impl Stream for Pieces {
    type Item = Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let len = self.0.len().min(64 * 1024);
        Poll::Ready((len > 0).then(|| Ok(self.0.split_to(len))))
    }
}

#[async_trait]
impl Concatenate for MemoryStore {
    async fn concatenate(
        &self,
        target: &Upload,
        parts: &[Arc<Upload>],
        fence: Fence,
    ) -> Result<u64> {
        let mut uploads = self.lock();
        uploads.change(&target.id, fence)?;
        uploads.truncate(&target.id, 0);
        let mut bytes = Vec::new();
        for part in parts {
            let slot = uploads.get(&part.id)?;
            bytes.extend_from_slice(&slot.bytes[..slot.offset()]);
        }
        if bytes.len() > uploads.room() {
            return Err(full());
        }
        let sum = bytes.len();
        uploads.change(&target.id, fence)?.bytes = bytes;
        uploads.used += sum;
        Ok(sum as u64)
    }
}

#[async_trait]
impl DeferLength for MemoryStore {
    async fn declare_length(
        &self,
        upload: &Upload,
        length: u64,
        fence: Fence,
    ) -> Result<Arc<Upload>> {
        let mut uploads = self.lock();
        let slot = uploads.change(&upload.id, fence)?;
        slot.upload = Arc::new(Upload {
            length: Some(length),
            ..(*slot.upload).clone()
        });
        Ok(Arc::clone(&slot.upload))
    }
}

#[async_trait]
impl Enumerate for MemoryStore {
    async fn page(&self, cursor: Option<Cursor>, limit: usize) -> Result<Page> {
        let uploads = self.lock();
        let after = cursor
            .as_ref()
            .map_or(Bound::Unbounded, |c| Bound::Excluded(c.0.as_str()));
        let mut rest = uploads.by_id.range::<str, _>((after, Bound::Unbounded));
        let page: Vec<_> = rest
            .by_ref()
            .take(limit.max(1))
            .map(|(_, s)| s.snapshot())
            .collect();
        let next = rest
            .next()
            .and(page.last())
            .map(|last| Cursor(last.upload.id.to_string()));
        Ok(Page {
            uploads: page,
            next,
            ..Page::default()
        })
    }

    async fn remove_orphan(&self, _: &Orphan) -> Result<()> {
        Ok(()) // Bytes and description come and go together here: nothing is ever left over.
    }
}
