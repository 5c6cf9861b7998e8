//! Uploads as local files, laid out exactly as tusd lays them out.
//!
//! For an upload with the id `ID` in the directory `DIR`:
//!
//! | file | content |
//! |---|---|
//! | `DIR/ID` (or the place a hook asked for) | the bytes; its size is the offset |
//! | `DIR/ID.info` | the description: one line of JSON with tusd's keys, and what tusd has no place for in one more object, `Landfall` |
//!
//! An id may have slashes; the directories are made on demand. tusd can go on with what Landfall
//! began and the other way round. `docs/storage.md` has the details.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let dir = tempfile::tempdir()?;
//! # let dir = dir.path();
//! use landfall::{
//!     lease::Fence,
//!     store::{Append, Store, file::{Durability, FileOptions, FileStore}},
//!     upload::{Upload, UploadId},
//! };
//!
//! let mut options = FileOptions::default();
//! options.durability = Durability::Every;
//! let store = FileStore::open(dir, options)?;
//!
//! let upload = Upload::new(UploadId::random(), Some(5));
//! let (upload, mut append) = store.create_append(upload, Fence(1)).await?;
//! append.write(&mut vec!["hello".into()]).await?;
//! assert_eq!(append.commit().await?, 5);
//!
//! assert!(store.load(&upload.id).await?.is_complete());
//! assert_eq!(std::fs::read(dir.join(upload.id.as_str()))?, b"hello");
//! # Ok(()) }
//! ```

mod append;
mod concat;
mod durable;
mod enumerate;
mod files;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod pace;
mod read;
mod record;
mod root;
mod slots;
pub(crate) mod steps;
mod sys;
mod take;

#[cfg(test)]
mod proof;

use std::{path::Path, sync::Arc, time::Duration};

use async_trait::async_trait;

use self::{
    append::{FileAppend, Opened},
    durable::DirSyncs,
    enumerate::Listing,
    files::{Look, failed},
    root::Root,
    slots::{Gate, Slot, Slots},
    steps::Steps,
};
use super::{
    Append, Concatenate, DeferLength, Enumerate, Finish, Read, Result, Store, StoreError, Terminate,
};
use crate::{
    lease::{Fence, FileLocker, Intervals, Locker},
    upload::{Snapshot, Upload, UploadId},
};

/// Uploads of this length and longer are removed on a thread.
const LARGE: u64 = 16 * 1024 * 1024;

/// What survives a power cut, and so what an acknowledgement means. A process that is killed loses
/// nothing that was acknowledged with any of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Durability {
    /// Nothing is ever synced; the system writes in its own time. What tusd does.
    None,
    /// An upload is synced (bytes, description, directories) before its completion is acknowledged.
    #[default]
    Complete,
    /// Every acknowledged offset and every acknowledged change is synced first.
    Every,
}

/// How a [`FileStore`] keeps files.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct FileOptions {
    /// What survives a power cut. Default: [`Durability::Complete`].
    pub durability: Durability,
    /// Permissions of directories that are made, less the process's umask. Default: `0o775`.
    pub dir_mode: u32,
    /// Permissions of files that are made, less the process's umask. Default: `0o664`.
    pub file_mode: u32,
    /// Whether to reserve the whole length on the disk when the first bytes of a large upload come
    /// (8 MiB and more, where the file system can). A disk that is too small then says so at once,
    /// and files are in fewer pieces. Default: off, because anyone who may create uploads could then
    /// fill the disk with empty promises.
    pub preallocate: bool,
    /// Whether every step of I/O, those of the [locker](Store::locker) included, runs on a thread of
    /// tokio's blocking pool. Otherwise steps run in the
    /// calling task for as long as they prove fast. Worth setting where a disk may hang for long, as
    /// network disks do. Default: off.
    pub always_on_threads: bool,
    /// How long something that belongs to no upload must have been left alone before it is
    /// [listed](Enumerate::page) as an orphan: it may be in the making until then. Default: a minute.
    pub orphan_age: Duration,
    /// How often the [locker](Store::locker) looks at what other processes want.
    pub lease_intervals: Intervals,
}

