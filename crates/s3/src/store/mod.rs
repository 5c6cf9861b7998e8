//! Uploads in a bucket, laid out as tusd lays them out.
//!
//! Bytes go from the request to S3 in parts, in parallel, out of memory that all uploads share; there
//! are no temporary files. What is too little for a part is kept in an object of its own, `.part`,
//! whenever an offset is acknowledged. The order of calls is such that a process may die between any
//! two of them:
//!
//! 1. `.part` says where it begins. Once a part holds its bytes, that is no longer where the parts
//!    end, and it doesn't count any more; it is overwritten afterwards, never before.
//! 2. Which part holds which bytes is settled before it is sent (the `plan` module), so parts that
//!    landed above a missing one are harmless: the same bytes will be sent there again. Where parts of
//!    another process may still be on their way, the bytes are sent under numbers above theirs: a
//!    service may fail to complete an upload of which two processes sent the same part.
//! 3. Nothing is left in `.part` when the object is completed.
//! 4. An upload that has all its bytes, but no object, is completed by whoever looks at it.
//! 5. If a part fails, so does the request: later bytes never take its place.
//! 6. A removal ends with the description, so that it can be repeated until then.
//!
//! Where other processes write, too ([`S3Options::shared`]), a writer first says so in the
//! description and then looks where the upload stands; and before it acknowledges anything it looks
//! whether it still says so. One of two writers always sees the other.

mod append;
mod blocks;
mod commit;
mod concat;
mod create;
mod damaged;
mod due;
mod enumerate;
mod failure;
mod gather;
mod launch;
mod layout;
mod look;
mod memory;
mod plan;
mod read;
mod reclaim;
mod session;
mod stats;
mod terminate;
mod writer;

use std::{
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use async_trait::async_trait;
use landfall::{
    lease::{Fence, Locker, MemoryLocker},
    store::{
        Append, Concatenate, DeferLength, Enumerate, Finish, Read, Result, Store, StoreError,
        Terminate,
    },
    upload::{Snapshot, Upload, UploadId},
};
use sha2::{Digest as _, Sha256};
use tokio::sync::{MutexGuard, Semaphore};

pub use self::layout::Layout;
pub(crate) use self::layout::check_template;
pub use self::stats::StoreStats;
use self::{
    append::S3Append,
    blocks::Blocks,
    due::DueTimes,
    gather::Gather,
    memory::Budget,
    plan::Sizes,
    session::{Known, Session, Sessions, State},
    writer::writer,
};
use crate::{
    InvalidOptions, S3Options,
    client::{Client, Payload},
};

/// Uploads in a bucket, laid out as tusd lays them out. Cheap to clone; clones are one store.
///
/// Everything that changes an upload must happen under its lease, as the engine does it. With
/// [`S3Options::shared`] several processes may use the same bucket and prefix.
#[derive(Debug, Clone)]
pub struct S3Store(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    client: Client,
    options: S3Options,
    layout: Layout,
    sizes: Sizes,
    sessions: Sessions,
    budget: Budget,
    blocks: Blocks,
    /// Parts that may be on their way at one time.
    slots: Arc<Semaphore>,
    /// Names this process as a writer, for a store that no other one writes to.
    incarnation: u64,
    /// The leases of this process, for a store that no other one writes to.
    locker: MemoryLocker,
    /// Memory beyond the budget, for one upload at a time, so that it never comes to a standstill.
    spare: Arc<Semaphore>,
    /// How often that memory was taken.
    turns: AtomicU64,
    due: DueTimes,
}

impl S3Store {
    /// A store in a bucket that `client` can reach. Nothing is asked of S3 yet.
    ///
    /// # Errors
    /// If the options contradict each other.
    pub fn new(client: Client, options: S3Options) -> Result<Self, InvalidOptions> {
        options.check()?;
        if let Some(template) = &options.key_template {
            check_template(template).map_err(InvalidOptions)?;
        }
        let sizes = Sizes {
            preferred: options.part_size,
            largest: options.max_part.min(options.memory as u64 / 2),
            parts: options.max_parts,
        };
        Ok(Self(Arc::new(Inner {
            layout: Layout::new(&options),
            sizes,
            sessions: Sessions::new(),
            budget: Budget::new(options.memory),
            blocks: Blocks::default(),
            slots: Arc::new(Semaphore::new(options.concurrent_parts)),
            spare: Arc::new(Semaphore::new(1)),
            turns: AtomicU64::new(0),
            due: DueTimes::default(),
            locker: MemoryLocker::new(),
            incarnation: rand::random(),
            client,
            options,
        })))
    }

    /// The client it uses.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.0.client
    }

    /// What it was told.
    #[must_use]
    pub fn options(&self) -> &S3Options {
        &self.0.options
    }

    /// What it is doing at the moment.
    #[must_use]
    pub fn stats(&self) -> StoreStats {
        self.0.stats()
    }

    /// The most bytes an upload can have here.
    #[must_use]
    pub fn max_size(&self) -> u64 {
        self.0.max_size()
    }
}

