//! Storage of uploads: the [`Store`] trait and its optional capabilities.
//!
//! A store implements [`Store`]. Each further capability is a trait, and the store returns those that it
//! implements as its [`Capabilities`], so unsupported operations cannot be called. The engine changes an
//! upload only under a [lease](crate::lease) and passes the lease's [`Fence`]. The store rejects a change
//! with an older fence than one it has seen for that upload ([`StoreError::LeaseLost`]).
//!
//! `landfall_testkit::store` tests an implementation.

mod error;
#[cfg(feature = "file-store")]
pub mod file;
pub mod info;
mod memory;
mod recently_used;

use std::{
    fmt,
    ops::Range,
    pin::Pin,
    sync::Arc,
    task::Poll,
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use bytes::Bytes;
use futures_core::Stream;

pub use crate::BoxError;

pub use self::{error::StoreError, memory::MemoryStore, recently_used::RecentlyUsed};
pub use crate::removal::OrphanKind;
use crate::{
    lease::Fence,
    removal::{ClockMemory, Lifetimes, Removable},
    upload::{Snapshot, Upload, UploadId},
};

/// The result of a store's method.
pub type Result<T, E = StoreError> = std::result::Result<T, E>;

/// The bytes of a download, in order.
pub type ByteStream = Pin<Box<dyn Stream<Item = Result<Bytes>> + Send>>;

/// A store of uploads: create, load, append, and save a changed description.
///
/// Every method may be called from any task, concurrently for different uploads. For one upload the
/// engine calls `resume`, `save` and the capabilities that change it only under its lease; it may
/// call `load` at any time.
#[async_trait]
pub trait Store: fmt::Debug + Send + Sync + 'static {
    /// Creates an upload without bytes.
    ///
    /// `upload.storage` may contain a path requested by a hook; the returned description contains
    /// the actual one.
    ///
    /// # Errors
    /// [`StoreError::AlreadyExists`] if the id is taken, [`StoreError::InvalidPath`] if the requested path
    /// is not possible, [`StoreError::Full`] and others. After an error nothing of the upload is left.
    ///
    /// # Cancel safety
    /// A cancelled call may leave an empty upload behind.
    async fn create(&self, upload: Upload) -> Result<Arc<Upload>>;

    /// Assigns the final id to a new upload, before its lease is acquired and it is
    /// [created](Self::create). For stores that encode data in ids.
    ///
    /// # Errors
    /// Any [`StoreError`].
    ///
    /// # Cancel safety
    /// A resource that a cancelled call reserved for the upload becomes an [`Orphan`].
    // Not an `async fn`, whose future would be allocated.
    fn assign_id<'a, 'b, 'f>(
        &'a self,
        _upload: &'b mut Upload,
    ) -> Pin<Box<dyn Future<Output = Result<()>> + Send + 'f>>
    where
        'a: 'f,
        'b: 'f,
        Self: 'f,
    {
        Box::pin(std::future::poll_fn(|_| Poll::Ready(Ok(()))))
    }

    /// Returns the current state of an upload.
    ///
    /// Its offset may be acknowledged: the store syncs these bytes before, if its durability requires it.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] if there is no such upload.
    async fn load(&self, id: &UploadId) -> Result<Snapshot>;

    /// Does the same as [`load`](Self::load) if it need not wait, without a future. `None`: call that.
    ///
    /// It saves an allocation, as the other methods whose names end with `_now`. None of them need be implemented.
    fn load_now(&self, _id: &UploadId) -> Option<Result<Snapshot>> {
        None
    }

    /// Opens an upload for appending under the lease with `fence`; returns the state at that moment.
    ///
    /// This is atomic: the offset of the snapshot is the offset of the first byte written,
    /// regardless of earlier writers. It may be acknowledged like that of [`load`](Self::load). An
    /// [`Append`] opened earlier with a smaller fence must not write any more. Opening alone is no
    /// change: [`Snapshot::modified`] stays.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::LeaseLost`] if the store has seen a greater fence.
    async fn resume(&self, id: &UploadId, fence: Fence) -> Result<(Snapshot, Box<dyn Append>)>;

    /// Creates an upload and opens it for appending. Override it where one step saves work.
    ///
    /// # Errors
    /// Those of [`create`](Self::create) and [`resume`](Self::resume).
    async fn create_append(
        &self,
        upload: Upload,
        fence: Fence,
    ) -> Result<(Arc<Upload>, Box<dyn Append>)> {
        let upload = self.create(upload).await?;
        let (snapshot, append) = self.resume(&upload.id, fence).await?;
        Ok((snapshot.upload, append))
    }

    /// Does the same as [`create`](Self::create), or with a fence as [`create_append`](Self::create_append), if it need
    /// not wait: see [`load_now`](Self::load_now). It changes `upload` to what they return.
    fn create_now(
        &self,
        _upload: &mut Arc<Upload>,
        _fence: Option<Fence>,
    ) -> Option<Result<Option<Box<dyn Append>>>> {
        None
    }

    /// Replaces the description atomically; `storage` and the bytes stay.
    ///
    /// On return it is as durable as the store's durability requires for an acknowledged change.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::LeaseLost`].
    async fn save(&self, upload: &Upload, fence: Fence) -> Result<()>;

    /// Returns the optional operations that this store has.
    fn capabilities(&self) -> Capabilities<'_> {
        Capabilities::default()
    }

    /// Returns the locker of this store, which [`Composer::join`](crate::Composer::join) uses
    /// unless another one is set.
    fn locker(&self) -> Option<Arc<dyn crate::lease::Locker>> {
        None
    }

    /// Returns a locker with the leases of `locker` that also excludes a former holder which is stopped, and may go on
    /// later: see [`LeaseTerms`](crate::lease::LeaseTerms). [`Composer::with_locker`](crate::Composer::with_locker)
    /// calls it. A store that compares fences where its bytes are returns the same.
    fn guard(&self, locker: Arc<dyn crate::lease::Locker>) -> Arc<dyn crate::lease::Locker> {
        locker
    }
}

