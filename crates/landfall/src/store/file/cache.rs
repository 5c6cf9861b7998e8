//! A cache of the state of recently used uploads.
//!
//! An entry holds the lock for all changes of its upload (fences are checked under it), the parsed
//! `.info`, and the synced state. The number of entries is bounded, and so is the memory of their
//! descriptions, because clients choose how large those are. Entries that are not in use are evicted
//! in approximate LRU order.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use parking_lot::Mutex;

use super::{bound_lease::BoundLease, sys::FileVersion};
use crate::{
    lease::Fence,
    store::{Result, StoreError, info::UploadInfo},
    upload::{SHARDS, Sharded, Upload, UploadId, UploadMap},
};

const SHARD_CAPACITY: usize = 1024;
const SHARD_CAPACITY_BYTES: usize = 64 * 1024 * 1024 / SHARDS;

/// A parsed `.info`.
#[derive(Debug, Clone)]
pub(super) struct Record {
    pub(super) info: UploadInfo,
    /// A mark says that it is finished.
    pub(super) marked: bool,
    pub(super) data_path: Arc<str>,
}

impl Record {
    /// Of an upload without bytes.
    pub(super) fn new(upload: &Arc<Upload>, data_path: Arc<str>) -> Self {
        let mut info = UploadInfo::new(Arc::clone(upload));
        info.can_mark_finished = true;
        Self {
            info,
            marked: false,
            data_path,
        }
    }

    /// The application has moved the file away: only the description is left, and its data path may belong to
    /// another upload by now.
    pub(super) fn is_moved(&self) -> bool {
        self.info.upload.moved_to.is_some()
    }
}

#[derive(Debug, Default)]
pub(super) struct UploadCache(Sharded<Shard>);

#[derive(Debug, Default)]
struct Shard {
    entries: UploadMap<Arc<CachedUpload>>,
    bytes: usize,
}

#[derive(Debug, Default)]
pub(super) struct CachedUpload {
    pub(super) state: Mutex<WriterState>,
    /// Never locked during I/O.
    pub(super) info: Mutex<CachedInfo>,
    /// Locked while the upload is synced, so that those who come meanwhile start no sync of their own.
    pub(super) syncing: tokio::sync::Mutex<()>,
    /// The lease of a service, while this process has it. Never locked during I/O.
    pub(super) lease: Mutex<Option<Arc<BoundLease>>>,
    /// Memory of the description; changed only under the lock of the shard.
    bytes: AtomicUsize,
    touched: AtomicBool,
}

#[derive(Debug, Default)]
pub(super) struct WriterState {
    highest_fence: u64,
    epoch: WriterEpoch,
    /// The lease of a service, while this process has it.
    lease: Option<Arc<BoundLease>>,
}

#[derive(Debug, Clone, Default)]
pub(super) struct CachedInfo {
    pub(super) record: Option<(KnownInfo, Arc<Record>)>,
    pub(super) synced: Synced,
    /// The key of the open `.info`; 0 for none.
    pub(super) open: u64,
}

/// The `.info` that a cached record was decoded from.
#[derive(Debug, Clone)]
pub(super) enum KnownInfo {
    /// An equal version is the same content.
    Version(FileVersion),
    /// Too young for its version to prove that.
    Content(Box<[u8]>),
}

impl KnownInfo {
    fn memory_size(&self) -> usize {
        match self {
            Self::Version(_) => 0,
            Self::Content(json) => json.len(),
        }
    }
}

#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Synced {
    pub(super) data: u64,
    pub(super) bytes: u64,
    /// The synced `.info`; set once the names of both files are synced, too.
    pub(super) info: Option<FileVersion>,
}

impl Synced {
    pub(super) fn bytes_of(&self, data: u64) -> u64 {
        if self.data == data { self.bytes } else { 0 }
    }

    pub(super) fn add(&mut self, data: u64, bytes: u64) {
        self.bytes = bytes.max(self.bytes_of(data));
        self.data = data;
    }
}

impl UploadCache {
    pub(super) fn get(&self, id: &UploadId) -> Option<Arc<CachedUpload>> {
        let entry = Arc::clone(self.0.shard(id).entries.get(id)?);
        entry.touched.store(true, Ordering::Relaxed);
        Some(entry)
    }

    pub(super) fn get_or_insert(&self, id: &UploadId) -> Arc<CachedUpload> {
        self.0.shard(id).get_or_insert(id)
    }