impl Inner {
    fn max_size(&self) -> u64 {
        self.sizes.most().min(self.options.max_object)
    }

    fn fits(&self, length: u64) -> Result<()> {
        let limit = self.max_size();
        if length > limit {
            return Err(StoreError::TooLarge { limit });
        }
        Ok(())
    }

    /// Nothing gathered yet.
    fn gather(&self) -> Gather {
        Gather::new(self.options.content_hashes, self.blocks.clone())
    }

    fn hashed(&self, bytes: Vec<u8>) -> Payload {
        let hash = self
            .options
            .content_hashes
            .then(|| Sha256::digest(&bytes).into());
        Payload::new(vec![bytes.into()], hash)
    }

    /// The state of an upload for a change under the lease with `fence`, found out if need be.
    async fn change<'a>(
        &self,
        session: &'a Session,
        fence: Fence,
    ) -> Result<MutexGuard<'a, Known>> {
        let id = &session.id;
        if !session.admits(fence) {
            return Err(StoreError::LeaseLost(id.clone()));
        }
        let mut known = session.known.lock().await;
        if !session.is_newest(fence) {
            return Err(StoreError::LeaseLost(id.clone()));
        }
        if let Known::State(state) = &mut *known {
            let follows = state.fence == fence || state.fence.0.checked_add(1) == Some(fence.0);
            if self.options.shared && !follows || self.settle(state).await.is_err() {
                *known = Known::Nothing;
            }
        }
        match &mut *known {
            Known::Gone => return Err(StoreError::NotFound(id.clone())),
            Known::State(state) => {
                state.fence = fence;
                if self.options.shared {
                    session.claim(fence);
                }
            }
            Known::Nothing => {
                let at = self.look(id, Some((session, fence))).await?;
                let mut state = State::new(at, fence, self.gather(), session);
                state.is_signed = self.options.shared || self.is_signed(&state.at.info);
                *known = Known::State(Box::new(state));
            }
        }
        if let Known::State(state) = &mut *known
            && let Err(error) = self.take_back_unverified(state).await
        {
            *known = Known::Nothing;
            return Err(error);
        }
        session.weigh(known.memory_size());
        Ok(known)
    }

    async fn resume(self: &Arc<Self>, id: &UploadId, fence: Fence) -> Result<(Snapshot, S3Append)> {
        let session = self.sessions.enter(id);
        let resumed = self.open(&session, fence).await;
        if matches!(resumed, Err(StoreError::NotFound(_))) {
            self.sessions.leave(session);
        }
        resumed
    }

    async fn open(
        self: &Arc<Self>,
        session: &Arc<Session>,
        fence: Fence,
    ) -> Result<(Snapshot, S3Append)> {
        let mut known = self.change(session, fence).await?;
        let Known::State(state) = &mut *known else {
            return Err(StoreError::NotFound(session.id.clone()));
        };
        // What a dropped request left is kept, or taken back, before anything comes after it.
        let tidied = self.tidy(state).await;
        if let Err(error) = tidied {
            *known = Known::Nothing;
            return Err(error);
        }
        state.opened = state.floor();
        let snapshot = state.snapshot();
        session.publish(snapshot.clone());
        session.touch(state.gather.len());
        let append = S3Append::new(self.clone(), session.writer(fence), fence, snapshot.offset);
        Ok((snapshot, append))
    }

    /// Keeps what was written and not committed, takes back what was on probation, and completes what
    /// has all its bytes.
    async fn tidy(&self, state: &mut State) -> Result<()> {
        if state.held.is_some() {
            self.discard(state).await?;
        }
        if state.is_dirty() {
            self.commit(state).await?;
        }
        if state.is_all_there() {
            self.complete(state).await?;
        }
        Ok(())
    }

    async fn load(&self, id: &UploadId) -> Result<Snapshot> {
        if let Some(session) = self.sessions.get(id)
            && session.is_written()
            && let Some(snapshot) = session.published()
        {
            return Ok(snapshot);
        }
        if self.options.shared {
            let state = self.load_shared(id).await?;
            let session = self.sessions.enter(id);
            session.see(writer(&state.at.info));
            return Ok(state.snapshot());
        }
        let session = self.sessions.enter(id);
        let loaded = self.load_known(&session).await;
        if matches!(loaded, Err(StoreError::NotFound(_))) {
            self.sessions.leave(session);
        }
        loaded
    }

    /// Loads an upload that other processes write, too.
    async fn load_shared(&self, id: &UploadId) -> Result<State> {
        let at = self.look(id, None).await?;
        let session = Session::of_reader(id.clone());
        let mut state = State::new(at, Fence(0), self.gather(), &session);
        if state.is_all_there() {
            self.complete(&mut state).await?;
        }
        Ok(state)
    }

    /// Loads an upload for a listing, after which nothing is known of it.
    async fn inspect(&self, id: &UploadId) -> Result<Snapshot> {
        if self.options.shared {
            let state = self.load_shared(id).await?;
            return Ok(state.snapshot());
        }
        self.load(id).await
    }

    async fn load_known(&self, session: &Session) -> Result<Snapshot> {
        let mut known = session.known.lock().await;
        if session.is_written()
            && let Some(snapshot) = session.published()
        {
            return Ok(snapshot);
        }
        if let Known::Gone = &*known {
            return Err(StoreError::NotFound(session.id.clone()));
        }
        if let Known::State(state) = &mut *known
            && (self.settle(state).await.is_err() || self.tidy(state).await.is_err())
        {
            *known = Known::Nothing;
        }
        if let Known::Nothing = &*known {
            let at = self.look(&session.id, None).await?;
            let mut state = State::new(at, Fence(0), self.gather(), session);
            state.is_signed = self.is_signed(&state.at.info);
            *known = Known::State(Box::new(state));
        }
        let Known::State(state) = &mut *known else {
            return Err(StoreError::NotFound(session.id.clone()));
        };
        if state.is_all_there()
            && let Err(error) = self.complete(state).await
        {
            *known = Known::Nothing;
            return Err(error);
        }
        session.touch(state.gather.len());
        let snapshot = state.snapshot();
        session.publish(snapshot.clone());
        Ok(snapshot)
    }

    /// Changes the description.
    async fn describe(
        &self,
        id: &UploadId,
        fence: Fence,
        change: impl FnOnce(&mut Upload) + Send,
    ) -> Result<Arc<Upload>> {
        let session = self.sessions.enter(id);
        let mut known = match self.change(&session, fence).await {
            Ok(known) => known,
            Err(error) => {
                if matches!(error, StoreError::NotFound(_)) {
                    self.sessions.leave(session.clone());
                }
                return Err(error);
            }
        };
        // Until S3 has it nothing is known: this may be dropped, and then either description is there.
        let mut state = match std::mem::take(&mut *known) {
            Known::State(state) => state,
            other => {
                *known = other;
                return Err(StoreError::NotFound(id.clone()));
            }
        };
        let before = state.at.info.upload.clone();
        change(&mut state.at.info.upload);
        state.at.info.upload.storage.clone_from(&before.storage);
        self.save_info(&mut state).await?;
        let snapshot = state.snapshot();
        *known = Known::State(state);
        session.publish(snapshot.clone());
        Ok(snapshot.upload)
    }
}