/// The optional operations of a [`Store`].
#[derive(Clone, Copy, Default)]
pub struct Capabilities<'a> {
    /// Removes uploads.
    pub terminator: Option<&'a dyn Terminate>,
    /// Finishes complete uploads.
    pub finisher: Option<&'a dyn Finish>,
    /// Reads bytes.
    pub reader: Option<&'a dyn Read>,
    /// Concatenates uploads.
    pub concatenator: Option<&'a dyn Concatenate>,
    /// Sets deferred lengths.
    pub length_deferrer: Option<&'a dyn DeferLength>,
    /// Lists uploads, for the sweeper.
    pub enumerator: Option<&'a dyn Enumerate>,
}

impl<'a> Capabilities<'a> {
    /// Returns all of them, for a store with every optional operation.
    pub fn all<S>(store: &'a S) -> Self
    where
        S: Terminate + Finish + Read + Concatenate + DeferLength + Enumerate,
    {
        Self {
            terminator: Some(store),
            finisher: Some(store),
            reader: Some(store),
            concatenator: Some(store),
            length_deferrer: Some(store),
            enumerator: Some(store),
        }
    }
}

impl fmt::Debug for Capabilities<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Capabilities").finish_non_exhaustive()
    }
}

/// An upload opened for appending by one lease holder.
///
/// Dropping it at any moment keeps the written bytes. A write that is still running then (on a thread, on a
/// network) ends before a later [`Store::resume`] of the same upload returns, even under the same lease.
///
/// # Cancel safety
/// After a call that was dropped before its end, it may be dropped, and nothing else: its other calls may fail.
#[async_trait]
pub trait Append: fmt::Debug + Send {
    /// Returns the offset of the next byte. The store has the bytes before it, though perhaps not
    /// yet as durably as after [`commit`](Self::commit).
    fn offset(&self) -> u64;

    /// Returns the offset that may be reported without a [`commit`](Self::commit); `None` if only a
    /// commit can determine it. Unverified bytes do not count.
    fn readable(&self) -> Option<u64> {
        None
    }

    /// Returns how many bytes the caller should buffer before a write: more where a write costs a
    /// system call, fewer where the store buffers and counts memory.
    fn write_size(&self) -> usize {
        256 * 1024
    }

    /// Writes the bytes of all `chunks` in order and empties the list, whose memory the caller reuses.
    ///
    /// The store may buffer bytes to make larger writes.
    ///
    /// # Errors
    /// [`StoreError::Full`], [`StoreError::LeaseLost`] and others. After an error `offset` returns
    /// the stored bytes; the chunks not written are dropped.
    async fn write(&mut self, chunks: &mut Vec<Bytes>) -> Result<()>;

