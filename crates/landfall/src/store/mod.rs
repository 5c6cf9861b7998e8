//! Where bytes are kept: the [`Store`] trait and what a store may be able to do beyond it.
//!
//! A store implements [`Store`]; each further power is a trait of its own that the store hands out
//! through an accessor (`fn terminator(&self) -> Option<&dyn Terminate>`), so that what it can't do
//! can't be called. The engine makes sure that everything that changes an upload happens under a
//! [lease](crate::lease), and passes the lease's [`Fence`] along; the store refuses a change with an
//! older fence than one it has seen for that upload ([`StoreError::LeaseLost`]).
//!
//! `landfall_testkit::store` proves an implementation.

mod error;
pub mod file;
pub mod info;
mod memory;

use std::{
    fmt,
    ops::Range,
    pin::Pin,
    sync::Arc,
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use bytes::Bytes;
use futures_core::Stream;

pub use crate::BoxError;

pub use self::{error::StoreError, memory::MemoryStore};
use crate::{
    lease::Fence,
    upload::{Snapshot, Upload, UploadId},
};

/// What stores return.
pub type Result<T, E = StoreError> = std::result::Result<T, E>;

/// Bytes of a download, in order.
pub type ByteStream = Pin<Box<dyn Stream<Item = Result<Bytes>> + Send>>;

/// The least a place for uploads must do: create, load, append, and save a changed description.
///
/// Every method may be called from any task, at the same time for different uploads. For one upload
/// the engine calls `resume`, `save` and the capabilities that change it only under its lease;
/// `load` may come at any time.
#[async_trait]
pub trait Store: fmt::Debug + Send + Sync + 'static {
    /// Makes a new upload without bytes. `upload.storage` may hold wishes of a hook; the description
    /// returned holds the place that was taken.
    ///
    /// # Errors
    /// [`StoreError::AlreadyExists`] if the id is taken, [`StoreError::InvalidPath`] if the wish
    /// can't be granted, [`StoreError::Full`] and others as they come. After an error nothing of the
    /// upload is left.
    ///
    /// # Cancel safety
    /// A dropped call may leave an empty upload behind.
    async fn create(&self, upload: Upload) -> Result<Arc<Upload>>;

    /// Gives a new upload the id under which it will be known, before its lease is taken and it is
    /// [created](Self::create): for stores that put something of their own into ids.
    ///
    /// # Errors
    /// As they come.
    ///
    /// # Cancel safety
    /// What was set aside for the upload by a dropped call is a [`Orphan`].
    async fn assign_id(&self, upload: &mut Upload) -> Result<()> {
        let _ = upload;
        Ok(())
    }

    /// The upload as it stands. Its offset is one that may be acknowledged: these bytes survive
    /// whatever the store's durability promises.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] if there is no such upload.
    async fn load(&self, id: &UploadId) -> Result<Snapshot>;

    /// Opens an upload for appending, on behalf of the lease with `fence`, and returns the state in
    /// which it was opened.
    ///
    /// This is one act: the snapshot is that of the opened [`Append`], so its offset is where the
    /// first byte will go, whatever an earlier writer left behind and whenever that ended. It may be
    /// acknowledged, as that of [`load`](Self::load). An [`Append`] opened earlier with a smaller
    /// fence must not write any more. Opening alone is no change of the upload: [`Snapshot::modified`] stays.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::LeaseLost`] if a lease with a greater fence was here.
    async fn resume(&self, id: &UploadId, fence: Fence) -> Result<(Snapshot, Box<dyn Append>)>;

    /// Makes a new upload and opens it for appending. Override it where one step saves work.
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

    /// Replaces the description (`length`, `metadata`, `kind`, `expires`, `finished`; the place and
    /// the bytes stay). The old or the new one is there at any moment, never a mixture. On return it
    /// is as durable as the store's durability asks of an acknowledged change.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::LeaseLost`].
    async fn save(&self, upload: &Upload, fence: Fence) -> Result<()>;

    /// Removal of uploads.
    fn terminator(&self) -> Option<&dyn Terminate> {
        None
    }
    /// Work to do once all bytes are there.
    fn finisher(&self) -> Option<&dyn Finish> {
        None
    }
    /// Reading bytes back.
    fn reader(&self) -> Option<&dyn Read> {
        None
    }
    /// Joining uploads.
    fn concatenator(&self) -> Option<&dyn Concatenate> {
        None
    }
    /// Uploads whose length is told later.
    fn length_deferrer(&self) -> Option<&dyn DeferLength> {
        None
    }
    /// Listing what is there, for the sweeper.
    fn enumerator(&self) -> Option<&dyn Enumerate> {
        None
    }
    /// A locker that suits this store, which [`Composer::join`](crate::Composer::join) takes unless
    /// another is set.
    fn locker(&self) -> Option<Arc<dyn crate::lease::Locker>> {
        None
    }
}

