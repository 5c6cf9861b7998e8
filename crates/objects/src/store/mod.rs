//! Uploads in a bucket, in tusd's layout.
//!
//! Request bodies are uploaded in parts, concurrently, from a memory budget that all uploads share;
//! there are no temporary files. Bytes too few for a part are stored in the incomplete part, the
//! object `.part`, whenever an offset is acknowledged. The order of calls allows the process to die
//! between any two of them:
//!
//! 1. `.part` contains its start offset. Once a part contains its bytes, this is no longer the end
//!    of the parts, and `.part` does not count. It is overwritten after that, never before.
//! 2. The bytes of each part are fixed before it is sent ([`PartPlan`](crate::PartPlan)). So parts above a
//!    missing one are harmless: the same bytes will be sent there again. Where parts of another
//!    process may be in flight, the bytes are sent with higher part numbers: a service may fail to
//!    complete an upload if two processes sent the same part of it.
//! 3. `.part` is deleted before the object is completed; after it, where other nodes may see neither
//!    parts nor object meanwhile. Where the service may lose what is overwritten, `.part` has a copy.
//! 4. An upload with all its bytes but without an object is completed when it is next loaded.
//! 5. If a part fails, so does the request: later bytes never take its place.
//! 6. A removal deletes the description last, so that it can be repeated until then.
//!
//! In a bucket with several writers ([`StoreOptions::shared`]), a process first writes its name into
//! the description and then reads the state of the upload; before it acknowledges an offset, it
//! checks that the name is still there. So one of two writers always sees the other.
//!
//! A sweep examines the uploads that an index names as due ([`due`]), and lists a large bucket seldom.
//!
//! If nothing names a multipart upload ([`Rules::implicit_multipart`]), tusd counts every part that it finds. So a part
//! is stored only after the one before (`part_upload.rs`), and the incomplete part is an object elsewhere, a new one for
//! each commit (`tails.rs`). Where parts have versions ([`Rules::versioned_parts`]), they need no plan: a part is
//! replaced by its tag alone, and names its writer, so that late parts of an earlier writer do not count.

mod append;
mod commit;
mod concat;
mod create;
mod description;
mod due;
mod election;
mod enumerate;
mod layout;
mod part_upload;
mod read;
mod remote_state;
mod session;
mod tails;
mod terminate;
mod uncounted;
mod writer;

use std::{
    sync::{Arc, Weak},
    time::{Duration, UNIX_EPOCH},
};

use async_trait::async_trait;
use landfall::{
    lease::{Fence, Locker, MemoryLocker},
    store::{Append, Capabilities, DeferLength, Finish, Result, Store, StoreError},
    upload::{Snapshot, Upload, UploadId},
};
use parking_lot::Mutex;
use sha2::{Digest as _, Sha256};
use tokio::sync::{MutexGuard, Semaphore};

use self::{
    append::ObjectAppend,
    description::writer,
    due::DueTimes,
    election::Election,
    session::{CachedState, UploadSession, UploadSessions, UploadState},
};

use crate::{
    call::{self, Error, ErrorKind, if_exists},
    cloud::{Cloud, Rules},
    memory::MemoryBudget,
    object::{Condition, ObjectHead, ObjectRef},
    options::{InvalidOptions, StoreOptions},
    part_buffer::{BlockPool, PartBuffer},
    part_plan::PartSizeLimits,
    payload::Payload,
};

pub(crate) use self::layout::has_dot_segment;
pub use self::layout::{Layout, user_metadata};

/// A store of uploads in a bucket, in tusd's layout. Clones share one store.
///
/// Every change of an upload must happen under its lease, as in the engine. With
/// [`StoreOptions::shared`], several processes may use the same bucket and prefix.
#[derive(Debug, Clone)]
pub struct ObjectStore<C>(Arc<Inner<C>>);

#[derive(Debug)]
struct Inner<C> {
    /// For tasks.
    this: Weak<Self>,
    client: Arc<C>,
    options: StoreOptions,
    rules: Rules,
    layout: Layout,
    part_sizes: PartSizeLimits,
    sessions: UploadSessions,
    budget: MemoryBudget,
    pool: BlockPool,
    part_slots: Arc<Semaphore>,
    /// Identifies this process as a writer.
    incarnation: u64,
    /// The default locker, for a bucket without other writers.
    locker: MemoryLocker,
    due: Mutex<DueTimes>,
    /// Held while due times are written.
    due_flush: tokio::sync::Mutex<()>,
    election: Election,
}