    /// Makes the written bytes as durable as an acknowledged offset must be; returns that offset.
    ///
    /// # Errors
    /// After an error only the offset of an earlier `commit` or of a new [`Store::load`] may be
    /// acknowledged.
    async fn commit(&mut self) -> Result<u64>;

    /// Does the same as [`write`](Self::write) if it need not wait: see [`Store::load_now`].
    fn write_now(&mut self, _chunks: &mut Vec<Bytes>) -> Option<Result<()>> {
        None
    }

    /// Does the same as [`commit`](Self::commit) if it need not wait: see [`Store::load_now`].
    fn commit_now(&mut self) -> Option<Result<u64>> {
        None
    }

    /// Starts a range of unverified bytes, until [`accept_unverified`](Self::accept_unverified). If
    /// the process dies or this is dropped before, the upload's offset is the current one.
    ///
    /// # Errors
    /// Those of writing the description.
    async fn begin_unverified(&mut self) -> Result<()>;

    /// Accepts the bytes written since [`begin_unverified`](Self::begin_unverified).
    ///
    /// # Errors
    /// Those of writing the description. The bytes do not count then.
    async fn accept_unverified(&mut self) -> Result<()>;

    /// Discards the bytes written since [`begin_unverified`](Self::begin_unverified), or else since
    /// the upload was opened.
    ///
    /// # Errors
    /// Any [`StoreError`]; the bytes do not count even then.
    async fn discard_unverified(&mut self) -> Result<()>;
}

/// Most calls need not wait, and then have no future.
macro_rules! now_or_later {
    ($now:expr, $later:expr) => {
        // Not `match`, which would store the outcome of the first while the second runs.
        if let Some(done) = $now {
            done
        } else {
            $later.await
        }
    };
}
pub(crate) use now_or_later;

/// The capability to remove uploads (tus 1.0.0, Termination); the sweeper uses it, too.
#[async_trait]
pub trait Terminate: Send + Sync {
    /// Removes an upload with all its data; returns whether there was any.
    ///
    /// A missing upload is no error, so an interrupted removal can be repeated. The description may
    /// have nothing but an id, if [`Store::load`] does not find the upload any more.
    ///
    /// # Errors
    /// [`StoreError::LeaseLost`] and others. Part of the upload may be left then, so repeat the call.
    async fn terminate(&self, upload: &Upload, fence: Fence) -> Result<bool>;

    /// Removes an upload whose lifetime is over, without a request.
    ///
    /// Override it where the place of the bytes may have something that is not the upload's.
    ///
    /// # Errors
    /// As [`terminate`](Self::terminate).
    async fn expire(&self, upload: &Upload, fence: Fence, _permission: Removable) -> Result<bool> {
        self.terminate(upload, fence).await
    }
}

/// The capability to finish an upload, before its completion is acknowledged.
#[async_trait]
pub trait Finish: Send + Sync {
    /// Makes a complete upload durable; returns the entity tag of the stored object, if any.
    ///
    /// May be called again for an upload that was finished before.
    ///
    /// # Errors
    /// Any [`StoreError`]; the completion is not acknowledged then.
    async fn finish(&self, upload: &Upload, fence: Fence) -> Result<Option<String>>;

    /// Does the same as [`finish`](Self::finish) if it need not wait: see [`Store::load_now`].
    fn finish_now(&self, _upload: &Upload, _fence: Fence) -> Option<Result<Option<String>>> {
        None
    }
}

/// The capability to read bytes. Needs no lease: acknowledged bytes never change.
#[async_trait]
pub trait Read: Send + Sync {
    /// Returns the bytes of `range`, which must not exceed the upload's offset.
    ///
    /// # Errors
    /// [`StoreError::NotFound`]; later errors are items of the stream.
    async fn read(&self, upload: &Upload, range: Range<u64>) -> Result<ByteStream>;

    /// Returns whether the bytes of an incomplete upload can be read.
    fn reads_unfinished(&self) -> bool {
        true
    }

    /// Returns a presigned URL from which a client can download a complete upload, with these two
    /// response headers. `None` if the store has no such URLs.
    ///
    /// # Errors
    /// Any [`StoreError`].
    async fn link(
        &self,
        _upload: &Upload,
        _content_type: &str,
        _content_disposition: &str,
    ) -> Result<Option<String>> {
        Ok(None)
    }
}

