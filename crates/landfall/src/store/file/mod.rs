//! A store of uploads as local files, in the layout of tusd.
//!
//! Files of the upload `ID` in the directory `DIR`:
//!
//! | file | content |
//! |---|---|
//! | `DIR/ID`, or the path that a hook requested | the bytes; the size is the offset |
//! | `DIR/ID.info` | the description: one line of JSON with tusd's keys, and an object `Landfall` for all other fields |
//!
//! An id may have slashes; directories are created on demand. tusd can continue uploads of
//! Landfall, and Landfall those of tusd. See `docs/storage.md`.
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
mod bound_lease;
mod cache;
mod clock;
mod concat;
mod enumerate;
mod failure;
mod files;
mod finish;
mod guard;
pub(crate) mod io_pool;
mod latency;
mod open_reads;
mod paths;
mod read;
mod sync;
pub(crate) mod sys;
mod take;
mod takeover;
mod temporary;

#[cfg(test)]
mod crash_tests;

use std::{
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use parking_lot::Mutex;

pub use self::paths::DirectoryError;
use self::{
    append::{FileAppend, OpenedFile},
    cache::{CachedInfo, CachedUpload, KnownInfo, Record, UploadCache, WriterEpoch, WriterState},
    enumerate::Listing,
    failure::failed,
    files::{CreatedFiles, FileState, info_path},
    finish::OpenInfo,
    guard::{GuardedLocker, OwnedData},
    io_pool::{IoPool, StepKind},
    paths::Root,
    sync::DirectorySyncs,
    take::MovedAppend,
};
use super::{
    Append, Capabilities, DeferLength, Finish, RecentlyUsed, Result, Store, StoreError, Terminate,
};
use crate::{
    lease::{Fence, FileLocker, Intervals, Locker},
    removal::ClockMemory,
    upload::{Completion, Snapshot, Upload, UploadId},
};

const LARGE_UPLOAD: u64 = 16 * 1024 * 1024;

/// The acknowledged state that survives a power loss.
///
/// A process crash loses nothing acknowledged with any of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Durability {
    /// Never calls fsync, as tusd: the system writes whenever it wants.
    None,
    /// Syncs bytes, description and directories before a completion is acknowledged.
    #[default]
    Complete,
    /// Syncs before every acknowledged offset and every acknowledged change.
    Every,
}

/// Options of a [`FileStore`].
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct FileOptions {
    /// The durability of acknowledged state. Default: [`Durability::Complete`].
    pub durability: Durability,
    /// Permissions of created directories, before the umask. Default: `0o775`.
    pub dir_mode: u32,
    /// Permissions of created files, before the umask. Default: `0o664`.
    pub file_mode: u32,
    /// Whether to preallocate the whole length when the first bytes of a large upload arrive.
    ///
    /// Applies from 8 MiB, where the file system can. A disk that is too small then fails the upload
    /// at once, and files are less fragmented. Default: off, because a client could reserve the whole
    /// disk by creating large uploads without sending them.
    pub preallocate: bool,
    /// True if all I/O runs on tokio's blocking pool, that of the [locker](Store::locker) included.
    ///
    /// Otherwise I/O runs in the calling task while it is fast. Set it where a disk may hang for
    /// long, as network disks do. Default: off.
    pub always_on_threads: bool,
    /// Minimum age of an orphan before it is [listed](crate::store::Enumerate::page). Default: one minute.
    ///
    /// A younger file may belong to an upload that is being created.
    pub orphan_age: Duration,
    /// Directories besides that of the store in which files may be. Default: none.
    ///
    /// Symbolic links in the store's directory, and paths that hooks request or a description names, may
    /// lead into them; `/` allows all. Elsewhere links are not followed, and their uploads are
    /// [unavailable](StoreError::Unavailable) and never removed. Termination removes a link, not the file that it
    /// leads to, and a linked directory is not [listed](crate::store::Enumerate::page).
    pub data_dirs: Vec<PathBuf>,
    /// Template of the names of new files below the store's directory ([`Upload::fill`]), for uploads whose hooks choose
    /// no path. Default: `{id}`. A file that exists is never replaced: the creation is refused.
    pub names: Option<String>,
    /// Polling intervals of the [locker](Store::locker) for requests of other processes.
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
            data_dirs: Vec::new(),
            names: None,
            lease_intervals: Intervals::default(),
        }
    }
}