impl<C: Cloud> ObjectStore<C> {
    /// Creates a store without sending a request.
    ///
    /// # Errors
    /// [`InvalidOptions`] if the options contradict each other.
    pub fn new(client: C, options: StoreOptions) -> Result<Self, InvalidOptions> {
        options.check()?;
        if let Some(template) = &options.key_template {
            let upload = Upload::new(UploadId::random(), None);
            let filled = upload.fill(template, UNIX_EPOCH, usize::MAX, usize::MAX);
            filled.map_err(InvalidOptions)?;
        }
        let rules = client.rules();
        let sizes = PartSizeLimits {
            preferred: options.part_size,
            largest: options.max_part.min(options.memory as u64 / 2),
            parts: options.max_parts,
        };
        Ok(Self(Arc::new_cyclic(|this| Inner {
            this: this.clone(),
            layout: Layout::new(&options).with_rules(&rules),
            rules,
            part_sizes: sizes,
            sessions: UploadSessions::default(),
            budget: MemoryBudget::new(options.memory),
            pool: BlockPool::default(),
            part_slots: Arc::new(Semaphore::new(options.concurrent_parts)),
            due: Mutex::default(),
            due_flush: tokio::sync::Mutex::default(),
            election: Election::default(),
            locker: MemoryLocker::new(),
            incarnation: rand::random(),
            client: client.into(),
            options,
        })))
    }

    /// Returns the store's client.
    #[must_use]
    pub fn client(&self) -> &C {
        &self.0.client
    }

    /// Returns the store's options.
    #[must_use]
    pub fn options(&self) -> &StoreOptions {
        &self.0.options
    }

    /// Writes the due times that this process has collected, at its end.
    ///
    /// # Errors
    /// Any [`StoreError`]. Those that were not written are found by the next listing.
    pub async fn flush_due_times(&self) -> Result<()> {
        self.0.flush_due_times().await
    }

    /// Returns the current load of the store.
    #[must_use]
    pub fn stats(&self) -> StoreStats {
        self.0.stats()
    }

    /// Returns the maximum size of an upload, in bytes.
    #[must_use]
    pub fn max_size(&self) -> u64 {
        self.0.max_size()
    }
}

impl<C: Cloud> Inner<C> {
    fn max_size(&self) -> u64 {
        self.part_sizes.max_size().min(self.options.max_object)
    }

    fn check_size(&self, length: u64) -> Result<()> {
        let limit = self.max_size();
        if length > limit {
            return Err(StoreError::TooLarge { limit });
        }
        Ok(())
    }

    /// Returns the length of the largest copy, in bytes.
    fn max_copy(&self) -> u64 {
        match self.rules.versioned_parts {
            true => u64::MAX,
            false => self.rules.max_copy.min(self.options.max_part),
        }
    }

    fn new_buffer(&self) -> PartBuffer {
        PartBuffer::new(self.options.content_hashes, self.pool.clone())
    }

    /// Returns the condition of a write over the object with this entity tag, or over none.
    fn condition(&self, etag: Option<String>) -> Condition {
        match etag {
            _ if !self.options.conditional_writes => Condition::None,
            Some(etag) => Condition::IfMatch(etag),
            None => Condition::IfAbsent,
        }
    }

    fn payload(&self, bytes: Vec<u8>) -> Payload {
        let is_hashed = self.options.content_hashes;
        let hash = is_hashed.then(|| Sha256::digest(&bytes).into());
        Payload::new(vec![bytes.into()], hash)
    }