impl Default for FileOptions {
    fn default() -> Self {
        Self {
            durability: Durability::default(),
            dir_mode: 0o775,
            file_mode: 0o664,
            preallocate: false,
            always_on_threads: false,
            orphan_age: Duration::from_secs(60),
            lease_intervals: Intervals::default(),
        }
    }
}

/// Uploads as local files. Clones share everything.
///
/// It needs a tokio runtime. Steps that run at page-cache speed run in the calling task as long as
/// they prove fast; syncs, copies and all steps on a disk that proves slow run on tokio's blocking
/// pool, a bounded number at a time.
///
/// Several processes may use one directory at the same time, with the [locker](Store::locker) that
/// belongs to it.
#[derive(Debug, Clone)]
pub struct FileStore(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    root: Root,
    options: FileOptions,
    /// Whether space is reserved: asked for, and of use on this file system.
    reserves: bool,
    slots: Slots,
    steps: Steps,
    dirs: DirSyncs,
    listing: Listing,
    locker: Arc<FileLocker>,
}

impl FileStore {
    /// Opens a directory with the default options, making it if need be.
    ///
    /// # Errors
    /// [`StoreError::Other`] if the directory can't be made or opened.
    pub fn new(dir: impl AsRef<Path>) -> Result<Self> {
        Self::open(dir, FileOptions::default())
    }

    /// Opens a directory, making it and its parents if need be.
    ///
    /// # Errors
    /// [`StoreError::Other`] if the directory can't be made or opened, or if its path isn't UTF-8.
    pub fn open(dir: impl AsRef<Path>, options: FileOptions) -> Result<Self> {
        let dir = dir.as_ref();
        let fail = |error| {
            StoreError::io(
                format!("opening the upload directory {}", dir.display()),
                error,
            )
        };
        let root = Root::open(dir, options.dir_mode).map_err(fail)?;
        let reserves = options.preallocate && !sys::in_memory(root.handle());
        let steps = Steps::new(options.always_on_threads);
        let locker = Arc::new(FileLocker::with_steps(
            root.path(),
            options.lease_intervals,
            steps.clone(),
        ));
        Ok(Self(Arc::new(Inner {
            root,
            options,
            reserves,
            slots: Slots::new(),
            steps,
            dirs: DirSyncs::default(),
            listing: Listing::default(),
            locker,
        })))
    }

    /// The directory, as an absolute path.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.0.root.path()
    }

    #[cfg(test)]
    pub(crate) fn file_locker(&self) -> &FileLocker {
        &self.0.locker
    }

    /// Makes an upload and, if there is a fence, opens it for appending.
    async fn make(
        &self,
        upload: Upload,
        fence: Option<Fence>,
    ) -> Result<(Arc<Upload>, Option<FileAppend>)> {
        let inner = Arc::clone(&self.0);
        let id = upload.id.clone();
        let slot = inner.slots.get(&id);
        let step = {
            let (inner, slot) = (Arc::clone(&inner), Arc::clone(&slot));
            move |gate: &mut Gate| {
                let turn = fence
                    .map(|fence| gate.begin(&upload.id, fence))
                    .transpose()?;
                let made = inner.make(upload)?;
                *slot.known() = slots::Known::default();
                Ok((made, turn))
            }
        };
        let (made, turn) = if inner.options.durability == Durability::Every {
            inner.steps.gated_sync(&slot, step).await?
        } else {
            inner.steps.gated(&slot, 0, step).await?
        };
        let place = made.place;
        if let Some((ino, info)) = made.synced {
            if let Err(error) = inner.sync_names(&id, &place).await {
                let (this, id) = (Arc::clone(&inner), id.clone());
                // Nobody is told of it, so nobody comes back for it.
                inner.steps.sync(move || this.remove(&id, &place)).await?;
                return Err(error);
            }
            let synced = &mut slot.known().synced;
            synced.add(ino, 0);
            synced.info = Some(info);
        }
        let append = fence.zip(turn).map(|(fence, turn)| {
            let opened = Opened {
                place,
                data: made.data,
                ino: made.ino,
                offset: 0,
                turn,
            };
            FileAppend::new(inner, slot, Arc::clone(&made.upload), fence, opened)
        });
        Ok((made.upload, append))
    }

    /// Changes the description of an upload on behalf of a lease.
    async fn change<F>(&self, id: &UploadId, fence: Fence, change: F) -> Result<Arc<Upload>>
    where
        F: FnOnce(&mut record::Record) -> Result<()> + Send + 'static,
    {
        let inner = Arc::clone(&self.0);
        let slot = inner.slots.get(id);
        let step = {
            let (inner, slot, id) = (Arc::clone(&inner), Arc::clone(&slot), id.clone());
            move |gate: &mut Gate| {
                gate.pass(&id, fence)?;
                inner.change(&id, &slot, change)
            }
        };
        let record = if inner.options.durability == Durability::None {
            inner.steps.gated(&slot, 0, step).await?
        } else {
            inner.steps.gated_sync(&slot, step).await?
        };
        inner.keep_change(id, &slot, &record).await?;
        Ok(Arc::clone(&record.upload))
    }
}