/// A store of uploads as local files. Clones share everything.
///
/// It needs a tokio runtime. I/O at page-cache speed runs in the calling task; copies, syncs
/// that wait for a disk, and all I/O on a slow disk run on tokio's blocking pool, a bounded number at a time.
///
/// Several processes may use one directory at the same time if they use its [locker](Store::locker).
#[derive(Debug, Clone)]
pub struct FileStore(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    root: Root,
    options: FileOptions,
    reserves: bool,
    cache: UploadCache,
    io: IoPool,
    dirs: DirectorySyncs,
    listing: Listing,
    idle_files: RecentlyUsed<OwnedFd>,
    open_infos: RecentlyUsed<OpenInfo>,
    unserved: Mutex<(u64, String)>,
    locker: Arc<FileLocker>,
    /// Only processes of this machine use the directory.
    is_local: bool,
    /// The time that the directory showed before this process.
    clock: Option<ClockMemory>,
    opened: Instant,
}

impl FileStore {
    /// Opens a directory with the default options, creating it if missing.
    ///
    /// # Errors
    /// [`StoreError::Other`] if the directory cannot be created or opened.
    pub fn new(dir: impl AsRef<Path>) -> Result<Self> {
        Self::open(dir, FileOptions::default())
    }

    /// Opens a directory, creating it and its parents if missing.
    ///
    /// # Errors
    /// [`StoreError::Other`] if the directory cannot be created or opened, or if its path is not UTF-8.
    pub fn open(dir: impl AsRef<Path>, options: FileOptions) -> Result<Self> {
        let dir = dir.as_ref();
        let fail = |error| {
            StoreError::io(
                format!("opening the upload directory {}", dir.display()),
                error,
            )
        };
        let root = Root::open(dir, options.dir_mode, &options.data_dirs).map_err(fail)?;
        let clock = clock::load(&root);
        let reserves = options.preallocate && !sys::in_memory(root.handle());
        let is_local = sys::is_local(root.handle());
        let io = IoPool::new(options.always_on_threads);
        let locker = Arc::new(FileLocker::with_io_pool(
            root.path(),
            options.lease_intervals,
            io.clone(),
        ));
        Ok(Self(Arc::new(Inner {
            root,
            options,
            reserves,
            cache: UploadCache::default(),
            io,
            dirs: DirectorySyncs::default(),
            listing: Listing::default(),
            idle_files: open_reads::idle_files(),
            open_infos: finish::open_infos(),
            unserved: Mutex::default(),
            locker,
            is_local,
            clock,
            opened: Instant::now(),
        })))
    }