    async fn lock_for_change<'a>(
        &self,
        session: &'a UploadSession,
        fence: Fence,
    ) -> Result<MutexGuard<'a, CachedState>> {
        let mut cached = session.lock_for(fence).await?;
        let state = self.refresh(session, &mut cached, Some(fence)).await?;
        let dropped = self.drop_unverified(state).await;
        cached.discard_if_failed(dropped)?;
        let memory = cached.known().map_or(0, UploadState::memory_size);
        session.set_memory_size(memory);
        Ok(cached)
    }

    /// Returns the state for a change under a lease or else for a reader, read again if the cached
    /// one may be out of date.
    async fn refresh<'a>(
        &self,
        session: &UploadSession,
        cached: &'a mut CachedState,
        lease: Option<Fence>,
    ) -> Result<&'a mut UploadState> {
        let not_found = || StoreError::NotFound(session.id.clone());
        if let CachedState::Known(state) = cached {
            let follows = lease.is_none_or(|fence| {
                state.fence == fence || state.fence.0.checked_add(1) == Some(fence.0)
            });
            if self.options.shared && !follows
                || self.wait_for_parts(state).await.is_err()
                || self.check_dropped_writes(state).await.is_err()
            {
                *cached = CachedState::Unknown;
            }
        }
        match cached {
            CachedState::Deleted => return Err(not_found()),
            CachedState::Known(state) => {
                state.fence = lease.unwrap_or(state.fence);
                if let Some(fence) = lease.filter(|_| self.options.shared) {
                    session.status().owned_fence = fence.0;
                }
            }
            CachedState::Unknown => {
                let writer = lease.map(|fence| (session, fence));
                let mut remote = self.probe(&session.id, writer).await?;
                if lease.is_some() && self.options.shared && self.writes_once() {
                    self.confirm_takeover(&mut remote).await?;
                }
                if !self.options.shared {
                    self.forget_late_writers(&mut remote, &session.writes)
                        .await?;
                }
                if lease.is_some() {
                    // tusd would count them.
                    let late = std::mem::take(&mut remote.late_parts);
                    self.remove_parts(&remote, &late).await?;
                }
                let fence = lease.unwrap_or(Fence(0));
                let mut state = UploadState::new(remote, fence, self.new_buffer(), session);
                state.writer_recorded =
                    self.options.shared || self.is_own_writer(&state.remote.info);
                if lease.is_some() || !self.options.shared {
                    self.repeat_write(&mut state).await?;
                }
                *cached = CachedState::Known(Box::new(state));
            }
        }
        match cached {
            CachedState::Known(state) => Ok(state),
            _ => Err(not_found()),
        }
    }

    async fn open(
        self: &Arc<Self>,
        id: &UploadId,
        fence: Fence,
    ) -> Result<(Snapshot, ObjectAppend<C>)> {
        let session = self.sessions.get_or_insert(id);
        let opened = self.open_session(&session, fence).await;
        if matches!(opened, Err(StoreError::NotFound(_))) {
            self.sessions.remove_if_unused(session);
        }
        opened
    }

    async fn open_session(
        self: &Arc<Self>,
        session: &Arc<UploadSession>,
        fence: Fence,
    ) -> Result<(Snapshot, ObjectAppend<C>)> {
        let mut cached = self.lock_for_change(session, fence).await?;
        let CachedState::Known(state) = &mut *cached else {
            return Err(StoreError::NotFound(session.id.clone()));
        };
        // Bytes of a dropped request are stored or discarded before new ones follow.
        if let Err(error) = self.recover(state).await {
            *cached = CachedState::Unknown;
            return Err(error);
        }
        state.lease_start = state.checkpoint();
        let snapshot = state.snapshot();
        session.publish(snapshot.clone());
        session.touch(state.buffer.size());
        let append = ObjectAppend {
            store: self.clone(),
            session: session.writer(fence),
            fence,
            offset: snapshot.offset,
        };
        Ok((snapshot, append))
    }

    async fn recover(&self, state: &mut UploadState) -> Result<()> {
        if state.unverified.is_some() {
            self.discard_unverified(state).await?;
        }
        if state.is_dirty() {
            self.commit(state).await?;
        }
        if state.has_all_bytes() {
            self.complete(state).await?;
        }
        Ok(())
    }

    async fn load(&self, id: &UploadId) -> Result<Snapshot> {
        if let Some(session) = self.sessions.get(id)
            && let Some(snapshot) = session.written_snapshot()
        {
            return Ok(snapshot);
        }
        if self.options.shared {
            let state = self.load_shared(id).await?;
            let session = self.sessions.get_or_insert(id);
            let writer = writer(&state.remote.info).map(str::to_owned);
            session.status().last_writer = Some(writer);
            // A request has begun to write meanwhile: a part of it that was read is not committed yet.
            let written = session.written_snapshot();
            return Ok(written.unwrap_or_else(|| state.snapshot()));
        }
        let session = self.sessions.get_or_insert(id);
        let loaded = self.load_cached(&session).await;
        if matches!(loaded, Err(StoreError::NotFound(_))) {
            self.sessions.remove_if_unused(session);
        }
        loaded
    }

    async fn load_shared(&self, id: &UploadId) -> Result<UploadState> {
        let remote = self.probe(id, None).await?;
        let session = UploadSession::for_reader(id.clone());
        let mut state = UploadState::new(remote, Fence(0), self.new_buffer(), &session);
        if state.has_all_bytes() {
            self.complete(&mut state).await?;
        }
        Ok(state)
    }

    async fn load_for_listing(&self, id: &UploadId) -> Result<Snapshot> {
        if self.options.shared {
            let state = self.load_shared(id).await?;
            return Ok(state.snapshot());
        }
        self.load(id).await
    }

    async fn load_cached(&self, session: &UploadSession) -> Result<Snapshot> {
        let mut cached = match session.lock_unless_written().await {
            Ok(cached) => cached,
            Err(written) => return Ok(written),
        };
        let mut state = self.refresh(session, &mut cached, None).await?;
        if self.recover(state).await.is_err() {
            // Only stored bytes count.
            *cached = CachedState::Unknown;
            state = self.refresh(session, &mut cached, None).await?;
        }
        if state.has_all_bytes()
            && let Err(error) = self.complete(state).await
        {
            *cached = CachedState::Unknown;
            return Err(error);
        }
        session.touch(state.buffer.size());
        let snapshot = state.snapshot();
        session.publish(snapshot.clone());
        Ok(snapshot)
    }

    async fn update_info(
        &self,
        id: &UploadId,
        fence: Fence,
        change: impl FnOnce(&mut Upload) + Send,
    ) -> Result<Arc<Upload>> {
        let session = self.sessions.get_or_insert(id);
        let locked = self.lock_for_change(&session, fence).await;
        if matches!(locked, Err(StoreError::NotFound(_))) {
            self.sessions.remove_if_unused(session.clone());
        }
        let mut cached = locked?;
        // The cache is empty during the write: if this call is dropped, either description may be
        // stored.
        let CachedState::Known(mut state) = std::mem::take(&mut *cached) else {
            return Err(StoreError::NotFound(id.clone()));
        };
        let before = state.remote.info.upload.clone();
        let changed = Arc::make_mut(&mut state.remote.info.upload);
        change(changed);
        changed.storage.clone_from(&before.storage);
        self.save_info(&mut state).await?;
        let snapshot = state.snapshot();
        *cached = CachedState::Known(state);
        session.publish(snapshot.clone());
        Ok(snapshot.upload)
    }
}