/// The capability to concatenate uploads (tus 1.0.0, Concatenation).
#[async_trait]
pub trait Concatenate: Send + Sync {
    /// Fills the empty upload `target` with the bytes of `parts` in order; returns the sum of lengths.
    ///
    /// The parts stay and may be removed afterwards; a part may occur several times. On return the
    /// bytes are as durable as after [`Finish::finish`].
    ///
    /// # Errors
    /// [`StoreError::NotFound`] if a part is missing, [`StoreError::Full`]. `target` is empty again
    /// then, or the caller removes it.
    ///
    /// # Cancel safety
    /// A cancelled call may leave some bytes in `target`; the next call starts over.
    async fn concatenate(
        &self,
        target: &Upload,
        parts: &[Arc<Upload>],
        fence: Fence,
    ) -> Result<u64>;
}

/// The capability to set a deferred length (tus 1.0.0, Creation Defer Length).
#[async_trait]
pub trait DeferLength: Send + Sync {
    /// Stores the length, which never changes afterwards; returns the new description.
    ///
    /// # Errors
    /// [`StoreError::LeaseLost`] and others; the length is still unknown then.
    async fn declare_length(
        &self,
        upload: &Upload,
        length: u64,
        fence: Fence,
    ) -> Result<Arc<Upload>>;
}

/// The capability to list uploads in pages, in an order of the store's choice.
#[async_trait]
pub trait Enumerate: Send + Sync {
    /// Returns the page after `cursor` (`None`: the first page) with at most `limit` entries.
    ///
    /// An upload that is created or removed during the listing may or may not be listed; all others
    /// are listed exactly once.
    ///
    /// # Errors
    /// Any [`StoreError`].
    async fn page(&self, cursor: Option<Cursor>, limit: usize) -> Result<Page>;

    /// Like [`page`](Self::page), but may skip uploads that the filter does not need. Override it
    /// where examining an upload is expensive.
    ///
    /// # Errors
    /// Any [`StoreError`].
    async fn page_due(
        &self,
        cursor: Option<Cursor>,
        limit: usize,
        _filter: &DueFilter<'_>,
    ) -> Result<Page> {
        self.page(cursor, limit).await
    }

    /// Claims the sweep that is due for this process, or tells when to ask again.
    ///
    /// Of the processes that share a store, one sweeps. It claims the sweep again every
    /// [`SWEEP_RENEWAL`] until it [finishes](Self::finish_sweep) it; another one takes over when it
    /// no longer does. Two may sweep for a short time: a sweep changes nothing without the lease of
    /// the upload. `interval` is that of the sweeps, and the same for all processes.
    ///
    /// # Errors
    /// Any [`StoreError`].
    ///
    /// # Cancel safety
    /// The sweep may be claimed; no other process sweeps until this process is taken for dead.
    async fn claim_sweep(&self, _interval: Duration) -> Result<SweepClaim> {
        Ok(SweepClaim::Granted)
    }

    /// Ends a sweep whose pages were all handled. The next one is due after `next`.
    ///
    /// # Errors
    /// Any [`StoreError`]. The next sweep then repeats what this one did.
    async fn finish_sweep(&self, _next: Duration) -> Result<()> {
        Ok(())
    }

    /// Returns the index of due times, if the store has one.
    fn due_index(&self) -> Option<&dyn DueIndex> {
        None
    }

    /// Removes an orphan that [`page`](Self::page) listed, if it is unchanged; returns whether it did. The caller
    /// holds the lease of the upload it belonged to.
    ///
    /// # Errors
    /// Any [`StoreError`].
    async fn remove_orphan(&self, orphan: &Orphan, permission: Removable) -> Result<bool>;

    /// Returns what the clock of the sweeps of an earlier process remembered with
    /// [`save_clock`](Self::save_clock), or what else shows the time until which the store was in use before
    /// this process. `None`: nothing does, or the store outlives no process.
    ///
    /// # Errors
    /// Any [`StoreError`].
    async fn load_clock(&self) -> Result<Option<ClockMemory>> {
        Ok(None)
    }

    /// Remembers the clock of the sweeps for the next process, at the end of a sweep.
    ///
    /// # Errors
    /// Any [`StoreError`].
    async fn save_clock(&self, _clock: ClockMemory) -> Result<()> {
        Ok(())
    }
}

/// The interval at which a process claims its running sweep again.
pub const SWEEP_RENEWAL: Duration = Duration::from_secs(4);