#[async_trait]
impl Store for S3Store {
    async fn assign_id(&self, upload: &mut Upload) -> Result<()> {
        self.0.assign(upload).await
    }

    async fn create(&self, upload: Upload) -> Result<Arc<Upload>> {
        let session = self.0.create(upload, None).await?;
        let snapshot = session.published();
        Ok(snapshot.map_or_else(
            || Arc::new(Upload::new(session.id.clone(), None)),
            |s| s.upload,
        ))
    }

    async fn load(&self, id: &UploadId) -> Result<Snapshot> {
        self.0.load(id).await
    }

    async fn resume(&self, id: &UploadId, fence: Fence) -> Result<(Snapshot, Box<dyn Append>)> {
        let (snapshot, append) = self.0.resume(id, fence).await?;
        Ok((snapshot, Box::new(append)))
    }

    async fn create_append(
        &self,
        upload: Upload,
        fence: Fence,
    ) -> Result<(Arc<Upload>, Box<dyn Append>)> {
        let session = self.0.create(upload, Some(fence)).await?;
        let (snapshot, append) = self.0.open(&session, fence).await?;
        Ok((snapshot.upload, Box::new(append)))
    }

    async fn save(&self, upload: &Upload, fence: Fence) -> Result<()> {
        let change = |kept: &mut Upload| *kept = upload.clone();
        self.0.describe(&upload.id, fence, change).await.map(drop)
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
        Some(Arc::new(self.0.locker.clone()))
    }
}

#[async_trait]
impl Finish for S3Store {
    async fn finish(&self, upload: &Upload, fence: Fence) -> Result<Option<String>> {
        let session = self.0.sessions.enter(&upload.id);
        let mut known = self.0.change(&session, fence).await?;
        let mut etag = None;
        // Until it is complete nothing is known: this may be dropped.
        match std::mem::take(&mut *known) {
            Known::State(mut state) if state.is_all_there() => {
                self.0.complete(&mut state).await?;
                session.publish(state.snapshot());
                etag.clone_from(&state.at.object_etag);
                *known = Known::State(state);
            }
            other => *known = other,
        }
        Ok(etag)
    }
}

#[async_trait]
impl DeferLength for S3Store {
    async fn declare_length(
        &self,
        upload: &Upload,
        length: u64,
        fence: Fence,
    ) -> Result<Arc<Upload>> {
        self.0.fits(length)?;
        let change = |upload: &mut Upload| upload.length = Some(length);
        self.0.describe(&upload.id, fence, change).await
    }
}

/// How long an upload that waits for its client is left alone when others need its memory.
const RESTED: Duration = Duration::from_millis(250);