#[async_trait]
impl<C: Cloud> Store for ObjectStore<C> {
    async fn assign_id(&self, upload: &mut Upload) -> Result<()> {
        self.0.assign_key(upload).await
    }

    async fn create(&self, upload: Upload) -> Result<Arc<Upload>> {
        let session = self.0.create(upload, None).await?;
        let snapshot = session.status().published.clone();
        let unknown = || Arc::new(Upload::new(session.id.clone(), None));
        Ok(snapshot.map_or_else(unknown, |snapshot| snapshot.upload))
    }

    async fn load(&self, id: &UploadId) -> Result<Snapshot> {
        self.0.load(id).await
    }

    async fn resume(&self, id: &UploadId, fence: Fence) -> Result<(Snapshot, Box<dyn Append>)> {
        let (snapshot, append) = self.0.open(id, fence).await?;
        Ok((snapshot, Box::new(append)))
    }

    async fn create_append(
        &self,
        upload: Upload,
        fence: Fence,
    ) -> Result<(Arc<Upload>, Box<dyn Append>)> {
        let session = self.0.create(upload, Some(fence)).await?;
        let (snapshot, append) = self.0.open_session(&session, fence).await?;
        Ok((snapshot.upload, Box::new(append)))
    }

    async fn save(&self, upload: &Upload, fence: Fence) -> Result<()> {
        let change = |stored: &mut Upload| *stored = upload.clone();
        let saved = self.0.update_info(&upload.id, fence, change).await;
        saved.map(drop)
    }

    fn capabilities(&self) -> Capabilities<'_> {
        Capabilities::all(self)
    }

    fn locker(&self) -> Option<Arc<dyn Locker>> {
        Some(Arc::new(self.0.locker.clone()))
    }
}

