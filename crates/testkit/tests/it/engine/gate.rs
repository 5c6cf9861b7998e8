//! A store whose writes can be blocked, as those of a disk that hangs, and which can be killed.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use bytes::Bytes;
use landfall::{
    lease::{Fence, Locker},
    store::{Append, Capabilities, Result, Store, StoreError},
    upload::{Snapshot, Upload, UploadId},
};
use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard, watch};

/// Blocks the writes of all stores that were opened with it. Clones are the same gate.
#[derive(Debug, Clone)]
pub(super) struct WriteGate(Arc<watch::Sender<State>>);

#[derive(Debug, Clone, Copy, Default)]
struct State {
    closed: bool,
    /// Writes that wait.
    blocked: usize,
    /// Number of times the stores were killed.
    life: u64,
    /// The share, of 255, of a blocked write that is stored when its store is killed.
    lands: u8,
}

impl WriteGate {
    pub(super) fn new() -> Self {
        Self(Arc::new(watch::channel(State::default()).0))
    }

    pub(super) fn close(&self) {
        self.0.send_modify(|state| state.closed = true);
    }

    pub(super) fn open(&self) {
        self.0.send_modify(|state| state.closed = false);
    }

    /// Ends the life of all stores: of each blocked write so much lands, and nothing after it.
    pub(super) async fn kill(&self, lands: u8) {
        self.0.send_modify(|state| {
            (state.closed, state.lands) = (false, lands);
            state.life += 1;
        });
        self.quiet().await;
    }

    /// Waits until no write is blocked any more.
    pub(super) async fn quiet(&self) {
        self.until(|state| state.blocked == 0).await;
    }

    /// Waits until this many writes are blocked.
    pub(super) async fn blocked(&self, writes: usize) {
        self.until(|state| state.blocked >= writes).await;
    }

    async fn until(&self, is_so: impl FnMut(&State) -> bool) -> State {
        let mut changes = self.0.subscribe();
        let state = changes.wait_for(is_so).await.expect("the sender is here");
        *state
    }

    fn state(&self) -> State {
        *self.0.borrow()
    }
}

/// The way a [`GatedStore`] resumes uploads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Resume {
    AsOneAct,
    /// With the state of before the blocked write and the append of after it, as a store does that
    /// loads and appends.
    Split,
}

/// A store whose writes wait at a gate, and continue there when their request is dropped.
#[derive(Debug, Clone)]
pub(super) struct GatedStore {
    inner: Arc<dyn Store>,
    gate: WriteGate,
    life: u64,
    resume: Resume,
    /// Held by the write that is at it, for each upload.
    turns: Arc<Mutex<HashMap<UploadId, AppendLock>>>,
}

type AppendLock = Arc<AsyncMutex<()>>;

impl GatedStore {
    pub(super) fn new(inner: Arc<dyn Store>, gate: &WriteGate, resume: Resume) -> Self {
        Self {
            inner,
            life: gate.state().life,
            gate: gate.clone(),
            resume,
            turns: Arc::default(),
        }
    }

    fn alive(&self) -> Result<()> {
        if self.gate.state().life == self.life {
            return Ok(());
        }
        Err(StoreError::Unavailable("the store was killed".into()))
    }

    async fn turn(&self, id: &UploadId) -> OwnedMutexGuard<()> {
        let turn = {
            let mut turns = self.turns.lock().unwrap();
            Arc::clone(turns.entry(id.clone()).or_default())
        };
        turn.lock_owned().await
    }

    fn gated(&self, id: &UploadId, inner: Box<dyn Append>) -> Box<dyn Append> {
        Box::new(GatedAppend {
            store: self.clone(),
            id: id.clone(),
            known: Arc::new(Mutex::new((inner.offset(), inner.readable()))),
            inner: Arc::new(AsyncMutex::new(inner)),
        })
    }
}

#[async_trait]
impl Store for GatedStore {
    async fn create(&self, upload: Upload) -> Result<Arc<Upload>> {
        self.alive()?;
        self.inner.create(upload).await
    }

    async fn load(&self, id: &UploadId) -> Result<Snapshot> {
        self.alive()?;
        self.inner.load(id).await
    }

    async fn resume(&self, id: &UploadId, fence: Fence) -> Result<(Snapshot, Box<dyn Append>)> {
        self.alive()?;
        let before = match self.resume {
            Resume::AsOneAct => None,
            Resume::Split => Some(self.inner.load(id).await?),
        };
        drop(self.turn(id).await);
        self.alive()?;
        let (opened, append) = self.inner.resume(id, fence).await?;
        Ok((before.unwrap_or(opened), self.gated(id, append)))
    }