    /// Does nothing if entries in use leave no memory for it.
    pub(super) fn insert_info(&self, id: &UploadId, info: KnownInfo, record: &Arc<Record>) {
        let mut shard = self.0.shard(id);
        let entry = shard.get_or_insert(id);
        let bytes = record.info.upload.memory_size() + info.memory_size();
        if !shard.fits(&entry, bytes) {
            shard.evict(bytes);
        }
        let fits = shard.fits(&entry, bytes);
        let bytes = if fits { bytes } else { 0 };
        shard.bytes = shard.bytes - entry.bytes.swap(bytes, Ordering::Relaxed) + bytes;
        entry.info.lock().record = fits.then(|| (info, Arc::clone(record)));
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.0.shards().map(|shard| shard.entries.len()).sum()
    }
}

impl Shard {
    fn get_or_insert(&mut self, id: &UploadId) -> Arc<CachedUpload> {
        if let Some(entry) = self.entries.get(id) {
            entry.touched.store(true, Ordering::Relaxed);
            return Arc::clone(entry);
        }
        let len = self.entries.len();
        if len >= SHARD_CAPACITY && len.is_multiple_of(SHARD_CAPACITY / 8) {
            self.evict(0);
        }
        let entry = Arc::new(CachedUpload::default());
        self.entries.insert(id.clone(), Arc::clone(&entry));
        entry
    }

    fn fits(&self, entry: &CachedUpload, bytes: usize) -> bool {
        self.bytes - entry.bytes.load(Ordering::Relaxed) + bytes <= SHARD_CAPACITY_BYTES
    }

    /// Evicts at least an eighth and enough for `wanted` bytes: first the entries not used since the last
    /// eviction, and never those in use.
    fn evict(&mut self, wanted: usize) {
        const MAX_LEN: usize = SHARD_CAPACITY - SHARD_CAPACITY / 8;
        let max_bytes = SHARD_CAPACITY_BYTES.saturating_sub(wanted.max(SHARD_CAPACITY_BYTES / 8));
        let bytes = &mut self.bytes;
        self.entries.retain(|_, entry| {
            let touched = entry.touched.swap(false, Ordering::Relaxed);
            let drop = !touched && Arc::strong_count(entry) == 1;
            if drop {
                *bytes -= entry.bytes.load(Ordering::Relaxed);
            }
            !drop
        });
        let mut too_many = self.bytes > max_bytes || self.entries.len() > MAX_LEN;
        let (bytes, mut len) = (&mut self.bytes, self.entries.len());
        self.entries.retain(|_, entry| {
            let drop = too_many && Arc::strong_count(entry) == 1;
            if drop {
                *bytes -= entry.bytes.load(Ordering::Relaxed);
                len -= 1;
                too_many = *bytes > max_bytes || len > MAX_LEN;
            }
            !drop
        });
    }
}

impl WriterState {
    /// Checks all fences against a lease that ends without this process, until it is released.
    pub(super) fn bind(&mut self, id: &UploadId, lease: &Arc<BoundLease>) -> Result<()> {
        self.lease = Some(Arc::clone(lease));
        self.check_fence(id, lease.fence())
    }

    /// Nothing can be done with the fence of the lease any more.
    pub(super) fn unbind(&mut self, lease: &Arc<BoundLease>) {
        if (self.lease.as_ref()).is_some_and(|bound| Arc::ptr_eq(bound, lease)) {
            self.lease = None;
        }
        self.highest_fence = self.highest_fence.max(lease.fence().0.saturating_add(1));
        self.revoke_writers();
    }

    /// The lease of a service, while this process has it.
    pub(super) fn lease(&self) -> Option<&Arc<BoundLease>> {
        self.lease.as_ref()
    }

    pub(super) fn check_fence(&mut self, id: &UploadId, fence: Fence) -> Result<()> {
        if fence.0 < self.highest_fence {
            return Err(StoreError::LeaseLost(id.clone()));
        }
        if let Some(lease) = &self.lease {
            lease.check(id, fence)?;
        }
        self.highest_fence = fence.0;
        Ok(())
    }

    pub(super) fn start_epoch(&mut self, id: &UploadId, fence: Fence) -> Result<WriterEpoch> {
        self.check_fence(id, fence)?;
        self.epoch.0 += 1;
        Ok(self.epoch)
    }

    pub(super) fn revoke_writers(&mut self) {
        self.epoch.0 += 1;
    }

    pub(super) fn check_epoch(
        &mut self,
        id: &UploadId,
        fence: Fence,
        epoch: WriterEpoch,
    ) -> Result<()> {
        if epoch != self.epoch {
            return Err(StoreError::LeaseLost(id.clone()));
        }
        self.check_fence(id, fence)
    }
}

