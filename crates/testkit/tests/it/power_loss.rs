//! A store that loses power.

use std::{
    collections::HashMap,
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use async_trait::async_trait;
use bytes::Bytes;
use landfall::{
    lease::{Fence, Locker},
    removal::Removable,
    store::{
        Append, ByteStream, Capabilities, Concatenate, Cursor, DeferLength, Enumerate, Finish,
        Orphan, Page, Read, Result, Store, StoreError, Terminate,
    },
    upload::{Snapshot, Upload, UploadId},
};
use parking_lot::Mutex;
use tokio::sync::Mutex as AsyncMutex;

/// A store that buffers bytes until they are committed, loaded or finished, like a page cache, and loses
/// them in a [crash](Self::crash).
///
/// It is the worst case of a store with durability `every`: every acknowledged offset must survive the
/// crash, and nothing else. Descriptions are stored at once.
#[derive(Debug, Clone)]
pub(crate) struct PowerLossStore {
    inner: Arc<dyn Store>,
    life: Arc<AtomicU64>,
    own_life: u64,
    open: Arc<Mutex<HashMap<UploadId, Cached>>>,
}

type Cached = Arc<AsyncMutex<Cache>>;

#[derive(Debug)]
struct Cache {
    inner: Box<dyn Append>,
    chunks: Vec<Bytes>,
    held: Option<usize>,
    /// Set when bytes could not be handed on: no later ones may take their place.
    failed: bool,
}

impl Cache {
    fn offset(&self) -> u64 {
        let chunks = self.chunks.iter().map(|chunk| chunk.len() as u64);
        self.inner.offset() + chunks.sum::<u64>()
    }

    async fn sync(&mut self) -> Result<u64> {
        self.check().await?;
        let end = self.held.unwrap_or(self.chunks.len());
        let mut chunks = self.chunks.drain(..end).collect();
        self.held = self.held.map(|_| 0);
        let synced = match self.inner.write(&mut chunks).await {
            Ok(()) => self.inner.commit().await,
            Err(error) => Err(error),
        };
        if synced.is_err() {
            self.failed = true;
            self.chunks.clear();
        }
        synced
    }

    async fn check(&mut self) -> Result<()> {
        if !self.failed {
            return Ok(());
        }
        // The store inside knows best why.
        self.inner.commit().await?;
        let source = "bytes were lost, so none can follow".into();
        Err(StoreError::Unavailable(source))
    }

    fn end_unverified(&mut self) {
        if let Some(held) = self.held.take() {
            self.chunks.truncate(held);
        }
    }
}

impl PowerLossStore {
    /// Puts a cache before `inner`.
    pub(crate) fn new(inner: impl Store) -> Self {
        Self {
            inner: Arc::new(inner),
            life: Arc::default(),
            own_life: 0,
            open: Arc::default(),
        }
    }

    /// Discards uncommitted data and returns the store after the crash. Older handles and appends fail then.
    pub(crate) fn crash(&self) -> Self {
        self.open.lock().clear();
        let own_life = self.life.fetch_add(1, Ordering::SeqCst) + 1;
        Self {
            own_life,
            ..self.clone()
        }
    }

    fn alive(&self) -> Result<()> {
        if self.life.load(Ordering::SeqCst) == self.own_life {
            return Ok(());
        }
        Err(StoreError::Unavailable("the store has crashed".into()))
    }

    fn capability<'a, T: ?Sized>(&self, inner: Option<&'a T>) -> Result<&'a T> {
        self.alive()?;
        Ok(inner.expect("the inner store has every capability"))
    }

    fn cached(&self, id: &UploadId) -> Option<Cached> {
        self.open.lock().get(id).cloned()
    }

    async fn sync(&self, id: &UploadId) -> Result<()> {
        self.alive()?;
        match self.cached(id) {
            Some(cached) => cached.lock().await.sync().await.map(drop),
            None => Ok(()),
        }
    }

    fn open(&self, id: &UploadId, inner: Box<dyn Append>) -> Box<dyn Append> {
        let cache = Cache {
            inner,
            chunks: Vec::new(),
            held: None,
            failed: false,
        };
        let offset = cache.offset();
        let cached = Arc::new(AsyncMutex::new(cache));
        self.open.lock().insert(id.clone(), Arc::clone(&cached));
        Box::new(CachedAppend {
            store: self.clone(),
            id: id.clone(),
            cached,
            offset,
        })
    }
}

#[async_trait]
impl Store for PowerLossStore {
    async fn create(&self, upload: Upload) -> Result<Arc<Upload>> {
        self.alive()?;
        self.inner.create(upload).await
    }

    async fn load(&self, id: &UploadId) -> Result<Snapshot> {
        self.alive()?;
        // A reported offset must survive: write the chunks to the inner store, and report its offset.
        drop(self.sync(id).await);
        self.inner.load(id).await
    }