    /// Returns the absolute path of the directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.0.root.path()
    }

    /// Checks whether the directory is still at its path.
    ///
    /// The store checks it itself, at most 50 ms before it creates, resumes, reads or completes an
    /// upload, which then fail with [`StoreError::Unavailable`] and this error as its source.
    ///
    /// # Errors
    /// The directory is missing, or another one is at its path.
    pub fn check_directory(&self) -> std::result::Result<(), DirectoryError> {
        self.0.root.check_place(Instant::now())
    }

    /// Returns how many requests were for files outside the store's directory and
    /// [`data_dirs`](FileOptions::data_dirs), and a description of the last.
    #[must_use]
    pub fn unserved(&self) -> (u64, String) {
        self.0.unserved.lock().clone()
    }

    #[cfg(test)]
    pub(crate) fn file_locker(&self) -> &FileLocker {
        &self.0.locker
    }

    async fn create_upload(
        &self,
        upload: Upload,
        fence: Option<Fence>,
    ) -> Result<(Arc<Upload>, Option<FileAppend>)> {
        let inner = Arc::clone(&self.0);
        let id = upload.id.clone();
        let entry = inner.cache.get_or_insert(&id);
        let step = {
            let (inner, entry) = (Arc::clone(&inner), Arc::clone(&entry));
            let mut upload = Arc::new(upload);
            move |state: &mut WriterState| inner.create(&mut upload, &entry, state, fence)
        };
        let kind = StepKind::short_or_sync(inner.options.durability == Durability::Every);
        let (created, epoch) = inner.io.run_locked(&entry, kind, step).await?;
        let data_path = &created.record.data_path;
        if let Some((ino, info)) = created.synced {
            if let Err(error) = inner.sync_names(&id, data_path).await {
                let (this, id, data_path) = (Arc::clone(&inner), id.clone(), data_path.clone());
                // The creation is not acknowledged, so no client can resume it.
                let remove = move || this.remove(&id, &data_path);
                inner.io.run(StepKind::Waiting, remove).await?;
                return Err(error);
            }
            let synced = &mut entry.info.lock().synced;
            synced.add(ino, 0);
            synced.info = Some(info);
        }
        let upload = Arc::clone(&created.record.info.upload);
        let append = fence.zip(epoch);
        Ok((
            upload,
            append.map(|opened| self.opened(entry, created, opened)),
        ))
    }

    fn opened(
        &self,
        entry: Arc<CachedUpload>,
        created: CreatedFiles,
        (fence, epoch): (Fence, WriterEpoch),
    ) -> FileAppend {
        let Record {
            info, data_path, ..
        } = created.record;
        let opened = OpenedFile {
            data_path,
            data: Arc::new(created.data),
            // 0 if the data file was not synced.
            ino: created.synced.map_or(0, |(ino, _)| ino),
            offset: 0,
            epoch,
            owned: created.owned,
        };
        FileAppend::new(Arc::clone(&self.0), entry, info.upload, fence, opened)
    }

    async fn change<F>(&self, id: &UploadId, fence: Fence, change: F) -> Result<Arc<Upload>>
    where
        F: FnOnce(&mut Record) -> Result<()> + Send + 'static,
    {
        let inner = Arc::clone(&self.0);
        let entry = inner.cache.get_or_insert(id);
        let step = {
            let (inner, entry, id) = (Arc::clone(&inner), Arc::clone(&entry), id.clone());
            move |state: &mut WriterState| {
                state.check_fence(&id, fence)?;
                inner.change(&id, &entry, change)
            }
        };
        let kind = StepKind::short_or_sync(inner.options.durability != Durability::None);
        let record = inner.io.run_locked(&entry, kind, step).await?;
        inner.sync_info_if_required(id, &entry, &record).await?;
        Ok(Arc::clone(&record.info.upload))
    }
}

impl Inner {
    fn check_place(&self) -> Result<()> {
        self.check_place_at(Instant::now())
    }

    fn check_place_at(&self, now: Instant) -> Result<()> {
        let checked = self.root.check_place(now);
        checked.map_err(|error| StoreError::Unavailable(error.into()))
    }

    fn data_path(&self, id: &UploadId) -> Result<Arc<str>> {
        let entry = self.cache.get(id);
        let (record, _) = self.record(id, entry.as_deref())?;
        if record.is_moved() {
            return Err(StoreError::NotFound(id.clone()));
        }
        Ok(record.data_path.clone())
    }

    async fn inspect_synced(self: &Arc<Self>, id: &UploadId) -> Result<FileState> {
        let (this, name) = (Arc::clone(self), id.clone());
        let inspect = move || this.inspect(&name);
        let file_state = self.io.run(StepKind::Short(0), inspect).await?;
        self.sync_if_required(id, &file_state).await?;
        Ok(file_state)
    }