    async fn create_append(
        &self,
        upload: Upload,
        fence: Fence,
    ) -> Result<(Arc<Upload>, Box<dyn Append>)> {
        self.alive()?;
        let (upload, append) = self.inner.create_append(upload, fence).await?;
        let append = self.gated(&upload.id, append);
        Ok((upload, append))
    }

    async fn save(&self, upload: &Upload, fence: Fence) -> Result<()> {
        self.alive()?;
        self.inner.save(upload, fence).await
    }

    fn capabilities(&self) -> Capabilities<'_> {
        self.inner.capabilities()
    }

    fn locker(&self) -> Option<Arc<dyn Locker>> {
        self.inner.locker()
    }
}

#[derive(Debug)]
struct GatedAppend {
    store: GatedStore,
    id: UploadId,
    inner: Inner,
    /// Its offset, and its published offset.
    known: KnownOffsets,
}

type Inner = Arc<AsyncMutex<Box<dyn Append>>>;
type KnownOffsets = Arc<Mutex<(u64, Option<u64>)>>;

/// Writes what of it lands.
async fn write(
    inner: &Inner,
    known: &KnownOffsets,
    chunks: &mut Vec<Bytes>,
    killed: bool,
) -> Result<()> {
    let mut inner = inner.lock().await;
    let written = inner.write(chunks).await;
    if killed {
        drop(inner.commit().await);
    }
    *known.lock().unwrap() = (inner.offset(), inner.readable());
    written
}

/// Keeps the first `parts` of 255 parts.
fn shorten(chunks: &mut Vec<Bytes>, parts: u8) {
    let whole: usize = chunks.iter().map(Bytes::len).sum();
    let mut left = whole * usize::from(parts) / 255;
    for chunk in chunks.iter_mut() {
        chunk.truncate(left);
        left -= chunk.len();
    }
    chunks.retain(|chunk| !chunk.is_empty());
}

impl GatedAppend {
    async fn lock_written(&self) -> Result<tokio::sync::MutexGuard<'_, Box<dyn Append>>> {
        let inner = self.inner.lock().await;
        self.store.alive()?;
        Ok(inner)
    }

    fn know(&self, inner: &dyn Append) {
        *self.known.lock().unwrap() = (inner.offset(), inner.readable());
    }
}

#[async_trait]
impl Append for GatedAppend {
    fn offset(&self) -> u64 {
        self.known.lock().unwrap().0
    }

    fn readable(&self) -> Option<u64> {
        self.known.lock().unwrap().1
    }

    async fn write(&mut self, chunks: &mut Vec<Bytes>) -> Result<()> {
        self.store.alive()?;
        if !self.store.gate.state().closed {
            return write(&self.inner, &self.known, chunks, false).await;
        }
        let turn = self.store.turn(&self.id).await;
        let (store, inner, known) = (self.store.clone(), self.inner.clone(), self.known.clone());
        let mut taken = std::mem::take(chunks);
        let blocked = tokio::spawn(async move {
            let _turn = turn;
            let WriteGate(gate) = &store.gate;
            gate.send_modify(|state| state.blocked += 1);
            let own = store.life;
            let state = store.gate.until(|state| !state.closed || state.life != own);
            let state = state.await;
            let killed = state.life != own;
            if killed {
                shorten(&mut taken, state.lands);
            }
            let written = write(&inner, &known, &mut taken, killed).await;
            gate.send_modify(|state| state.blocked -= 1);
            (taken, written)
        });
        let (emptied, written) = blocked.await.expect("a write doesn't panic");
        *chunks = emptied;
        self.store.alive()?;
        written
    }

    async fn commit(&mut self) -> Result<u64> {
        let mut inner = self.lock_written().await?;
        let committed = inner.commit().await;
        self.know(&**inner);
        committed
    }

    async fn begin_unverified(&mut self) -> Result<()> {
        let mut inner = self.lock_written().await?;
        let held = inner.begin_unverified().await;
        self.know(&**inner);
        held
    }

    async fn accept_unverified(&mut self) -> Result<()> {
        let mut inner = self.lock_written().await?;
        let confirmed = inner.accept_unverified().await;
        self.know(&**inner);
        confirmed
    }

    async fn discard_unverified(&mut self) -> Result<()> {
        let mut inner = self.lock_written().await?;
        let discarded = inner.discard_unverified().await;
        self.know(&**inner);
        discarded
    }
}