/// An upload open for appending by one lease holder.
///
/// Dropping it at any moment keeps what was written; a write under way when it is dropped (in a
/// thread, on a network) has ended before a later [`Store::resume`] of the same upload returns, also
/// on behalf of the same lease.
#[async_trait]
pub trait Append: fmt::Debug + Send {
    /// Where the next byte goes: the bytes before it are kept by the store, though perhaps not yet
    /// as durably as [`commit`](Self::commit) makes them.
    fn offset(&self) -> u64;

    /// The offset that others may be told while this is open and without a
    /// [`commit`](Self::commit); `None` if only a commit can tell. Bytes on probation don't count.
    fn readable(&self) -> Option<u64> {
        None
    }

    /// How many bytes should be gathered before they are written: more where a write costs a system
    /// call, less where bytes are gathered here anyway and memory is counted.
    fn write_size(&self) -> usize {
        256 * 1024
    }

    /// Writes the bytes of all `chunks` in order and empties the list (the list itself is the
    /// caller's, so that its memory is used again). It may hold bytes back to make larger writes.
    ///
    /// # Errors
    /// [`StoreError::Full`], [`StoreError::LeaseLost`] and others. After an error `offset` tells what
    /// is kept; the chunks not written are lost to the store.
    async fn write(&mut self, chunks: &mut Vec<Bytes>) -> Result<()>;

    /// Makes what was written as durable as the store promises for an acknowledged offset, and
    /// returns that offset: from here on the client may be told.
    ///
    /// # Errors
    /// After an error nothing may be acknowledged but what an earlier `commit` or a new
    /// [`Store::load`] says.
    async fn commit(&mut self) -> Result<u64>;

    /// From here on, until [`confirm`](Self::confirm), written bytes are on probation: should the
    /// process die, or should this be dropped, the upload's offset is what it is now.
    ///
    /// # Errors
    /// Those of writing metadata.
    async fn begin_unverified(&mut self) -> Result<()>;

    /// Ends the probation: the bytes written since [`hold`](Self::hold) count.
    ///
    /// # Errors
    /// Those of writing metadata. The bytes then don't count.
    async fn accept_unverified(&mut self) -> Result<()>;

    /// Goes back to where [`hold`](Self::hold) was called, or else to where this was opened, and
    /// forgets the bytes written since.
    ///
    /// # Errors
    /// Those of the store; the bytes don't count even then.
    async fn discard_unverified(&mut self) -> Result<()>;
}

/// Removal of uploads (tus 1.0.0, Termination; also used by the sweeper).
#[async_trait]
pub trait Terminate: Send + Sync {
    /// Removes the upload and everything that belongs to it, and says whether there was anything.
    /// What is missing already is no error, so that an interrupted removal can be repeated: also one
    /// after which [`Store::load`] finds no upload, with a description of nothing but its id.
    ///
    /// # Errors
    /// [`StoreError::LeaseLost`] and others as they come; then part of the upload may be left and the
    /// call should be repeated.
    async fn terminate(&self, upload: &Upload, fence: Fence) -> Result<bool>;
}

/// Work to do once, when all bytes are there and before completion is acknowledged.
#[async_trait]
pub trait Finish: Send + Sync {
    /// Makes the finished upload as durable as the store promises, and returns the entity tag of the
    /// stored object, if the backend has one. May be called again for an upload that was finished before.
    ///
    /// # Errors
    /// As they come; completion is then not acknowledged.
    async fn finish(&self, upload: &Upload, fence: Fence) -> Result<Option<String>>;
}

/// Reading bytes back. Needs no lease: bytes below an acknowledged offset never change.
#[async_trait]
pub trait Read: Send + Sync {
    /// The bytes of `range`, which must lie within the upload's offset.
    ///
    /// # Errors
    /// [`StoreError::NotFound`]; later errors come in the stream.
    async fn read(&self, upload: &Upload, range: Range<u64>) -> Result<ByteStream>;

    /// Whether the bytes of an upload can be read before all of them are there.
    fn reads_unfinished(&self) -> bool {
        true
    }

    /// A URL from which anybody can get the bytes of the finished `upload` for a while, without this
    /// server, with these two headers: for stores that would rather not pass them through.
    ///
    /// # Errors
    /// As they come.
    async fn link(
        &self,
        upload: &Upload,
        content_type: &str,
        content_disposition: &str,
    ) -> Result<Option<String>> {
        let _ = (upload, content_type, content_disposition);
        Ok(None)
    }
}

/// Joining uploads (tus 1.0.0, Concatenation).
#[async_trait]
pub trait Concatenate: Send + Sync {
    /// Fills the empty upload `target` with the bytes of `parts` in order and returns their sum. The
    /// parts stay as they are and may be removed afterwards; one may occur several times. On return
    /// the bytes are as durable as for [`Finish::finish`].
    ///
    /// # Errors
    /// [`StoreError::NotFound`] if a part vanished, [`StoreError::Full`]. `target` is then empty
    /// again, or is removed by the caller.
    ///
    /// # Cancel safety
    /// A dropped call may leave some bytes in `target`; the next call starts from nothing.
    async fn concatenate(
        &self,
        target: &Upload,
        parts: &[Arc<Upload>],
        fence: Fence,
    ) -> Result<u64>;
}