    fn create(
        &self,
        upload: &mut Arc<Upload>,
        entry: &CachedUpload,
        state: &mut WriterState,
        fence: Option<Fence>,
    ) -> Result<(CreatedFiles, Option<WriterEpoch>)> {
        let epoch = fence
            .map(|fence| state.start_epoch(&upload.id, fence))
            .transpose()?;
        if let Some(lease) = state.lease() {
            lease.check_own(&upload.id)?;
        }
        let (mut created, info) = self.create_files(upload)?;
        if let Some(lease) = state.lease() {
            self.lock_created(&upload.id, lease, &created.data)?;
            created.owned =
                self.owned(&upload.id, state, &created.record.data_path, &created.data)?;
        }
        drop(self.take_info(entry));
        *entry.info.lock() = CachedInfo::default();
        let id = &upload.id;
        if fence.is_some() {
            self.keep_info(entry, info, &created.json);
        } else if *created.record.data_path == *id.as_str() {
            // The first PATCH usually follows at once.
            let known = KnownInfo::Content(std::mem::take(&mut created.json).into());
            let record = Arc::new(created.record.clone());
            self.cache.insert_info(id, known, &record);
        }
        Ok((created, epoch))
    }

    /// `None` without a lease of a service.
    fn owned(
        &self,
        id: &UploadId,
        state: &WriterState,
        data_path: &Arc<str>,
        data: &OwnedFd,
    ) -> Result<Option<Arc<OwnedData>>> {
        let owned = |lease| OwnedData::new(Arc::clone(lease), Arc::clone(data_path), data);
        let owned = state.lease().map(owned).transpose();
        let owned = owned.map_err(|error| failed(id, "reading the size of the data", error))?;
        Ok(owned.map(Arc::new))
    }

    fn is_reserved(&self, upload: &Upload) -> bool {
        self.reserves && upload.length.is_some_and(append::is_reserved_for)
    }

    fn finish(
        &self,
        id: &UploadId,
        entry: &CachedUpload,
        state: &mut WriterState,
        fence: Fence,
        marks: bool,
    ) -> Result<()> {
        state.check_fence(id, fence)?;
        // Its event names the path of the file.
        self.check_place()?;
        if marks {
            self.mark_finished(id, entry)?;
        }
        Ok(())
    }

    /// The caller then removes unverified bytes.
    fn open_for_append(
        &self,
        id: &UploadId,
        entry: &CachedUpload,
        state: &mut WriterState,
        fence: Fence,
    ) -> Result<(FileState, Option<OpenedFile>)> {
        self.check_place()?;
        state.check_fence(id, fence)?;
        state.lease().map_or(Ok(()), |lease| lease.check_writes())?;
        let (record, info) = self.record_to_finish(id, entry)?;
        if record.is_moved() {
            return Ok((FileState::moved(record, info), None));
        }
        let (data, version) = self.open_data(id, &record.data_path)?;
        let file_state = self.check_state(id, record, info, version)?;
        let opened = OpenedFile {
            owned: self.owned(id, state, &file_state.record.data_path, &data)?,
            data_path: file_state.record.data_path.clone(),
            data: Arc::new(data),
            ino: version.ino,
            offset: file_state.offset,
            // Before the truncation of unverified bytes: no earlier writer may write after it.
            epoch: state.start_epoch(id, fence)?,
        };
        Ok((file_state, Some(opened)))
    }

    fn truncate_unverified(
        &self,
        id: &UploadId,
        entry: &CachedUpload,
        data: &OwnedFd,
        from: u64,
    ) -> Result<()> {
        let version = sys::stat_open(data.as_fd())
            .map_err(|error| failed(id, "truncating the data", error))?;
        if version.size > from {
            self.truncate(id, data, from)?;
        }
        self.change(id, entry, |record| {
            record.info.unverified_from = None;
            Ok(())
        })?;
        Ok(())
    }
}

#[async_trait]
impl Store for FileStore {
    async fn create(&self, upload: Upload) -> Result<Arc<Upload>> {
        Ok(self.create_upload(upload, None).await?.0)
    }

