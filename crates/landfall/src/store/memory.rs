//! The simplest complete store: reference for the contract of [`Store`], and store of most tests.
//!
//! One lock protects all uploads, and is not held across an `await`. Everything is lost with the last clone.

use std::{
    collections::BTreeMap,
    ops::{Bound, Range},
    sync::Arc,
    time::SystemTime,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream;
use parking_lot::Mutex;

use super::{
    Append, ByteStream, Capabilities, Concatenate, Cursor, DeferLength, Enumerate, Finish, Orphan,
    Page, Read, Result, Store, StoreError, Terminate,
};
use crate::{
    lease::{Fence, Locker, MemoryLocker},
    removal::Removable,
    upload::{Snapshot, Upload, UploadId},
};

const CHUNK_SIZE: usize = 64 * 1024;

/// A store in memory with every capability, for tests and as an example of a complete store.
///
/// Clones share the uploads and the leases of [`Store::locker`], so a second handler on a clone
/// finds the uploads of the first, as after a restart. A path requested by a hook is stored in the
/// description and has no effect.
#[derive(Debug, Clone, Default)]
pub struct MemoryStore {
    uploads: Arc<Mutex<Uploads>>,
    locker: MemoryLocker,
}

#[derive(Debug, Default)]
struct Uploads {
    by_id: BTreeMap<UploadId, StoredUpload>,
    capacity: Option<usize>,
    used: usize,
}

#[derive(Debug)]
struct StoredUpload {
    upload: Arc<Upload>,
    bytes: Vec<u8>,
    unverified_from: Option<usize>,
    fence: Fence,
    modified: SystemTime,
}

impl MemoryStore {
    /// Creates a store without a limit.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Creates a store that is full when its uploads have `bytes` bytes in all.
    #[must_use]
    pub fn with_capacity(bytes: usize) -> Self {
        let store = Self::new();
        store.uploads.lock().capacity = Some(bytes);
        store
    }
}

impl Uploads {
    fn get(&self, id: &UploadId) -> Result<&StoredUpload> {
        self.by_id
            .get(id)
            .ok_or_else(|| StoreError::NotFound(id.clone()))
    }

    fn change(&mut self, id: &UploadId, fence: Fence) -> Result<&mut StoredUpload> {
        let stored = self
            .by_id
            .get_mut(id)
            .ok_or_else(|| StoreError::NotFound(id.clone()))?;
        if fence < stored.fence {
            return Err(StoreError::LeaseLost(id.clone()));
        }
        stored.fence = fence;
        stored.modified = SystemTime::now();
        Ok(stored)
    }

    fn remaining(&self) -> usize {
        self.capacity
            .map_or(usize::MAX, |capacity| capacity.saturating_sub(self.used))
    }

    fn truncate(&mut self, id: &UploadId, len: usize) {
        if let Some(stored) = self.by_id.get_mut(id) {
            self.used -= stored.bytes.len() - len;
            stored.bytes.truncate(len);
            stored.unverified_from = None;
        }
    }
}

impl StoredUpload {
    fn offset(&self) -> usize {
        self.unverified_from.unwrap_or(self.bytes.len())
    }

    fn snapshot(&self) -> Snapshot {
        Snapshot::new(
            Arc::clone(&self.upload),
            self.offset() as u64,
            self.modified,
        )
    }
}

fn full() -> StoreError {
    StoreError::Full("the capacity of the memory store is used up".into())
}

#[async_trait]
impl Store for MemoryStore {
    async fn create(&self, mut upload: Upload) -> Result<Arc<Upload>> {
        let mut uploads = self.uploads.lock();
        if uploads.by_id.contains_key(&upload.id) {
            return Err(StoreError::AlreadyExists(upload.id));
        }
        upload.storage.insert("Type".into(), "memorystore".into());
        let upload = Arc::new(upload);
        let stored = StoredUpload {
            upload: Arc::clone(&upload),
            bytes: Vec::new(),
            unverified_from: None,
            fence: Fence(0),
            modified: SystemTime::now(),
        };
        uploads.by_id.insert(upload.id.clone(), stored);
        Ok(upload)
    }

    async fn load(&self, id: &UploadId) -> Result<Snapshot> {
        self.uploads.lock().get(id).map(StoredUpload::snapshot)
    }

    async fn resume(&self, id: &UploadId, fence: Fence) -> Result<(Snapshot, Box<dyn Append>)> {
        let mut uploads = self.uploads.lock();
        let modified = uploads.get(id)?.modified;
        let stored = uploads.change(id, fence)?;
        stored.modified = modified;
        let (snapshot, offset) = (stored.snapshot(), stored.offset());
        uploads.truncate(id, offset);
        let append = MemoryAppend {
            store: self.clone(),
            id: id.clone(),
            fence,
            offset,
            verified: offset,
        };
        Ok((snapshot, Box::new(append)))
    }

    async fn save(&self, upload: &Upload, fence: Fence) -> Result<()> {
        let mut uploads = self.uploads.lock();
        let stored = uploads.change(&upload.id, fence)?;
        let storage = stored.upload.storage.clone();
        stored.upload = Arc::new(Upload {
            storage,
            ..upload.clone()
        });
        Ok(())
    }

    fn capabilities(&self) -> Capabilities<'_> {
        Capabilities::all(self)
    }

    fn locker(&self) -> Option<Arc<dyn Locker>> {
        Some(Arc::new(self.locker.clone()))
    }
}

