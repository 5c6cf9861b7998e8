//! Paginated listing of a directory tree.
//!
//! Entries are sorted by path, and a [`Cursor`] is the path of the last entry examined. So a
//! listing stays correct while files are removed, and can continue in another process. A page needs
//! bounded memory, however large the directory: one pass over it selects the next names, and they
//! are cached for the following pages.

use std::{
    collections::{BinaryHeap, HashSet},
    os::fd::AsFd,
    sync::Arc,
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use parking_lot::Mutex;
use rustix::fs::{Dir, FileType};

use super::{
    FileStore, Inner,
    cache::Record,
    clock,
    failure::is_missing,
    files::{info_path, temporary_of},
    io_pool::StepKind,
    paths::{INFO, NotServed},
    sys::{self, FileVersion},
};
use crate::{
    removal::{ClockMemory, Removable},
    store::{
        Cursor, Damaged, Enumerate, Orphan, OrphanKind, Page, Result, StoreError, Unserved,
        info::UploadInfo,
    },
    upload::{Snapshot, UploadId},
};

const CACHE_TTL: Duration = Duration::from_secs(600);
/// From one pass over a directory.
const NAME_CACHE_CAPACITY: usize = 16 * 1024;
/// A page takes bounded time even if few of many files are uploads.
const MAX_STATS: usize = 4 * NAME_CACHE_CAPACITY;

#[derive(Debug, Default)]
pub(super) struct Listing {
    names: Mutex<Option<Names>>,
    referenced: Mutex<Option<ReferencedPaths>>,
}

/// Sorted.
#[derive(Debug)]
struct Names {
    dir: String,
    after: Option<String>,
    sorted: Vec<Name>,
    all: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Name {
    name: String,
    kind: NameKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum NameKind {
    File,
    Directory,
    /// A link in place of a description.
    LinkedInfo,
    /// A link to a directory, which may contain uploads.
    LinkedDirectory,
}

/// Hashes of the data paths that are not at the id's default path. A file there is no orphan, although
/// no `.info` is next to it.
#[derive(Debug)]
struct ReferencedPaths {
    started: SystemTime,
    hasher: std::collections::hash_map::RandomState,
    hashes: HashSet<u64>,
    incomplete: bool,
}

#[async_trait]
impl Enumerate for FileStore {
    async fn page(&self, cursor: Option<Cursor>, limit: usize) -> Result<Page> {
        let inner = Arc::clone(&self.0);
        let page = move || inner.page(cursor, limit.max(1));
        self.0.io.run(StepKind::Long, page).await
    }

    async fn remove_orphan(&self, orphan: &Orphan, _: Removable) -> Result<bool> {
        let (inner, orphan) = (Arc::clone(&self.0), orphan.clone());
        let remove = move || inner.remove_orphan(&orphan);
        self.0.io.run(StepKind::Long, remove).await
    }

    async fn load_clock(&self) -> Result<Option<ClockMemory>> {
        Ok(self.0.clock.map(|memory| ClockMemory {
            // A handler may ask long after this store was opened.
            passed: memory.passed.map(|passed| passed + self.0.opened.elapsed()),
            ..memory
        }))
    }

    async fn save_clock(&self, memory: ClockMemory) -> Result<()> {
        let inner = Arc::clone(&self.0);
        let save = move || {
            inner.check_place()?;
            clock::save(&inner.root, memory, inner.options.dir_mode)
                .map_err(|error| StoreError::io("storing the clock of sweeps", error))
        };
        self.0.io.run(StepKind::Long, save).await
    }
}

struct Walk<'a> {
    inner: &'a Inner,
    page: Page,
    limit: usize,
    stats_left: usize,
    last: Option<String>,
}

impl Inner {
    fn page(&self, cursor: Option<Cursor>, limit: usize) -> Result<Page> {
        self.check_place()?;
        let mut walk = Walk {
            inner: self,
            page: Page::default(),
            limit,
            stats_left: MAX_STATS,
            last: None,
        };
        let ended = walk.directory("", cursor.as_ref().map(|cursor| cursor.0.as_str()))?;
        let mut page = walk.page;
        page.next = walk.last.filter(|_| !ended).map(Cursor);
        Ok(page)
    }

    /// Files with bytes of an upload are never removable.
    fn orphan(&self, path: &str) -> Option<Orphan> {
        let (above, name) = match path.rsplit_once('/') {
            Some((above, name)) => (Some(above), name),
            None => (None, path),
        };
        let version = self.stat(path).ok().filter(|version| version.is_file)?;
        if !self.is_old(version) {
            return None;
        }
        let (base, reason, kind) = if let Some(info) = temporary_of(name) {
            let base = info.strip_suffix(INFO)?;
            let base = above.map_or_else(|| base.to_owned(), |above| join(above, base));
            let kind = self.temporary_kind(path, &base, version);
            (base, "a temporary file of a process that died", kind)
        } else if let Some(base) = path.strip_suffix(INFO) {
            let id = UploadId::new(base).ok()?;
            if !matches!(self.inspect(&id), Err(StoreError::NotFound(_))) {
                return None;
            }
            let (reason, kind) = match self.is_own_description(&id) {
                true => ("a description without bytes", OrphanKind::Description),
                false => (
                    "a description without bytes that may be another program's",
                    OrphanKind::Unproven,
                ),
            };
            (base.to_owned(), reason, kind)
        } else {
            if !self.is_orphaned_data(&UploadId::new(path).ok()?, version) {
                return None;
            }
            let reason = "a file without a description";
            (path.to_owned(), reason, OrphanKind::Unproven)
        };
        // A copy keeps the time of its original.
        let at = version.modified().max(version.changed());
        let mut orphan = Orphan::new(path, reason, version.size, at);
        orphan.id = UploadId::new(&base).ok();
        orphan.kind = kind;
        Some(orphan)
    }

    /// It can be read, this store has written it for this upload, and the bytes belong next to it. Elsewhere
    /// they may be on a file system that is not mounted.
    fn is_own_description(&self, id: &UploadId) -> bool {
        let record = self.read_small(&info_path(id));
        let info = record.and_then(|json| UploadInfo::decode(id, &json).ok());
        info.is_some_and(|info| {
            let stored = |key| info.upload.storage.get(key).map(String::as_str);
            let place = self
                .root
                .data_path_of(id, stored("Path"), stored("InfoPath"));
            !info.upload.created_by_tusd
                && info.stated_id.is_none()
                && place.is_none_or(|place| place == id.as_str())
        })
    }

    /// A description that was not renamed: whole, or still empty. The description that it should have replaced
    /// is there.
    fn temporary_kind(&self, path: &str, base: &str, version: FileVersion) -> OrphanKind {
        let Ok(id) = UploadId::new(base) else {
            return OrphanKind::Unproven;
        };
        let is_own = match version.size {
            0 => self.is_own_description(&id),
            _ => self
                .read_small(path)
                .and_then(|json| UploadInfo::decode(&id, &json).ok())
                .is_some_and(|info| !info.upload.created_by_tusd && info.stated_id.is_none()),
        };
        match is_own {
            true => OrphanKind::Temporary,
            false => OrphanKind::Unproven,
        }
    }

    fn read_small(&self, path: &str) -> Option<Vec<u8>> {
        let (file, version) = self.open_versioned(path, sys::open_read).ok()?;
        let is_small = version.is_file && version.size <= UploadInfo::MAX_LEN;
        let mut content = vec![0; usize::try_from(version.size).ok().filter(|_| is_small)?];
        let len = sys::read_at(file.as_fd(), &mut content, 0).ok()?;
        content.truncate(len);
        Some(content)
    }

    fn damaged_upload(&self, id: UploadId, reason: String) -> Option<Damaged> {
        let info = self.stat(&info_path(&id)).ok()?;
        let data = self
            .stat(id.as_str())
            .ok()
            .filter(|version| version.is_file);
        let changed = data.map(|data| data.modified());
        Some(Damaged {
            id,
            size: data.map_or(0, |data| data.size),
            modified: changed.map_or(info.modified(), |at| at.max(info.modified())),
            reason,
        })
    }

    /// Returns how the files contradict the description, if they do.
    fn contradiction(&self, found: &Snapshot, record: &Record) -> Option<&'static str> {
        if found.is_complete() || record.is_moved() {
            return None;
        }
        if found.upload.completion.is_done() {
            return Some("it is finished, and its file has another length");
        }
        let (dir, name) = self.root.parent(&record.data_path).ok()?;
        let is_link = sys::stat(dir.as_fd(), name).is_ok_and(|version| version.is_link);
        is_link.then_some("it is unfinished, and its file was replaced by a link")
    }

    pub(super) fn is_old(&self, version: FileVersion) -> bool {
        let old = |time| {
            SystemTime::now()
                .duration_since(time)
                .is_ok_and(|age| age >= self.options.orphan_age)
        };
        old(version.modified()) && old(version.changed())
    }

    /// Creation makes the data file first and writes into it only after the description exists, so
    /// an interrupted creation leaves an empty file. A file with bytes may be a completed upload
    /// whose description the application removed. It is only examined, and reported, if its name is a random
    /// id; any other file may be the application's.
    fn is_orphaned_data(&self, id: &UploadId, version: FileVersion) -> bool {
        if !has_random_id_shape(id.as_str()) {
            return false;
        }
        let no_info = self
            .stat(&info_path(id))
            .is_err_and(|error| is_missing(&error));
        no_info && self.is_unreferenced(id.as_str(), version)
    }

    /// Reads all descriptions, but reuses the result for files older than the last pass.
    fn is_unreferenced(&self, path: &str, version: FileVersion) -> bool {
        let mut referenced = self.listing.referenced.lock();
        let cached = referenced.as_ref().filter(|referenced| {
            SystemTime::now()
                .duration_since(referenced.started)
                .is_ok_and(|age| age < CACHE_TTL)
                && referenced
                    .started
                    .duration_since(version.changed())
                    .is_ok_and(|age| age >= self.options.orphan_age)
        });
        if cached.is_none() {
            match self.read_referenced_paths() {
                Ok(read) => *referenced = Some(read),
                Err(error) => {
                    tracing::warn!(%error, "failed to read descriptions, orphan scan skipped");
                    return false;
                }
            }
        }
        referenced
            .as_ref()
            .is_some_and(|referenced| !referenced.contains(path) && !referenced.incomplete)
    }

    fn read_referenced_paths(&self) -> Result<ReferencedPaths> {
        let mut referenced = ReferencedPaths {
            started: SystemTime::now(),
            hasher: std::collections::hash_map::RandomState::new(),
            hashes: HashSet::new(),
            incomplete: false,
        };
        let mut dirs = vec![String::new()];
        while let Some(dir) = dirs.pop() {
            self.for_each_name(&dir, |name| {
                let path = join(&dir, &name.name);
                if name.kind == NameKind::Directory {
                    dirs.push(path);
                } else if let Some(id) = path
                    .strip_suffix(INFO)
                    .and_then(|id| UploadId::new(id).ok())
                {
                    match self.record(&id, None) {
                        Ok((record, _)) if *record.data_path != *id.as_str() => {
                            referenced.add(&record.data_path)
                        }
                        Ok(_) | Err(StoreError::NotFound(_)) => {}
                        Err(StoreError::Damaged { .. } | StoreError::Unavailable(_)) => {
                            referenced.incomplete = true;
                        }
                        Err(error) => return Err(error),
                    }
                }
                Ok(())
            })?;
        }
        Ok(referenced)
    }

    fn remove_orphan(&self, orphan: &Orphan) -> Result<bool> {
        self.check_place()?;
        let fail = |error| StoreError::io(format!("removing {}", orphan.name), error);
        // It may have become part of an upload since it was listed.
        let now = self.orphan(&orphan.name);
        if now.is_none_or(|now| now.kind != orphan.kind) {
            return Ok(false);
        }
        self.unlink(&orphan.name).map_err(fail)
    }

    /// Regular files and directories, links that may belong to uploads, and no hidden files except temporary ones.
    fn for_each_name(&self, dir: &str, mut each: impl FnMut(Name) -> Result<()>) -> Result<()> {
        let fail = |error| StoreError::io(format!("listing the directory {dir:?}"), error);
        let handle = match dir {
            "" => sys::open_dir(self.root.handle(), "."),
            dir => self.root.directory(dir),
        };
        let handle = match handle {
            Err(error) if is_missing(&error) && !dir.is_empty() => return Ok(()),
            handle => handle.map_err(fail)?,
        };
        for entry in Dir::read_from(&handle).map_err(|error| fail(error.into()))? {
            let entry = entry.map_err(|error| fail(error.into()))?;
            let Ok(name) = entry.file_name().to_str() else {
                continue;
            };
            let kind = match entry.file_type() {
                // Some file systems do not report the type here.
                FileType::Unknown => match self.stat_kind(&join(dir, name)) {
                    Some(kind) => kind,
                    None => continue,
                },
                kind => kind,
            };
            let kind = match kind {
                FileType::Directory => NameKind::Directory,
                FileType::RegularFile => NameKind::File,
                FileType::Symlink if name.ends_with(INFO) => NameKind::LinkedInfo,
                FileType::Symlink if sys::leads_to_directory(handle.as_fd(), name) => {
                    NameKind::LinkedDirectory
                }
                _ => continue,
            };
            let is_temporary = kind == NameKind::File && temporary_of(name).is_some();
            if name.starts_with('.') && !is_temporary {
                continue;
            }
            each(Name {
                name: name.to_owned(),
                kind,
            })?;
        }
        Ok(())
    }

    fn stat_kind(&self, path: &str) -> Option<FileType> {
        let (dir, name) = self.root.parent(path).ok()?;
        sys::kind(dir.as_fd(), name).ok()
    }

    /// Also returns whether these are all.
    fn names(&self, dir: &str, after: Option<&str>) -> Result<(Vec<Name>, bool)> {
        if let Some(cached) = &*self.listing.names.lock()
            && cached.dir == dir
            && cached.after.as_deref() <= after
        {
            let begin = cached
                .sorted
                .partition_point(|name| Some(name.name.as_str()) <= after);
            if after.is_some() && (cached.all || begin < cached.sorted.len()) {
                return Ok((cached.sorted[begin..].to_vec(), cached.all));
            }
        }
        let mut first = BinaryHeap::new();
        let mut all = true;
        self.for_each_name(dir, |name| {
            if after.is_none_or(|after| name.name.as_str() > after) {
                first.push(name);
                if first.len() > NAME_CACHE_CAPACITY {
                    first.pop();
                    all = false;
                }
            }
            Ok(())
        })?;
        let sorted = first.into_sorted_vec();
        *self.listing.names.lock() = Some(Names {
            dir: dir.to_owned(),
            after: after.map(str::to_owned),
            sorted: sorted.clone(),
            all,
        });
        Ok((sorted, all))
    }
}

impl Walk<'_> {
    /// True if it reached the end.
    fn directory(&mut self, dir: &str, after: Option<&str>) -> Result<bool> {
        let (mut after, inside) = match after.and_then(|after| after.split_once('/')) {
            // Continue inside this directory first.
            Some((name, inside)) => (Some(name.to_owned()), Some(inside)),
            None => (after.map(str::to_owned), None),
        };
        if let (Some(name), Some(inside)) = (&after, inside)
            && !self.directory(&join(dir, name), Some(inside))?
        {
            return Ok(false);
        }
        loop {
            let (names, all) = self.inner.names(dir, after.as_deref())?;
            let last = names.last().map(|name| name.name.clone());
            for name in names {
                let path = join(dir, &name.name);
                let goes_on = match name.kind {
                    NameKind::Directory => self.directory(&path, None)?,
                    NameKind::File | NameKind::LinkedInfo => self.file(path),
                    NameKind::LinkedDirectory => {
                        self.linked_directory(path);
                        true
                    }
                };
                if !goes_on {
                    return Ok(false);
                }
            }
            if all || last.is_none() {
                return Ok(true);
            }
            after = last;
        }
    }

    /// Its uploads may be served, and are not listed: nothing below a link is removed.
    fn linked_directory(&mut self, path: String) {
        if let Err(error) = self.inner.root.directory(&path)
            && let Some(unserved) = NotServed::of(&error)
        {
            self.page
                .unserved
                .push(Unserved::new(path, unserved.reason));
        }
    }

    /// False if the page is full and the file belongs to the next one.
    fn file(&mut self, path: String) -> bool {
        let page = &self.page;
        let found = page.uploads.len() + page.orphans.len();
        let listed = found + page.damaged.len() + page.unserved.len();
        if listed >= self.limit || self.stats_left == 0 {
            return false;
        }
        self.stats_left -= 1;
        let upload = path
            .strip_suffix(INFO)
            .filter(|_| !path.starts_with('.') && !path.contains("/."))
            .and_then(|id| UploadId::new(id).ok());
        let inspected = upload.map(|id| (self.inner.inspect_files(&id), id));
        match inspected {
            Some((Ok(state), id)) => {
                let snapshot = state.snapshot();
                match self.inner.contradiction(&snapshot, &state.record) {
                    Some(what) => {
                        let damaged = self.inner.damaged_upload(id, what.into());
                        self.page.damaged.extend(damaged);
                    }
                    None => self.page.uploads.push(snapshot),
                }
            }
            Some((Err(StoreError::Damaged { what, .. }), id)) => {
                self.page
                    .damaged
                    .extend(self.inner.damaged_upload(id, what));
            }
            None | Some((Err(StoreError::NotFound(_)), _)) => {
                self.page.orphans.extend(self.inner.orphan(&path));
            }
            Some((Err(StoreError::Unavailable(error)), id)) if error.is::<NotServed>() => {
                let unserved = Unserved::new(id.as_str(), error.to_string());
                self.page.unserved.push(unserved);
            }
            Some((Err(error), id)) => {
                tracing::warn!(upload = %id, %error, "failed to list an upload");
            }
        }
        self.last = Some(path);
        true
    }
}

impl ReferencedPaths {
    fn hash(&self, path: &str) -> u64 {
        use std::hash::BuildHasher;
        self.hasher.hash_one(path)
    }

    fn add(&mut self, path: &str) {
        self.hashes.insert(self.hash(path));
    }

    fn contains(&self, path: &str) -> bool {
        self.hashes.contains(&self.hash(path))
    }
}

fn join(dir: &str, name: &str) -> String {
    if dir.is_empty() {
        name.to_owned()
    } else {
        format!("{dir}/{name}")
    }
}

fn has_random_id_shape(id: &str) -> bool {
    let name = id.rsplit('/').next().unwrap_or(id);
    name.len() == 32 && name.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}