impl Inner {
    /// Where the bytes of an upload are.
    fn place(&self, id: &UploadId) -> Result<String> {
        let slot = self.slots.find(id);
        Ok(self.record(id, slot.as_deref())?.0.place.clone())
    }

    /// Opens an upload for appending. Bytes that nobody has verified are still to be taken back.
    fn begin(
        &self,
        id: &UploadId,
        slot: &Slot,
        gate: &mut Gate,
        fence: Fence,
    ) -> Result<(Look, Opened)> {
        gate.pass(id, fence)?;
        let (record, info) = self.record(id, Some(slot))?;
        let (data, stamp) = self.open_data(id, &record.place)?;
        let look = self.judge(id, record, info, stamp)?;
        let opened = Opened {
            place: look.record.place.clone(),
            data,
            ino: stamp.ino,
            offset: look.offset,
            // Also before taking back: no step of an earlier writer may run after that.
            turn: gate.begin(id, fence)?,
        };
        Ok((look, opened))
    }

    /// Takes back bytes that nobody has verified.
    fn take_back(
        &self,
        id: &UploadId,
        slot: &Slot,
        data: &std::os::fd::OwnedFd,
        from: u64,
    ) -> Result<()> {
        use std::os::fd::AsFd;
        let cut = || {
            if sys::stat_open(data.as_fd())?.size > from {
                sys::truncate(data.as_fd(), from)?;
                if self.options.durability != Durability::None {
                    sys::sync_data(data.as_fd())?;
                }
            }
            Ok(())
        };
        cut().map_err(|error| failed(id, "taking back bytes", error))?;
        self.change(id, slot, |record| {
            record.unverified_from = None;
            Ok(())
        })?;
        Ok(())
    }
}

#[async_trait]
impl Store for FileStore {
    async fn create(&self, upload: Upload) -> Result<Arc<Upload>> {
        Ok(self.make(upload, None).await?.0)
    }

    async fn load(&self, id: &UploadId) -> Result<Snapshot> {
        let (inner, name) = (Arc::clone(&self.0), id.clone());
        let look = self.0.steps.quick(0, move || inner.look(&name)).await?;
        self.0.keep_promise(id, &look).await?;
        Ok(look.snapshot())
    }

    async fn resume(&self, id: &UploadId, fence: Fence) -> Result<(Snapshot, Box<dyn Append>)> {
        let inner = Arc::clone(&self.0);
        let slot = inner.slots.get(id);
        let (look, opened) = loop {
            let step = {
                let (inner, slot, id) = (Arc::clone(&inner), Arc::clone(&slot), id.clone());
                move |gate: &mut Gate| inner.begin(&id, &slot, gate, fence)
            };
            let (look, opened) = inner.steps.gated(&slot, 0, step).await?;
            let Some(from) = look.record.unverified_from else {
                break (look, opened);
            };
            let step = {
                let (inner, slot, id) = (Arc::clone(&inner), Arc::clone(&slot), id.clone());
                move |gate: &mut Gate| {
                    gate.pass(&id, fence)?;
                    inner.take_back(&id, &slot, &opened.data, from)
                }
            };
            inner.steps.gated_sync(&slot, step).await?;
        };
        inner.keep_promise(id, &look).await?;
        let snapshot = look.snapshot();
        let upload = Arc::clone(&snapshot.upload);
        let append = FileAppend::new(inner, slot, upload, fence, opened);
        Ok((snapshot, Box::new(append)))
    }