#[derive(Debug)]
struct MemoryAppend {
    store: MemoryStore,
    id: UploadId,
    fence: Fence,
    offset: usize,
    verified: usize,
}

#[async_trait]
impl Append for MemoryAppend {
    fn offset(&self) -> u64 {
        self.offset as u64
    }

    fn readable(&self) -> Option<u64> {
        let uploads = self.store.uploads.lock();
        let stored = uploads.get(&self.id).ok()?;
        Some(stored.offset() as u64)
    }

    async fn write(&mut self, chunks: &mut Vec<Bytes>) -> Result<()> {
        let mut uploads = self.store.uploads.lock();
        for mut chunk in chunks.drain(..) {
            let (wanted, remaining) = (chunk.len(), uploads.remaining());
            chunk.truncate(remaining);
            let stored = uploads.change(&self.id, self.fence)?;
            stored.bytes.extend_from_slice(&chunk);
            self.offset = stored.bytes.len();
            uploads.used += chunk.len();
            if chunk.len() < wanted {
                return Err(full());
            }
        }
        Ok(())
    }

    async fn commit(&mut self) -> Result<u64> {
        let mut uploads = self.store.uploads.lock();
        Ok(uploads.change(&self.id, self.fence)?.offset() as u64)
    }

    async fn begin_unverified(&mut self) -> Result<()> {
        let mut uploads = self.store.uploads.lock();
        uploads.change(&self.id, self.fence)?.unverified_from = Some(self.offset);
        self.verified = self.offset;
        Ok(())
    }

    async fn accept_unverified(&mut self) -> Result<()> {
        let mut uploads = self.store.uploads.lock();
        uploads.change(&self.id, self.fence)?.unverified_from = None;
        self.verified = self.offset;
        Ok(())
    }

    async fn discard_unverified(&mut self) -> Result<()> {
        let mut uploads = self.store.uploads.lock();
        uploads.change(&self.id, self.fence)?;
        uploads.truncate(&self.id, self.verified);
        self.offset = self.verified;
        Ok(())
    }
}

#[async_trait]
impl Terminate for MemoryStore {
    async fn terminate(&self, upload: &Upload, fence: Fence) -> Result<bool> {
        let mut uploads = self.uploads.lock();
        match uploads.change(&upload.id, fence) {
            Err(StoreError::NotFound(_)) => return Ok(false),
            stored => stored?,
        };
        uploads.truncate(&upload.id, 0);
        Ok(uploads.by_id.remove(&upload.id).is_some())
    }
}

#[async_trait]
impl Finish for MemoryStore {
    async fn finish(&self, upload: &Upload, fence: Fence) -> Result<Option<String>> {
        self.uploads.lock().change(&upload.id, fence).map(|_| None)
    }
}

#[async_trait]
impl Read for MemoryStore {
    async fn read(&self, upload: &Upload, range: Range<u64>) -> Result<ByteStream> {
        let uploads = self.uploads.lock();
        let stored = uploads.get(&upload.id)?;
        let bytes = usize::try_from(range.start)
            .ok()
            .zip(usize::try_from(range.end).ok())
            .and_then(|(start, end)| stored.bytes[..stored.offset()].get(start..end))
            .ok_or_else(|| {
                StoreError::other(
                    format!("reading bytes {range:?} of upload {}", upload.id),
                    "the range exceeds the offset",
                )
            })?;
        let bytes = Bytes::copy_from_slice(bytes);
        let starts = (0..bytes.len()).step_by(CHUNK_SIZE);
        let chunks = starts.map(move |at| Ok(bytes.slice(at..bytes.len().min(at + CHUNK_SIZE))));
        Ok(Box::pin(stream::iter(chunks)))
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
        let mut uploads = self.uploads.lock();
        uploads.change(&target.id, fence)?;
        uploads.truncate(&target.id, 0);
        let mut bytes = Vec::new();
        for part in parts {
            let stored = uploads.get(&part.id)?;
            bytes.extend_from_slice(&stored.bytes[..stored.offset()]);
        }
        if bytes.len() > uploads.remaining() {
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
        let mut uploads = self.uploads.lock();
        let stored = uploads.change(&upload.id, fence)?;
        stored.upload = Arc::new(Upload {
            length: Some(length),
            ..(*stored.upload).clone()
        });
        Ok(Arc::clone(&stored.upload))
    }
}

#[async_trait]
impl Enumerate for MemoryStore {
    async fn page(&self, cursor: Option<Cursor>, limit: usize) -> Result<Page> {
        let after = cursor.map(|cursor| UploadId::new(&cursor.0)).transpose();
        let after = after.map_err(|error| StoreError::other("listing the uploads", error))?;
        let after = after.map_or(Bound::Unbounded, Bound::Excluded);
        let uploads = self.uploads.lock();
        let mut rest = uploads.by_id.range((after, Bound::Unbounded));
        let page = rest.by_ref().take(limit.max(1));
        let page: Vec<_> = page.map(|(_, stored)| stored.snapshot()).collect();
        let last = rest.next().and(page.last());
        let next = last.map(|last| Cursor(last.upload.id.to_string()));
        Ok(Page {
            uploads: page,
            next,
            ..Page::default()
        })
    }

    async fn remove_orphan(&self, _: &Orphan, _: Removable) -> Result<bool> {
        Ok(false) // There are no orphans: bytes and description are stored together.
    }
}