    async fn resume(&self, id: &UploadId, fence: Fence) -> Result<(Snapshot, Box<dyn Append>)> {
        self.alive()?;
        let Some(before) = self.cached(id) else {
            let (snapshot, inner) = self.inner.resume(id, fence).await?;
            return Ok((snapshot, self.open(id, inner)));
        };
        let mut before = before.lock().await;
        // An offset that is returned must stay: what an earlier writer left goes to the inner store
        // first, through an append of this lease, since the earlier one may be overtaken.
        let (mut snapshot, mut inner) = self.inner.resume(id, fence).await?;
        before.end_unverified();
        let mut chunks = std::mem::take(&mut before.chunks);
        if !chunks.is_empty() {
            inner.write(&mut chunks).await?;
            inner.commit().await?;
            (snapshot, inner) = self.inner.resume(id, fence).await?;
        }
        Ok((snapshot, self.open(id, inner)))
    }

    async fn save(&self, upload: &Upload, fence: Fence) -> Result<()> {
        self.alive()?;
        self.inner.save(upload, fence).await
    }

    fn capabilities(&self) -> Capabilities<'_> {
        Capabilities::all(self)
    }

    fn locker(&self) -> Option<Arc<dyn Locker>> {
        self.inner.locker()
    }
}

#[derive(Debug)]
struct CachedAppend {
    store: PowerLossStore,
    id: UploadId,
    cached: Cached,
    offset: u64,
}

impl Drop for CachedAppend {
    fn drop(&mut self) {
        let mut open = self.store.open.lock();
        if let Some(cached) = open.get(&self.id)
            && Arc::ptr_eq(cached, &self.cached)
            && cached.try_lock().is_ok_and(|cache| cache.chunks.is_empty())
        {
            open.remove(&self.id);
        }
    }
}

#[async_trait]
impl Append for CachedAppend {
    fn offset(&self) -> u64 {
        self.offset
    }

    async fn write(&mut self, chunks: &mut Vec<Bytes>) -> Result<()> {
        self.store.alive()?;
        let mut cache = self.cached.lock().await;
        cache.check().await?;
        cache.chunks.append(chunks);
        self.offset = cache.offset();
        Ok(())
    }

    async fn commit(&mut self) -> Result<u64> {
        self.store.alive()?;
        let mut cache = self.cached.lock().await;
        let synced = cache.sync().await;
        self.offset = cache.offset();
        synced
    }

    async fn begin_unverified(&mut self) -> Result<()> {
        self.store.alive()?;
        let mut cache = self.cached.lock().await;
        cache.held = Some(cache.chunks.len());
        Ok(())
    }

    async fn accept_unverified(&mut self) -> Result<()> {
        self.store.alive()?;
        let mut cache = self.cached.lock().await;
        // Only the store inside knows whether this lease is still the newest.
        cache.inner.accept_unverified().await?;
        cache.held = None;
        Ok(())
    }

    async fn discard_unverified(&mut self) -> Result<()> {
        self.store.alive()?;
        let mut cache = self.cached.lock().await;
        if cache.held.is_none() {
            // Some of the bytes may have been handed on, which only the store inside can undo.
            cache.sync().await?;
            cache.inner.discard_unverified().await?;
        }
        cache.end_unverified();
        self.offset = cache.offset();
        Ok(())
    }
}

#[async_trait]
impl Terminate for PowerLossStore {
    async fn terminate(&self, upload: &Upload, fence: Fence) -> Result<bool> {
        let inner = self.capability(self.inner.capabilities().terminator)?;
        let any = inner.terminate(upload, fence).await?;
        self.open.lock().remove(&upload.id);
        Ok(any)
    }
}

#[async_trait]
impl Finish for PowerLossStore {
    async fn finish(&self, upload: &Upload, fence: Fence) -> Result<Option<String>> {
        self.sync(&upload.id).await?;
        let inner = self.capability(self.inner.capabilities().finisher)?;
        inner.finish(upload, fence).await
    }
}

#[async_trait]
impl Read for PowerLossStore {
    async fn read(&self, upload: &Upload, range: Range<u64>) -> Result<ByteStream> {
        drop(self.sync(&upload.id).await);
        let inner = self.capability(self.inner.capabilities().reader)?;
        inner.read(upload, range).await
    }

    fn reads_unfinished(&self) -> bool {
        let reader = self.inner.capabilities().reader;
        reader.is_some_and(|reader| reader.reads_unfinished())
    }
}

#[async_trait]
impl Concatenate for PowerLossStore {
    async fn concatenate(
        &self,
        target: &Upload,
        parts: &[Arc<Upload>],
        fence: Fence,
    ) -> Result<u64> {
        for part in parts {
            self.sync(&part.id).await?;
        }
        self.open.lock().remove(&target.id);
        let inner = self.capability(self.inner.capabilities().concatenator)?;
        inner.concatenate(target, parts, fence).await
    }
}

#[async_trait]
impl DeferLength for PowerLossStore {
    async fn declare_length(
        &self,
        upload: &Upload,
        length: u64,
        fence: Fence,
    ) -> Result<Arc<Upload>> {
        let inner = self.capability(self.inner.capabilities().length_deferrer)?;
        inner.declare_length(upload, length, fence).await
    }
}

#[async_trait]
impl Enumerate for PowerLossStore {
    async fn page(&self, cursor: Option<Cursor>, limit: usize) -> Result<Page> {
        let inner = self.capability(self.inner.capabilities().enumerator)?;
        inner.page(cursor, limit).await
    }

    async fn remove_orphan(&self, orphan: &Orphan, permission: Removable) -> Result<bool> {
        let inner = self.capability(self.inner.capabilities().enumerator)?;
        inner.remove_orphan(orphan, permission).await
    }
}
