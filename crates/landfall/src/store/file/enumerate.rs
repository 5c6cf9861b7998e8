//! Listing a directory tree in pages.
//!
//! Pages come in the order of the paths, and a [`Cursor`] is the path of the last thing looked at, so
//! that a listing goes on rightly whatever is removed meanwhile, and in another process too. A page
//! needs memory for a bounded number of names, however large the directory: what comes next is picked
//! out of one pass over it, and kept for the pages that follow.

use std::{
    collections::{BinaryHeap, HashSet},
    os::fd::AsFd,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use rustix::fs::{Dir, FileType};

use super::{
    FileStore, Inner,
    files::{info_place, is_missing, temporary_of},
    root::INFO,
    sys::{self, Stamp},
};
use crate::{
    store::{Cursor, Damaged, Enumerate, Orphan, Page, Result, StoreError},
    upload::UploadId,
};

/// For how long it is remembered where hooks have put data.
const REMEMBER: Duration = Duration::from_secs(600);
/// How many names are kept of one pass over a directory.
const NAMES: usize = 16 * 1024;
/// How many things are looked at for one page at most, so that a page of few uploads among many
/// other files takes bounded time too.
const LOOKS: usize = 4 * NAMES;

/// What one listing leaves for the next page.
#[derive(Debug, Default)]
pub(super) struct Listing {
    names: Mutex<Option<Names>>,
    places: Mutex<Option<Places>>,
}

/// Some names of a directory in their order.
#[derive(Debug)]
struct Names {
    dir: String,
    /// They are all that come after this one …
    after: Option<String>,
    sorted: Vec<Name>,
    /// … up to the last of them; or up to the end of the directory.
    all: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Name {
    name: String,
    is_dir: bool,
}

/// The places of data files that aren't where the id says, as hashes: a file found there without an
/// `.info` beside it is no orphan.
#[derive(Debug)]
struct Places {
    begun: SystemTime,
    hasher: std::collections::hash_map::RandomState,
    hashes: HashSet<u64>,
    /// Some description couldn't be read, and may tell of any place.
    unsure: bool,
}

#[async_trait]
impl Enumerate for FileStore {
    async fn page(&self, cursor: Option<Cursor>, limit: usize) -> Result<Page> {
        let inner = Arc::clone(&self.0);
        self.0
            .steps
            .long(move || inner.page(cursor, limit.max(1)))
            .await
    }

    async fn remove_orphan(&self, orphan: &Orphan) -> Result<()> {
        let (inner, orphan) = (Arc::clone(&self.0), orphan.clone());
        self.0
            .steps
            .long(move || inner.remove_orphan(&orphan))
            .await
    }
}

/// Collects a page while walking.
struct Walk<'a> {
    inner: &'a Inner,
    page: Page,
    limit: usize,
    looks: usize,
    /// The last path looked at.
    last: Option<String>,
}

impl Inner {
    fn page(&self, cursor: Option<Cursor>, limit: usize) -> Result<Page> {
        let mut walk = Walk {
            inner: self,
            page: Page::default(),
            limit,
            looks: LOOKS,
            last: None,
        };
        let ended = walk.directory("", cursor.as_ref().map(|cursor| cursor.0.as_str()))?;
        let mut page = walk.page;
        page.next = walk.last.filter(|_| !ended).map(Cursor);
        Ok(page)
    }

    /// Describes a file that belongs to no upload. What holds bytes of an upload is never removable.
    fn orphan(&self, place: &str) -> Option<Orphan> {
        let (above, name) = match place.rsplit_once('/') {
            Some((above, name)) => (Some(above), name),
            None => (None, place),
        };
        let stamp = self.stat(place).ok().filter(Stamp::is_file)?;
        if !self.is_old(stamp) {
            return None;
        }
        let (base, reason, removable) = if let Some(info) = temporary_of(name) {
            let base = info.strip_suffix(INFO)?;
            let base = above.map_or_else(|| base.to_owned(), |above| join(above, base));
            (base, "a temporary file of a process that died", true)
        } else if let Some(base) = place.strip_suffix(INFO) {
            let id = UploadId::new(base).ok()?;
            let found = self.look(&id);
            if !matches!(
                found,
                Err(StoreError::NotFound(_) | StoreError::Damaged { .. })
            ) {
                return None;
            }
            // An interrupted creation may leave both files, empty.
            let is_bare = stamp.size == 0
                && self
                    .stat(base)
                    .map_or_else(|error| is_missing(&error), |data| data.size == 0);
            let is_own =
                matches!(found, Err(StoreError::NotFound(_))) && self.is_own_description(&id);
            if is_bare || is_own {
                (base.to_owned(), "a description without bytes", true)
            } else {
                (base.to_owned(), "a description that cannot be read", false)
            }
        } else if let Some(base) = place.strip_suffix(".lock").or(place.strip_suffix(".stop")) {
            if !self.is_stale_lock(place, base, stamp) {
                return None;
            }
            (base.to_owned(), "a lock that tusd left behind", true)
        } else {
            if !self.is_unreferenced(&UploadId::new(place).ok()?, stamp) {
                return None;
            }
            let (reason, removable) = match stamp.size {
                0 => ("an empty file without a description", true),
                _ => ("bytes without a description", false),
            };
            (place.to_owned(), reason, removable)
        };
        let mut orphan = Orphan::new(place, reason, stamp.size, stamp.modified());
        orphan.id = UploadId::new(&base).ok();
        orphan.removable = removable;
        Some(orphan)
    }

    /// Whether a description is one of Landfall's or tusd's: its name is a random id, or its text
    /// begins as theirs do. Any other `.info` may be somebody's own file.
    fn is_own_description(&self, id: &UploadId) -> bool {
        const START: &[u8] = b"{\"ID\":";
        let read = || {
            let place = info_place(id);
            let (dir, name) = self.root.parent(&place)?;
            let file = sys::open_read(dir.as_fd(), name)?;
            let mut text = [0; START.len()];
            let len = sys::read_at(file.as_fd(), &mut text, 0)?;
            std::io::Result::Ok(text[..len] == *START)
        };
        looks_random(id.as_str()) || read().unwrap_or(false)
    }

    /// A damaged upload by what its files say.
    fn damaged_upload(&self, id: UploadId) -> Option<Damaged> {
        let info = self.stat(&info_place(&id)).ok()?;
        let data = self.stat(id.as_str()).ok().filter(Stamp::is_file);
        let changed = data.map(|data| data.modified());
        Some(Damaged {
            id,
            size: data.map_or(0, |data| data.size),
            modified: changed.map_or(info.modified(), |at| at.max(info.modified())),
        })
    }

    fn is_old(&self, stamp: Stamp) -> bool {
        let old = |time| {
            SystemTime::now()
                .duration_since(time)
                .is_ok_and(|age| age >= self.options.orphan_age)
        };
        old(stamp.modified()) && old(stamp.changed())
    }

    /// A lock of tusd is stale if there is no such upload and the process is gone.
    fn is_stale_lock(&self, place: &str, base: &str, stamp: Stamp) -> bool {
        if place.ends_with(".stop") {
            return stamp.size == 0 && self.stat(&format!("{base}.lock")).is_err();
        }
        if self.stat(base).is_ok() {
            // tusd finds out by itself that its owner is gone.
            return false;
        }
        // tusd's lock holds a process id and a line feed; anything else may be somebody's own file.
        let read = || {
            let (dir, name) = self.root.parent(place).ok()?;
            let file = sys::open_read(dir.as_fd(), name).ok()?;
            let mut text = [0; 24];
            let len = sys::read_at(file.as_fd(), &mut text, 0).ok()?;
            std::str::from_utf8(&text[..len])
                .ok()?
                .trim_end()
                .parse::<u32>()
                .ok()
        };
        match (stamp.size, read()) {
            (0, _) => true,
            (_, process) => process.is_some_and(|process| !is_running(process)),
        }
    }

    /// Whether no description tells of a data file. Creation makes the data file first and writes
    /// into it only once the description is there: an empty file is all that an interrupted creation
    /// leaves. Bytes may be those of a finished upload whose description the application removed;
    /// they are only looked at if the name is a random id, as any other may be somebody's own file.
    fn is_unreferenced(&self, id: &UploadId, stamp: Stamp) -> bool {
        if stamp.size > 0 && !looks_random(id.as_str()) {
            return false;
        }
        let no_info = self
            .stat(&info_place(id))
            .is_err_and(|error| is_missing(&error));
        no_info && self.is_nobodys(id.as_str(), stamp)
    }

    /// Whether no description says that its bytes are at this place. All descriptions are read for
    /// that, but seldom: for as long as what is asked for is older than the last time.
    fn is_nobodys(&self, place: &str, stamp: Stamp) -> bool {
        let mut places = self
            .listing
            .places
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let fresh = places.as_ref().filter(|places| {
            SystemTime::now()
                .duration_since(places.begun)
                .is_ok_and(|age| age < REMEMBER)
                && places
                    .begun
                    .duration_since(stamp.changed())
                    .is_ok_and(|age| age >= self.options.orphan_age)
        });
        if fresh.is_none() {
            match self.read_places() {
                Ok(read) => *places = Some(read),
                Err(error) => {
                    tracing::warn!(%error, "can't tell whose files there are");
                    return false;
                }
            }
        }
        places.as_ref().is_some_and(|places| {
            // An empty file is no loss, even if it belongs to what couldn't be read.
            !places.contains(place) && (stamp.size == 0 || !places.unsure)
        })
    }

    fn read_places(&self) -> Result<Places> {
        let mut places = Places {
            begun: SystemTime::now(),
            hasher: std::collections::hash_map::RandomState::new(),
            hashes: HashSet::new(),
            unsure: false,
        };
        let mut dirs = vec![String::new()];
        while let Some(dir) = dirs.pop() {
            self.each_name(&dir, |name| {
                let place = join(&dir, &name.name);
                if name.is_dir {
                    dirs.push(place);
                } else if let Some(id) = place
                    .strip_suffix(INFO)
                    .and_then(|id| UploadId::new(id).ok())
                {
                    match self.record(&id, None) {
                        Ok((record, _)) if record.place != id.as_str() => places.add(&record.place),
                        Ok(_) | Err(StoreError::NotFound(_)) => {}
                        Err(StoreError::Damaged { .. }) => places.unsure = true,
                        Err(error) => return Err(error),
                    }
                }
                Ok(())
            })?;
        }
        Ok(places)
    }

    fn remove_orphan(&self, orphan: &Orphan) -> Result<()> {
        let fail = |error| StoreError::io(format!("removing {}", orphan.name), error);
        // It may have become part of an upload since it was listed.
        if !self.orphan(&orphan.name).is_some_and(|now| now.removable) {
            return Ok(());
        }
        let (dir, name) = self.root.parent(&orphan.name).map_err(fail)?;
        sys::unlink(dir.as_fd(), name).map_err(fail)?;
        Ok(())
    }

    /// Calls `each` for every name in a directory that a store may have made: plain files and
    /// directories, no links, and of the hidden ones only temporary files.
    fn each_name(&self, dir: &str, mut each: impl FnMut(Name) -> Result<()>) -> Result<()> {
        let fail = |error| StoreError::io(format!("listing the directory {dir:?}"), error);
        let handle = match dir {
            "" => sys::open_dir(self.root.handle(), "."),
            dir => self.root.directory(dir),
        };
        let handle = match handle {
            Err(error) if is_missing(&error) && !dir.is_empty() => return Ok(()),
            handle => handle.map_err(fail)?,
        };
        for entry in Dir::new(handle).map_err(|error| fail(error.into()))? {
            let entry = entry.map_err(|error| fail(error.into()))?;
            let Ok(name) = entry.file_name().to_str() else {
                continue;
            };
            let kind = match entry.file_type() {
                // Some file systems don't say it here.
                FileType::Unknown => match self.stat_kind(&join(dir, name)) {
                    Some(kind) => kind,
                    None => continue,
                },
                kind => kind,
            };
            let is_dir = kind == FileType::Directory;
            let hidden = name.starts_with('.') && (is_dir || temporary_of(name).is_none());
            if hidden || !(is_dir || kind == FileType::RegularFile) {
                continue;
            }
            each(Name {
                name: name.to_owned(),
                is_dir,
            })?;
        }
        Ok(())
    }

    fn stat_kind(&self, place: &str) -> Option<FileType> {
        let stamp = self.stat(place).ok()?;
        let is_dir = || self.root.directory(place).is_ok();
        if stamp.is_file() {
            Some(FileType::RegularFile)
        } else {
            is_dir().then_some(FileType::Directory)
        }
    }

    /// The names of a directory that come after one, and whether these are all there are.
    fn names(&self, dir: &str, after: Option<&str>) -> Result<(Vec<Name>, bool)> {
        if let Some(kept) = &*self
            .listing
            .names
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            && kept.dir == dir
            && kept.after.as_deref() <= after
        {
            let begin = kept
                .sorted
                .partition_point(|name| Some(name.name.as_str()) <= after);
            if after.is_some() && (kept.all || begin < kept.sorted.len()) {
                return Ok((kept.sorted[begin..].to_vec(), kept.all));
            }
        }
        let mut first = BinaryHeap::new();
        let mut all = true;
        self.each_name(dir, |name| {
            if after.is_none_or(|after| name.name.as_str() > after) {
                first.push(name);
                if first.len() > NAMES {
                    first.pop();
                    all = false;
                }
            }
            Ok(())
        })?;
        let sorted = first.into_sorted_vec();
        *self
            .listing
            .names
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Some(Names {
            dir: dir.to_owned(),
            after: after.map(str::to_owned),
            sorted: sorted.clone(),
            all,
        });
        Ok((sorted, all))
    }
}

impl Walk<'_> {
    /// Walks a directory from after the path `after` on (relative to it); true if it came to the end.
    fn directory(&mut self, dir: &str, after: Option<&str>) -> Result<bool> {
        let (mut after, inside) = match after.and_then(|after| after.split_once('/')) {
            // Go on inside this directory, then after it.
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
                let place = join(dir, &name.name);
                if name.is_dir {
                    if !self.directory(&place, None)? {
                        return Ok(false);
                    }
                } else if !self.file(place) {
                    return Ok(false);
                }
            }
            if all || last.is_none() {
                return Ok(true);
            }
            after = last;
        }
    }

    /// Looks at a file; false if the page is full, and the file is for the next one.
    fn file(&mut self, place: String) -> bool {
        let page = &self.page;
        let listed = page.uploads.len() + page.orphans.len() + page.damaged.len();
        if listed >= self.limit || self.looks == 0 {
            return false;
        }
        self.looks -= 1;
        let upload = place
            .strip_suffix(INFO)
            .filter(|_| !place.starts_with('.') && !place.contains("/."))
            .and_then(|id| UploadId::new(id).ok());
        if let Some(id) = upload {
            match self.inner.look(&id) {
                Ok(look) => self.page.uploads.push(look.snapshot()),
                Err(StoreError::NotFound(_)) => {
                    self.page.orphans.extend(self.inner.orphan(&place));
                }
                Err(StoreError::Damaged { .. }) if self.inner.is_own_description(&id) => {
                    self.page.damaged.extend(self.inner.damaged_upload(id));
                }
                Err(StoreError::Damaged { .. }) => {
                    self.page.orphans.extend(self.inner.orphan(&place));
                }
                Err(error) => tracing::warn!(upload = %id, %error, "an upload can't be listed"),
            }
        } else {
            self.page.orphans.extend(self.inner.orphan(&place));
        }
        self.last = Some(place);
        true
    }
}

impl Places {
    fn hash(&self, place: &str) -> u64 {
        use std::hash::BuildHasher;
        self.hasher.hash_one(place)
    }

    fn add(&mut self, place: &str) {
        self.hashes.insert(self.hash(place));
    }

    fn contains(&self, place: &str) -> bool {
        self.hashes.contains(&self.hash(place))
    }
}

fn join(dir: &str, name: &str) -> String {
    if dir.is_empty() {
        name.to_owned()
    } else {
        format!("{dir}/{name}")
    }
}

/// Whether the last part of an id is one that Landfall and tusd make.
fn looks_random(id: &str) -> bool {
    let name = id.rsplit('/').next().unwrap_or(id);
    name.len() == 32 && name.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(target_os = "linux")]
fn is_running(process: u32) -> bool {
    Path::new("/proc").join(process.to_string()).exists() || !Path::new("/proc/self").exists()
}

/// Without a way to ask, a lock is taken for alive.
#[cfg(not(target_os = "linux"))]
fn is_running(_: u32) -> bool {
    true
}