    async fn create_append(
        &self,
        upload: Upload,
        fence: Fence,
    ) -> Result<(Arc<Upload>, Box<dyn Append>)> {
        match self.make(upload, Some(fence)).await? {
            (upload, Some(append)) => Ok((upload, Box::new(append))),
            (upload, None) => {
                let (snapshot, append) = self.resume(&upload.id, fence).await?;
                Ok((snapshot.upload, append))
            }
        }
    }

    async fn save(&self, upload: &Upload, fence: Fence) -> Result<()> {
        let new = upload.clone();
        self.change(&upload.id, fence, move |record| {
            let storage = record.upload.storage.clone();
            record.upload = Arc::new(Upload { storage, ..new });
            record.joined_unsaid = false;
            Ok(())
        })
        .await?;
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
        Some(Arc::clone(&self.0.locker) as Arc<dyn Locker>)
    }
}

#[async_trait]
impl Terminate for FileStore {
    async fn terminate(&self, upload: &Upload, fence: Fence) -> Result<bool> {
        let inner = Arc::clone(&self.0);
        let id = upload.id.clone();
        let slot = inner.slots.get(&id);
        let said = |key| upload.storage.get(key).map(String::as_str);
        let told = inner
            .root
            .place_of(&id, said("Path"), said("InfoPath"))
            .unwrap_or_else(|| id.as_str().to_owned());
        let step = {
            let (inner, slot) = (Arc::clone(&inner), Arc::clone(&slot));
            move |gate: &mut Gate| {
                // Whoever still has it open must not go on.
                gate.begin(&id, fence)?;
                // The description knows better than the caller, unless it is gone or broken.
                let place = inner.place(&id).unwrap_or(told);
                let any = inner.remove(&id, &place)?;
                *slot.known() = slots::Known::default();
                Ok((place, any))
            }
        };
        let large = upload.length.is_none_or(|length| length >= LARGE);
        let (place, any) = if large {
            inner.steps.gated_long(&slot, step).await?
        } else {
            inner.steps.gated(&slot, 0, step).await?
        };
        match inner.options.durability {
            Durability::Every if any => inner.sync_names(&upload.id, &place).await?,
            _ => {}
        }
        Ok(any)
    }
}

#[async_trait]
impl Finish for FileStore {
    async fn finish(&self, upload: &Upload, fence: Fence) -> Result<Option<String>> {
        let inner = &self.0;
        let id = &upload.id;
        let slot = inner.slots.get(id);
        let reserved = inner.reserves && upload.length.is_some_and(append::is_reserved_for);
        let step = {
            let (inner, id) = (Arc::clone(inner), id.clone());
            move |gate: &mut Gate| {
                gate.pass(&id, fence)?;
                if reserved { inner.release(&id) } else { Ok(()) }
            }
        };
        inner.steps.gated(&slot, 0, step).await?;
        if inner.options.durability == Durability::None {
            return Ok(None);
        }
        let (this, name) = (Arc::clone(inner), id.clone());
        let look = inner.steps.quick(0, move || this.look(&name)).await?;
        inner.keep_promise(id, &look).await?;
        Ok(None)
    }
}

#[async_trait]
impl DeferLength for FileStore {
    async fn declare_length(
        &self,
        upload: &Upload,
        length: u64,
        fence: Fence,
    ) -> Result<Arc<Upload>> {
        self.change(&upload.id, fence, move |record| {
            match record.upload.length {
                Some(known) if known != length => Err(StoreError::Other {
                    action: format!("declaring the length of upload {}", record.upload.id),
                    source: format!("it is known to be {known}, not {length}").into(),
                }),
                _ => {
                    Arc::make_mut(&mut record.upload).length = Some(length);
                    Ok(())
                }
            }
        })
        .await
    }
}