    async fn load(&self, id: &UploadId) -> Result<Snapshot> {
        Ok(self.0.inspect_synced(id).await?.snapshot())
    }

    fn create_now(
        &self,
        upload: &mut Arc<Upload>,
        fence: Option<Fence>,
    ) -> Option<Result<Option<Box<dyn Append>>>> {
        let inner = &self.0;
        if inner.options.durability == Durability::Every {
            return None;
        }
        let entry = inner.cache.get_or_insert(&upload.id);
        let create = |state: &mut _| inner.create(upload, &entry, state, fence);
        Some(
            inner
                .io
                .run_now(&entry, 0, create)?
                .map(|(created, epoch)| {
                    let opened = fence.zip(epoch)?;
                    Some(Box::new(self.opened(entry, created, opened)) as Box<dyn Append>)
                }),
        )
    }

    fn load_now(&self, id: &UploadId) -> Option<Result<Snapshot>> {
        let inner = &self.0;
        let inspect = || {
            let now = Instant::now();
            let step = || inner.inspect_at(id, now);
            inner.io.measure_from(now, StepKind::Short(0), step)
        };
        match inner.io.runs_inline().then(inspect)? {
            Ok(state) if inner.must_sync(id, &state) => None,
            inspected => Some(inspected.map(|state| state.snapshot())),
        }
    }

    async fn resume(&self, id: &UploadId, fence: Fence) -> Result<(Snapshot, Box<dyn Append>)> {
        let inner = Arc::clone(&self.0);
        let entry = inner.cache.get_or_insert(id);
        let (file_state, opened) = loop {
            let step = {
                let (inner, entry, id) = (Arc::clone(&inner), Arc::clone(&entry), id.clone());
                move |state: &mut WriterState| inner.open_for_append(&id, &entry, state, fence)
            };
            let (file_state, opened) = inner
                .io
                .run_locked(&entry, StepKind::Short(0), step)
                .await?;
            let Some(opened) = opened else {
                let (id, offset) = (id.clone(), file_state.offset);
                let append = MovedAppend { id, offset };
                return Ok((file_state.snapshot(), Box::new(append)));
            };
            let Some(from) = file_state.record.info.unverified_from else {
                break (file_state, opened);
            };
            let step = {
                let (inner, entry, id) = (Arc::clone(&inner), Arc::clone(&entry), id.clone());
                move |state: &mut WriterState| {
                    state.check_fence(&id, fence)?;
                    inner.truncate_unverified(&id, &entry, &opened.data, from)
                }
            };
            inner.io.run_locked(&entry, StepKind::Waiting, step).await?;
        };
        inner.sync_if_required(id, &file_state).await?;
        let snapshot = file_state.snapshot();
        let upload = Arc::clone(&snapshot.upload);
        let append = FileAppend::new(inner, entry, upload, fence, opened);
        Ok((snapshot, Box::new(append)))
    }

    async fn create_append(
        &self,
        upload: Upload,
        fence: Fence,
    ) -> Result<(Arc<Upload>, Box<dyn Append>)> {
        match self.create_upload(upload, Some(fence)).await? {
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
            let storage = record.info.upload.storage.clone();
            let moved_to = record.info.upload.moved_to.clone();
            record.info.upload = Arc::new(Upload {
                storage,
                moved_to,
                ..new
            });
            record.info.concatenated_unknown = false;
            Ok(())
        })
        .await?;
        Ok(())
    }

    fn capabilities(&self) -> Capabilities<'_> {
        Capabilities::all(self)
    }

    fn locker(&self) -> Option<Arc<dyn Locker>> {
        // Another process that is stopped later must not be alone by then.
        self.0.locker.enter();
        Some(Arc::clone(&self.0.locker) as Arc<dyn Locker>)
    }

    fn guard(&self, locker: Arc<dyn Locker>) -> Arc<dyn Locker> {
        let inner = Arc::clone(&self.0);
        Arc::new(GuardedLocker { inner, locker })
    }
}