/// Uploads whose length is told later (tus 1.0.0, Creation Defer Length).
#[async_trait]
pub trait DeferLength: Send + Sync {
    /// Records the length, which from then on never changes, and returns the new description.
    ///
    /// # Errors
    /// [`StoreError::LeaseLost`] and others; the length is then still unknown.
    async fn declare_length(
        &self,
        upload: &Upload,
        length: u64,
        fence: Fence,
    ) -> Result<Arc<Upload>>;
}

/// Listing what is there, in pages, in an order of the store's choice.
#[async_trait]
pub trait Enumerate: Send + Sync {
    /// The page after `cursor` (`None` = the first) with at most `limit` entries. What is created or
    /// removed meanwhile may or may not be listed; what stays is listed exactly once.
    ///
    /// # Errors
    /// As they come.
    async fn page(&self, cursor: Option<Cursor>, limit: usize) -> Result<Page>;

    /// Like [`page`](Self::page), but may leave out uploads that the filter does not need. Override it
    /// where examining each upload has a price.
    ///
    /// # Errors
    /// As they come.
    async fn page_due(
        &self,
        cursor: Option<Cursor>,
        limit: usize,
        _filter: &DueFilter<'_>,
    ) -> Result<Page> {
        self.page(cursor, limit).await
    }

    /// Whether this process is to sweep the store. Of the processes that share a store, one claims it
    /// and keeps it as long as it claims it again within two intervals. Two may have it at a time for
    /// once: a sweep changes nothing without the lease of the upload.
    ///
    /// # Errors
    /// As they come.
    async fn claim_sweep(&self, _interval: Duration) -> Result<bool> {
        Ok(true)
    }

    /// Removes an orphan that [`page`](Self::page) listed, if it still is one and
    /// [may be removed](Orphan::removable). The caller has the lease of the upload it belonged to.
    ///
    /// # Errors
    /// As they come.
    async fn remove_orphan(&self, orphan: &Orphan) -> Result<()>;
}

/// A place in a listing, in the store's own words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor(pub String);

/// One page of a listing.
#[derive(Debug, Default)]
pub struct Page {
    /// Uploads that can be loaded.
    pub uploads: Vec<Snapshot>,
    /// What belongs to no upload any more.
    pub orphans: Vec<Orphan>,
    /// Uploads that cannot be loaded because what is stored of them makes no sense.
    pub damaged: Vec<Damaged>,
    /// Where the next page starts; `None` after the last.
    pub next: Option<Cursor>,
    /// When the first of the uploads is due that [`page_due`](Enumerate::page_due) left out.
    pub next_due: Option<SystemTime>,
}

/// Which uploads [`Enumerate::page_due`] must list. It may leave out all others.
#[derive(Clone, Copy)]
pub struct DueFilter<'a> {
    /// List finished uploads, too.
    pub finished: bool,
    /// When an upload must be listed again if its description does not change until then; `None`:
    /// never.
    pub due: &'a (dyn Fn(&Snapshot) -> Option<SystemTime> + Send + Sync),
}

impl fmt::Debug for DueFilter<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("DueFilter");
        debug
            .field("finished", &self.finished)
            .finish_non_exhaustive()
    }
}

/// An upload that [`Store::load`] fails for with [`StoreError::Damaged`]. It can be
/// [removed](Terminate::terminate) by its id.
#[derive(Debug, Clone)]
pub struct Damaged {
    /// The upload.
    pub id: UploadId,
    /// How many bytes are stored, as far as that is known.
    pub size: u64,
    /// When it was last changed.
    pub modified: SystemTime,
}

/// Something in the store that belongs to no upload: a temporary file of a process that died, an
/// empty data file of an interrupted creation, a description without bytes, bytes without a
/// description.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Orphan {
    /// The upload it belonged to, as far as its name tells.
    pub id: Option<UploadId>,
    /// What it is called in the store.
    pub name: String,
    /// Why it is an orphan, for people.
    pub reason: &'static str,
    /// Its size in bytes.
    pub size: u64,
    /// When it was last changed: a young one may still be in the making.
    pub modified: SystemTime,
    /// Whether it may be removed. False for all that holds bytes of an upload: that its description
    /// is missing does not prove that nobody needs it, as applications remove descriptions of
    /// finished uploads. Such an orphan is reported and never removed.
    pub removable: bool,
}

impl Orphan {
    /// Describes an orphan that is only reported.
    #[must_use]
    pub fn new(name: impl Into<String>, reason: &'static str, size: u64, at: SystemTime) -> Self {
        Self {
            id: None,
            name: name.into(),
            reason,
            size,
            modified: at,
            removable: false,
        }
    }
}