#[async_trait]
impl<C: Cloud> Finish for ObjectStore<C> {
    async fn finish(&self, upload: &Upload, fence: Fence) -> Result<Option<String>> {
        let session = self.0.sessions.get_or_insert(&upload.id);
        let mut cached = self.0.lock_for_change(&session, fence).await?;
        let mut etag = None;
        // The cache is empty until the upload is complete, because this call may be dropped.
        match std::mem::take(&mut *cached) {
            CachedState::Known(mut state) if state.has_all_bytes() => {
                if state.remote.complete {
                    self.0.remove_left_parts(&state.remote).await?;
                }
                self.0.complete(&mut state).await?;
                session.publish(state.snapshot());
                etag.clone_from(&state.remote.object_etag);
                *cached = CachedState::Known(state);
            }
            other => *cached = other,
        }
        Ok(etag)
    }
}

#[async_trait]
impl<C: Cloud> DeferLength for ObjectStore<C> {
    async fn declare_length(
        &self,
        upload: &Upload,
        length: u64,
        fence: Fence,
    ) -> Result<Arc<Upload>> {
        self.0.check_size(length)?;
        let change = |upload: &mut Upload| upload.length = Some(length);
        self.0.update_info(&upload.id, fence, change).await
    }
}

/// Time that an upload must be idle before others reclaim its memory.
const IDLE_AFTER: Duration = Duration::from_millis(250);

/// Waits for what another process is completing now.
const COMPLETION_POLL_DELAYS: [Duration; 4] = [
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(200),
    Duration::from_millis(400),
];

/// Names the action on an upload in the error of a call.
pub(super) trait During<T> {
    fn during(self, action: &str, id: &UploadId) -> Result<T>;
}

impl<T> During<T> for call::Result<T> {
    fn during(self, action: &str, id: &UploadId) -> Result<T> {
        self.map_err(|error| failed(id, action, error))
    }
}

impl<C: Cloud> Inner<C> {
    /// Returns the metadata of an object of an upload, if there is one.
    async fn find_object(&self, id: &UploadId, object: &ObjectRef) -> Result<Option<ObjectHead>> {
        let head = if_exists(self.client.head_object(object).await);
        head.during("reading the metadata of the object", id)
    }

    async fn complete_multipart(
        &self,
        upload: &Upload,
        object: &ObjectRef,
        multipart: &str,
        parts: &[(u32, String)],
    ) -> call::Result<String> {
        let headers = self.layout.headers_with_owner(upload);
        let completed = self
            .client
            .complete_multipart(object, multipart, parts, &headers);
        completed.await
    }
}

/// Converts an error of `action` on an upload.
///
/// Errors that an operator has to fix (credentials, the bucket) do not concern this upload: the client may
/// retry.
pub(super) fn failed(id: &UploadId, action: &str, error: Error) -> StoreError {
    match error.kind() {
        ErrorKind::NoSuchKey => StoreError::NotFound(id.clone()),
        ErrorKind::PreconditionFailed => StoreError::LeaseLost(id.clone()),
        ErrorKind::StorageFull => StoreError::Full(error.into()),
        ErrorKind::AccessDenied => StoreError::refused(
            "the server may not do this in its storage; its operator has to permit it",
            error,
        ),
        ErrorKind::AccountDisabled => {
            StoreError::refused("the server's storage account is closed or suspended", error)
        }
        ErrorKind::Archived => StoreError::refused(
            "the file is archived and must be restored in the storage before it can be read",
            error,
        ),
        // Another process has just completed or removed it: the next request finds out.
        ErrorKind::NoSuchUpload
        | ErrorKind::Unavailable { .. }
        | ErrorKind::NoSuchBucket
        | ErrorKind::BadCredentials
        | ErrorKind::ClockSkew
        | ErrorKind::WrongRegion => StoreError::Unavailable(error.into()),
        _ => StoreError::other(format!("{action} of upload {id}"), error),
    }
}

/// The current load of an [`ObjectStore`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoreStats {
    /// Memory budget of part buffers, in bytes.
    pub memory_limit: usize,
    /// Used part of it, in bytes.
    pub memory_used: usize,
    /// Uploads that wait for memory.
    pub memory_waiting: usize,
    /// Maximum number of concurrent part uploads.
    pub parts_limit: usize,
    /// Part uploads in flight.
    pub parts_in_flight: usize,
}

impl<C: Cloud> Inner<C> {
    pub(super) fn stats(&self) -> StoreStats {
        let free = self.part_slots.available_permits();
        StoreStats {
            memory_limit: self.budget.total(),
            memory_used: self.budget.used(),
            memory_waiting: self.budget.waiting(),
            parts_limit: self.options.concurrent_parts,
            parts_in_flight: self.options.concurrent_parts.saturating_sub(free),
        }
    }
}