/// Proof that no other writer has started since.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct WriterEpoch(u64);

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: usize) -> UploadId {
        UploadId::new(&format!("upload-{n}")).unwrap()
    }

    #[test]
    fn older_fences_and_older_writers_are_rejected() {
        let mut state = WriterState::default();
        let id = id(1);
        let first = state.start_epoch(&id, Fence(5)).unwrap();
        state.check_epoch(&id, Fence(5), first).unwrap();
        assert!(matches!(
            state.start_epoch(&id, Fence(4)),
            Err(StoreError::LeaseLost(_))
        ));
        let second = state.start_epoch(&id, Fence(5)).unwrap();
        assert!(matches!(
            state.check_epoch(&id, Fence(5), first),
            Err(StoreError::LeaseLost(_))
        ));
        state.check_epoch(&id, Fence(5), second).unwrap();
        state.check_fence(&id, Fence(6)).unwrap();
        assert!(matches!(
            state.check_epoch(&id, Fence(5), second),
            Err(StoreError::LeaseLost(_))
        ));
    }

    #[test]
    fn entry_count_is_bounded() {
        let cache = UploadCache::default();
        let used: Vec<_> = (0..100).map(|n| cache.get_or_insert(&id(n))).collect();
        for n in 100..200_000 {
            cache.get_or_insert(&id(n));
        }
        assert!(
            cache.len() <= SHARDS * SHARD_CAPACITY + used.len(),
            "{}",
            cache.len()
        );
        for (n, entry) in used.iter().enumerate() {
            assert!(
                Arc::ptr_eq(entry, &cache.get(&id(n)).unwrap()),
                "entry {n} was in use"
            );
        }
    }

    /// Returns a description with the largest metadata that fits into a header.
    fn large_record(n: usize) -> Arc<Record> {
        let pairs: Vec<_> = (0..9300).map(|key| (format!("{key:x}"), "")).collect();
        let pairs = pairs.iter().map(|(key, value)| (key.as_str(), *value));
        let mut upload = crate::upload::Upload::new(id(n), Some(1));
        upload.metadata = crate::upload::Metadata::from_pairs(pairs);
        Arc::new(Record::new(&Arc::new(upload), format!("upload-{n}").into()))
    }

    #[test]
    fn memory_of_large_descriptions_is_bounded() {
        let (cache, record) = (UploadCache::default(), large_record(0));
        let size = record.info.upload.memory_size();
        assert!(size > 900_000, "as measured, not {size}");
        for n in 0..2000 {
            cache.insert_info(&id(n), KnownInfo::Version(FileVersion::default()), &record);
            let newest = cache.get(&id(n)).unwrap();
            assert!(newest.info.lock().record.is_some(), "the newest is cached");
        }
        let kept = (0..2000)
            .filter_map(|n| cache.get(&id(n)))
            .filter(|entry| entry.info.lock().record.is_some())
            .count();
        assert!(
            kept > 0 && kept * size <= 64 << 20,
            "{kept} of {size} bytes"
        );
        // Entries in use are not evicted, but they stay within the memory limit.
        let used: Vec<_> = (0..2000).map(|n| cache.get_or_insert(&id(n))).collect();
        for n in 0..2000 {
            cache.insert_info(&id(n), KnownInfo::Version(FileVersion::default()), &record);
        }
        let with_record = |entry: &&Arc<CachedUpload>| entry.info.lock().record.is_some();
        let kept = used.iter().filter(with_record).count();
        assert!(
            kept > 0 && kept * size <= 64 << 20,
            "{kept} of {size} bytes"
        );
    }

    #[test]
    fn recently_used_entries_are_kept() {
        let cache = UploadCache::default();
        let kept = id(0);
        drop(cache.get_or_insert(&kept));
        for n in 1..100_000 {
            drop(cache.get_or_insert(&id(n)));
            assert!(cache.get(&kept).is_some(), "after {n}");
        }
    }

    #[test]
    fn get_does_not_insert() {
        let cache = UploadCache::default();
        assert!(cache.get(&id(1)).is_none());
        assert_eq!(cache.len(), 0);
    }

    #[test]
    fn synced_bytes_belong_to_one_inode() {
        let mut synced = Synced::default();
        synced.add(7, 100);
        synced.add(7, 50);
        assert_eq!((synced.bytes_of(7), synced.bytes_of(8)), (100, 0));
        synced.add(8, 10);
        assert_eq!((synced.bytes_of(7), synced.bytes_of(8)), (0, 10));
    }
}