/// The response to [`Enumerate::claim_sweep`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SweepClaim {
    /// This process sweeps.
    Granted,
    /// Another process sweeps, or has swept: claim it again after this time.
    Later(Duration),
}

/// Remembers when uploads have to be examined, so that a sweep need not list all of them.
///
/// It is a hint: a listing finds later the uploads that it forgets, and its description alone decides whether an
/// upload is removed.
pub trait DueIndex: Send + Sync {
    /// Records when an upload has to be examined, unless a later call says otherwise; `None`: never.
    ///
    /// Called for each upload that was created or completed. It must not block.
    fn record(&self, snapshot: &Snapshot, due: Option<SystemTime>);
}

/// A position in a listing, in a format of the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor(pub String);

/// One page of a listing.
#[derive(Debug, Default)]
pub struct Page {
    /// Uploads that can be loaded.
    pub uploads: Vec<Snapshot>,
    /// Objects or files that belong to no upload.
    pub orphans: Vec<Orphan>,
    /// Uploads that cannot be loaded because their stored state is inconsistent.
    pub damaged: Vec<Damaged>,
    /// Uploads, or directories of them, that are stored where the store does not go. Never removed.
    pub unserved: Vec<Unserved>,
    /// The position of the next page; `None` after the last.
    pub next: Option<Cursor>,
    /// The earliest due time of the uploads that [`page_due`](Enumerate::page_due) skipped.
    pub next_due: Option<SystemTime>,
    /// The pages of this sweep show only a part of the orphans; those of the next sweeps show the others.
    pub is_part: bool,
}

/// A filter for [`Enumerate::page_due`], which may skip all uploads that do not match.
#[derive(Clone, Copy)]
pub struct DueFilter<'a> {
    /// List all that may be due, whatever an index or an earlier sweep knows.
    pub all: bool,
    /// The store only lists. Otherwise it may keep and delete parts meanwhile, as it documents.
    pub dry_run: bool,
    /// The lifetimes that `due` applies. Complete uploads are listed if they have one; partial
    /// uploads have that of unfinished ones.
    pub lifetimes: Lifetimes,
    /// Returns when an upload must be listed again if its description does not change until then;
    /// `None`: never.
    pub due: &'a (dyn Fn(&Snapshot) -> Option<SystemTime> + Send + Sync),
}

impl fmt::Debug for DueFilter<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("DueFilter");
        debug
            .field("all", &self.all)
            .field("dry_run", &self.dry_run)
            .field("lifetimes", &self.lifetimes)
            .finish_non_exhaustive()
    }
}

/// An upload for which [`Store::load`] fails with [`StoreError::Damaged`], or whose description contradicts
/// the store. It is reported, and only [removed](Terminate::terminate) on request.
#[derive(Debug, Clone)]
pub struct Damaged {
    /// The upload.
    pub id: UploadId,
    /// The number of stored bytes, as far as known.
    pub size: u64,
    /// The time of the last change.
    pub modified: SystemTime,
    /// The reason, for people.
    pub reason: String,
}

/// A file or object that belongs to no upload.
///
/// Examples: a temporary file of a dead process, an empty data file of an interrupted creation, a
/// description without bytes, bytes without a description.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Orphan {
    /// The upload it belonged to, according to its name.
    pub id: Option<UploadId>,
    /// The name in the store.
    pub name: String,
    /// The reason, for people.
    pub reason: &'static str,
    /// The size in bytes.
    pub size: u64,
    /// The time of the last change: a recent one may belong to a creation in progress.
    pub modified: SystemTime,
    /// The knowledge of the store about it.
    pub kind: OrphanKind,
}

/// An upload, or a directory of uploads, that is stored where the store does not go.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Unserved {
    /// The name in the store.
    pub name: String,
    /// The reason, for people.
    pub reason: String,
}

impl Unserved {
    /// Describes an entry that is not served.
    #[must_use]
    pub fn new(name: impl Into<String>, reason: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            reason: reason.into(),
        }
    }
}

impl Orphan {
    /// Returns an orphan that is unproven.
    #[must_use]
    pub fn new(name: impl Into<String>, reason: &'static str, size: u64, at: SystemTime) -> Self {
        Self {
            id: None,
            name: name.into(),
            reason,
            size,
            modified: at,
            kind: OrphanKind::Unproven,
        }
    }
}