#[async_trait]
impl Terminate for FileStore {
    async fn terminate(&self, upload: &Upload, fence: Fence) -> Result<bool> {
        let inner = Arc::clone(&self.0);
        let id = upload.id.clone();
        let entry = inner.cache.get_or_insert(&id);
        let stored = |key| upload.storage.get(key).map(String::as_str);
        let fallback = inner
            .root
            .data_path_of(&id, stored("Path"), stored("InfoPath"))
            .map_or_else(|| id.to_text(), Arc::from);
        let step = {
            let (inner, entry) = (Arc::clone(&inner), Arc::clone(&entry));
            move |state: &mut WriterState| {
                // Earlier writers must not write any more.
                state.start_epoch(&id, fence)?;
                // The stored description may be newer than the caller's.
                let data_path = match inner.record(&id, Some(&entry)) {
                    // Its data path may belong to another upload.
                    Ok((record, _)) if record.is_moved() => Arc::from(&*info_path(&id)),
                    Ok((record, _)) => record.data_path.clone(),
                    Err(_) => fallback,
                };
                if state.lease().is_some() {
                    inner.mark_terminated(&id, &entry)?;
                }
                drop(inner.take_info(&entry));
                let removed = inner.remove(&id, &data_path)?;
                *entry.info.lock() = CachedInfo::default();
                Ok((data_path, removed))
            }
        };
        let kind = match upload.length {
            Some(..LARGE_UPLOAD) => StepKind::Short(0),
            _ => StepKind::Long,
        };
        let (data_path, removed) = inner.io.run_locked(&entry, kind, step).await?;
        if removed && inner.options.durability == Durability::Every {
            inner.sync_names(&upload.id, &data_path).await?;
        }
        Ok(removed)
    }
}

#[async_trait]
impl Finish for FileStore {
    async fn finish(&self, upload: &Upload, fence: Fence) -> Result<Option<String>> {
        let (inner, id) = (&self.0, &upload.id);
        let entry = inner.cache.get_or_insert(id);
        let reserved = inner.is_reserved(upload);
        let syncs = inner.options.durability != Durability::None;
        let marks = upload.completion == Completion::NotTracked;
        let step = |prepares: bool, marks: bool| {
            let (inner, entry, id) = (Arc::clone(inner), Arc::clone(&entry), id.clone());
            move |state: &mut WriterState| {
                if prepares && reserved {
                    state.check_fence(&id, fence)?;
                    inner.release(&id)?;
                }
                inner.finish(&id, &entry, state, fence, marks)
            }
        };
        let kind = StepKind::Short(0);
        // A mark is written after the sync, so that it does not outlive bytes.
        let first = step(true, marks && !syncs);
        inner.io.run_locked(&entry, kind, first).await?;
        if syncs {
            inner.inspect_synced(id).await?;
            if marks {
                inner.io.run_locked(&entry, kind, step(false, true)).await?;
            }
        }
        Ok(None)
    }

    fn finish_now(&self, upload: &Upload, fence: Fence) -> Option<Result<Option<String>>> {
        let (inner, id) = (&self.0, &upload.id);
        if inner.options.durability != Durability::None || inner.is_reserved(upload) {
            return None;
        }
        let entry = inner.cache.get_or_insert(id);
        let marks = upload.completion == Completion::NotTracked;
        let finish = |state: &mut _| inner.finish(id, &entry, state, fence, marks);
        let finished = inner.io.run_now(&entry, 0, finish)?;
        Some(finished.map(|()| None))
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
            match record.info.upload.length {
                Some(known) if known != length => Err(StoreError::other(
                    format!("declaring the length of upload {}", record.info.upload.id),
                    format!("it is known to be {known}, not {length}"),
                )),
                _ => {
                    Arc::make_mut(&mut record.info.upload).length = Some(length);
                    Ok(())
                }
            }
        })
        .await
    }
}
