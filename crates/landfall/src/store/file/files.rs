//! Operations on the two files of an upload, without async waits;
//! [`IoPool`](super::io_pool::IoPool) decides where they run.

use std::{
    fmt, io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use arrayvec::ArrayString;

use super::{
    Durability, Inner,
    bound_lease::BoundLease,
    cache::{CachedUpload, KnownInfo, Record},
    failure::{failed, is_missing},
    guard::OwnedData,
    paths::{INFO, MAX_PATH_LEN, NotServed, is_link_error, is_valid_path},
    sys::{self, FileVersion},
    temporary::{create_temporary, put},
};
use crate::{
    store::{
        Result, StoreError,
        info::{InvalidInfo, UploadInfo},
    },
    upload::{FileLocation, Snapshot, Storage, Upload, UploadId},
};

/// Granularity of coarse file-system clocks. A younger `.info` may change again within the same
/// timestamp, so it is not cached.
const CLOCK_GRANULARITY: Duration = Duration::from_millis(50);
/// The limit of file systems, less `.info` and the suffix of a temporary file.
const MAX_SEGMENT_LEN: usize = 230;
/// Data modified within this time may be changing now.
const RECENT_CHANGE: Duration = Duration::from_secs(2);
/// The extension in the description of an upload whose files are being removed: it exists no more.
const TERMINATED: &str = "Terminated";
const LOST_BYTES: &str =
    "bytes were lost after it was finished, because they are not synced with the durability none";
/// File systems round the allocated size up by less than this.
const ALLOCATION_SLACK: u64 = 1024 * 1024;

#[derive(Debug)]
pub(super) struct FileState {
    pub(super) record: Arc<Record>,
    pub(super) info: FileVersion,
    pub(super) data: FileVersion,
    pub(super) offset: u64,
}

impl FileState {
    /// Only the description is left.
    pub(super) fn moved(record: Arc<Record>, info: FileVersion) -> Self {
        let offset = record.info.upload.length.unwrap_or_default();
        Self {
            record,
            info,
            data: info,
            offset,
        }
    }

    pub(super) fn snapshot(&self) -> Snapshot {
        Snapshot::new(
            Arc::clone(&self.record.info.upload),
            self.offset,
            self.data.modified_last(&self.info),
        )
    }
}

#[derive(Debug)]
pub(super) struct CreatedFiles {
    pub(super) record: Record,
    pub(super) data: OwnedFd,
    /// The content of the description.
    pub(super) json: Vec<u8>,
    /// The names of the files may not be synced.
    pub(super) synced: Option<(u64, FileVersion)>,
    /// Under a lease of a service.
    pub(super) owned: Option<Arc<OwnedData>>,
}

type InfoPath = ArrayString<{ UploadId::MAX_LEN + INFO.len() }>;

pub(super) fn info_path(id: &UploadId) -> InfoPath {
    let mut path = InfoPath::new();
    write_info_path(&mut path, id);
    path
}

/// Most requests need it, so it is not allocated, and not moved either.
fn write_info_path<'a>(path: &'a mut InfoPath, id: &UploadId) -> &'a str {
    path.push_str(id.as_str());
    path.push_str(INFO);
    path
}

fn temporary(name: &str) -> String {
    format!(".{name}.{:08x}.tmp", rand::random::<u32>())
}

pub(super) fn temporary_of(name: &str) -> Option<&str> {
    let (name, random) = name
        .strip_prefix('.')?
        .strip_suffix(".tmp")?
        .rsplit_once('.')?;
    let hex = random.len() == 8 && random.bytes().all(|b| b.is_ascii_hexdigit());
    (hex && name.ends_with(INFO)).then_some(name)
}

/// A new description in a temporary file, which is removed on drop.
#[derive(Debug)]
pub(super) struct PreparedChange {
    id: UploadId,
    dir: Arc<OwnedFd>,
    temporary: String,
    name: String,
}

impl PreparedChange {
    /// Replaces the description.
    pub(super) fn apply(mut self) -> Result<()> {
        put(&self.id, self.dir.as_fd(), &self.temporary, &self.name)?;
        self.temporary.clear();
        Ok(())
    }
}

impl Drop for PreparedChange {
    fn drop(&mut self) {
        if !self.temporary.is_empty() {
            let _ = sys::unlink(self.dir.as_fd(), &self.temporary);
        }
    }
}

/// Fails unless a regular file was opened. Sockets, and pipes without another side, cannot be.
fn check_opened(
    opened: io::Result<OwnedFd>,
    dir: BorrowedFd<'_>,
    name: &str,
) -> io::Result<(OwnedFd, FileVersion)> {
    let is_other = |found: &FileVersion| !found.is_file && !found.is_link;
    match opened {
        Ok(file) => match sys::stat_open(file.as_fd())? {
            version if version.is_file => Ok((file, version)),
            _ => Err(NotServed::not_a_file(name)),
        },
        Err(error) if is_missing(&error) => Err(error),
        Err(error) => match sys::stat(dir, name) {
            Ok(found) if is_other(&found) => Err(NotServed::not_a_file(name)),
            _ => Err(error),
        },
    }
}

impl Inner {
    /// The data file is created first, so an interrupted creation leaves an empty file without a
    /// description. At a path chosen by a hook the description is created first, because only it
    /// links the bytes to the upload.
    pub(super) fn create_files(
        &self,
        described: &mut Arc<Upload>,
    ) -> Result<(CreatedFiles, OwnedFd)> {
        self.check_place()?;
        let upload = Arc::make_mut(described);
        let id = upload.id.clone();
        let mut segments = id.as_str().split('/');
        if id.as_str().len() > MAX_SEGMENT_LEN && segments.any(|one| one.len() > MAX_SEGMENT_LEN) {
            return Err(StoreError::InvalidPath(format!(
                "the id {id} is too long for a file name"
            )));
        }
        let requested = upload.storage.get("Path").filter(|path| !path.is_empty());
        let data_path = match (requested, &self.options.names) {
            (Some(path), _) => self
                .root
                .resolve_requested(path)
                .map_err(StoreError::InvalidPath)?
                .into(),
            (None, None) => id.to_text(),
            (None, Some(template)) => self.named(upload, template)?.into(),
        };
        let mut info = InfoPath::new();
        let info = write_info_path(&mut info, &id);
        upload.storage = self.storage(&id, &data_path);
        let record = Record::new(described, data_path.clone());
        let json = record.info.encode();

        let is_default = *data_path == *id.as_str();
        let create = || {
            if is_default {
                self.create_file(&data_path, None).and_then(|data| {
                    self.create_file(info, Some(&json))
                        .map(|info| (data, info))
                        .inspect_err(|_| self.remove_created(&data_path))
                })
            } else {
                self.create_file(info, Some(&json)).and_then(|file| {
                    self.create_file(&data_path, None)
                        .map(|data| (data, file))
                        .inspect_err(|_| self.remove_created(info))
                })
            }
        };
        let mut files = create();
        if let Err(error) = &files
            && error.kind() == io::ErrorKind::AlreadyExists
            && (self.remove_moved(&id)? || self.remove_interrupted(&id))
        {
            files = create();
        }
        let (data, file) = files.map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => StoreError::AlreadyExists(id.clone()),
            _ if NotServed::of(&error).is_some() => {
                self.count_unserved(&id, &error);
                StoreError::InvalidPath(error.to_string())
            }
            _ if is_missing(&error) => StoreError::InvalidPath(format!(
                "{data_path:?} contains a name that is not a directory or is too long"
            )),
            _ => StoreError::io(format!("creating upload {id}"), error),
        })?;
        let synced = self.sync_created(&data, &file).map_err(|error| {
            self.remove_created(&data_path);
            self.remove_created(info);
            StoreError::io(format!("syncing the new upload {id}"), error)
        })?;
        let created = CreatedFiles {
            record,
            data,
            json,
            synced,
            owned: None,
        };
        Ok((created, file))
    }

    /// Changes the values of a client that cannot be the name of a file.
    fn named(&self, upload: &Upload, template: &str) -> Result<String> {
        // Without the two characters that are added below.
        let max = self.root.max_name_len() - 2;
        let name = upload.fill(template, SystemTime::now(), max, MAX_PATH_LEN);
        let name = name.map_err(StoreError::InvalidPath)?;
        let segments = name.split('/').map(|segment| match is_valid_path(segment) {
            true => segment.to_owned(),
            false => format!("_{}_", segment.trim_start_matches('.')),
        });
        let name = segments.collect::<Vec<_>>().join("/");
        let resolved = self.root.resolve_requested(&name);
        resolved.map_err(StoreError::InvalidMetadata)
    }

    fn create_file(&self, path: &str, content: Option<&[u8]>) -> io::Result<OwnedFd> {
        let (dir, name) = self.root.make_parent(path, self.options.dir_mode)?;
        let file = sys::create_new(dir.as_fd(), name, self.options.file_mode)?;
        if let Some(content) = content
            && let Err(error) = sys::write_from(file.as_fd(), content, 0)
        {
            let _ = sys::unlink(dir.as_fd(), name);
            return Err(error);
        }
        Ok(file)
    }

    fn sync_created(
        &self,
        data: &OwnedFd,
        info: &OwnedFd,
    ) -> io::Result<Option<(u64, FileVersion)>> {
        if self.options.durability != Durability::Every {
            return Ok(None);
        }
        sys::sync_data(info.as_fd())?;
        Ok(Some((
            sys::stat_open(data.as_fd())?.ino,
            sys::stat_open(info.as_fd())?,
        )))
    }

    /// An interrupted creation leaves empty files. No sweep removes them, since nothing proves whose they are;
    /// but now an upload of this very name is created.
    fn remove_interrupted(&self, id: &UploadId) -> bool {
        let info = info_path(id);
        let is_left = |path: &str| match self.stat(path) {
            Ok(version) => version.is_file && version.size == 0 && self.is_old(version),
            Err(error) => is_missing(&error),
        };
        if !is_left(id.as_str()) || !is_left(&info) {
            return false;
        }
        let removed = [id.as_str(), &info].map(|path| self.unlink(path).unwrap_or(false));
        removed.contains(&true)
    }

    /// A later creation removes the file if this fails, too.
    fn remove_created(&self, path: &str) {
        let _ = self.unlink(path);
    }

    /// False if there was none.
    pub(super) fn unlink(&self, path: &str) -> io::Result<bool> {
        let (dir, name) = self.root.parent(path)?;
        sys::unlink(dir.as_fd(), name)
    }

    fn storage(&self, id: &UploadId, data_path: &Arc<str>) -> Storage {
        Storage::of_files(FileLocation {
            dir: self.root.to_text(),
            data: Arc::clone(data_path),
            id: id.clone(),
        })
    }

    /// Two stat calls if the description is cached and unchanged.
    pub(super) fn inspect(&self, id: &UploadId) -> Result<FileState> {
        self.inspect_at(id, Instant::now())
    }

    pub(super) fn inspect_at(&self, id: &UploadId, now: Instant) -> Result<FileState> {
        self.check_place_at(now)?;
        let inspected = self.inspect_files(id);
        if let Err(StoreError::Unavailable(error)) = &inspected
            && let Some(unserved) = error.downcast_ref::<NotServed>()
        {
            self.count_unserved(id, unserved);
        }
        inspected
    }

    fn count_unserved(&self, id: &UploadId, unserved: impl fmt::Display) {
        let (count, last) = &mut *self.unserved.lock();
        *count += 1;
        *last = format!("upload {id}: {unserved}");
    }

    /// Counts no request.
    pub(super) fn inspect_files(&self, id: &UploadId) -> Result<FileState> {
        let entry = self.cache.get(id);
        for _ in 0..16 {
            let (record, info) = self.record(id, entry.as_deref())?;
            if record.is_moved() {
                return Ok(FileState::moved(record, info));
            }
            let data = self
                .stat(&record.data_path)
                .map_err(|error| failed(id, "reading the size of the data", error))?;
            // Unverified bytes must not count: if they were written between the two stats, the
            // description changed just now.
            let age = SystemTime::now().duration_since(data.modified());
            let recent = !age.is_ok_and(|age| age >= RECENT_CHANGE);
            if recent && self.stat(&info_path(id)).ok() != Some(info) {
                continue;
            }
            return self.check_state(id, record, info, data);
        }
        Err(StoreError::Unavailable(
            "the description of the upload keeps changing".into(),
        ))
    }

    pub(super) fn check_state(
        &self,
        id: &UploadId,
        mut record: Arc<Record>,
        info: FileVersion,
        data: FileVersion,
    ) -> Result<FileState> {
        if !data.is_file {
            let error = NotServed::not_a_file(&record.data_path);
            return Err(failed(id, "reading the size of the data", error));
        }
        if let Some(what) = &record.info.damaged {
            return Err(StoreError::damaged(id, what));
        }
        if record.info.upload.completion.is_done() && !record.info.upload.is_partial() {
            // Without durability, the mark may have survived a power loss that the bytes did not. A later change is
            // that of an application, which may change a finished file.
            let length = record.info.upload.length;
            let is_short = length.is_some_and(|length| data.size < length);
            if self.options.durability == Durability::None
                && record.marked
                && is_short
                && data.modified() <= info.modified()
            {
                return Err(StoreError::damaged(id, LOST_BYTES));
            }
            return Ok(FileState {
                offset: data.size,
                record,
                info,
                data,
            });
        }
        let unverified = record.info.unverified_from;
        let offset = unverified.map_or(data.size, |from| data.size.min(from));
        if record.info.concatenated_unknown && record.info.upload.length == Some(data.size) {
            let record = Arc::make_mut(&mut record);
            record.info.concatenated_unknown = false;
            Arc::make_mut(&mut record.info.upload).set_concatenated();
        }
        let length = record.info.upload.length;
        if length.is_some_and(|length| offset > length) {
            return Err(StoreError::damaged(id, "it has more bytes than its length"));
        }
        Ok(FileState {
            record,
            info,
            data,
            offset,
        })
    }

    /// Of the file that a link leads to, if it is in a data directory.
    pub(super) fn stat(&self, path: &str) -> io::Result<FileVersion> {
        let (dir, name) = self.root.parent(path)?;
        let version = sys::stat(dir.as_fd(), name)?;
        if !version.is_link {
            return Ok(version);
        }
        let (dir, name) = self.root.follow(dir.as_fd(), name)?;
        sys::stat(dir.as_fd(), &name)
    }

    /// Uses the cache if the file is unchanged.
    pub(super) fn record(
        &self,
        id: &UploadId,
        entry: Option<&CachedUpload>,
    ) -> Result<(Arc<Record>, FileVersion)> {
        self.record_of(id, entry, false)
    }

    /// For a request that may finish the upload: if the description must be read, it stays open.
    pub(super) fn record_to_finish(
        &self,
        id: &UploadId,
        entry: &CachedUpload,
    ) -> Result<(Arc<Record>, FileVersion)> {
        drop(self.take_info(entry));
        self.record_of(id, Some(entry), true)
    }

    fn record_of(
        &self,
        id: &UploadId,
        entry: Option<&CachedUpload>,
        keep: bool,
    ) -> Result<(Arc<Record>, FileVersion)> {
        let mut path = InfoPath::new();
        let path = write_info_path(&mut path, id);
        let fail = |error| failed(id, "reading the description", error);
        let (dir, name) = self.root.parent(path).map_err(fail)?;
        if let Some(entry) = entry {
            let known = match &entry.info.lock().record {
                Some((KnownInfo::Version(known), record)) => Some((*known, Arc::clone(record))),
                _ => None,
            };
            if let Some((known, record)) = known
                && sys::stat(dir.as_fd(), name).map_err(fail)? == known
            {
                return Ok((record, known));
            }
        }
        let open = if keep {
            sys::open_update
        } else {
            sys::open_read
        };
        let (mut keep, mut opened) = (keep, self.open_in(dir.as_fd(), name, open));
        if keep && opened.as_ref().is_err_and(|error| !is_missing(error)) {
            (keep, opened) = (false, self.open_in(dir.as_fd(), name, sys::open_read));
        }
        let (file, version) = opened.map_err(fail)?;
        if version.size > UploadInfo::MAX_LEN {
            return Err(StoreError::damaged(id, "its description is too large"));
        }
        let mut json = vec![0; usize::try_from(version.size).unwrap_or_default()];
        let len = sys::read_at(file.as_fd(), &mut json, 0).map_err(fail)?;
        json.truncate(len);
        let known = entry.and_then(|entry| match &entry.info.lock().record {
            Some((KnownInfo::Content(known), record)) if **known == *json => {
                Some(Arc::clone(record))
            }
            _ => None,
        });
        let record = match known {
            Some(record) => record,
            None => Arc::new(self.interpret(id, &json)?),
        };
        let is_cacheable = SystemTime::now()
            .duration_since(version.changed())
            .is_ok_and(|age| age > CLOCK_GRANULARITY);
        if is_cacheable {
            self.cache
                .insert_info(id, KnownInfo::Version(version), &record);
        }
        if let Some(entry) = entry.filter(|_| keep) {
            self.keep_info(entry, file, &json);
        }
        Ok((record, version))
    }

    fn interpret(&self, id: &UploadId, json: &[u8]) -> Result<Record> {
        let mut info = match UploadInfo::decode(id, json) {
            Ok(info) => info,
            // Bytes are written after the description, so without bytes nothing was acknowledged.
            Err(InvalidInfo::Truncated)
                if self.stat(id.as_str()).is_ok_and(|data| data.size > 0) =>
            {
                return Err(StoreError::damaged(id, "its description is truncated"));
            }
            Err(InvalidInfo::Truncated) => return Err(StoreError::NotFound(id.clone())),
            Err(InvalidInfo::Malformed(what)) => {
                return Err(StoreError::damaged(
                    id,
                    format!("its description is malformed: {what}"),
                ));
            }
        };
        if info.extensions.contains_key(TERMINATED) {
            return Err(StoreError::NotFound(id.clone()));
        }
        let stored = |key| info.upload.storage.get(key).map(String::as_str);
        let data_path = self
            .root
            .data_path_of(id, stored("Path"), stored("InfoPath"));
        let data_path: Arc<str> = match data_path {
            Some(path) if path == id.as_str() => id.to_text(),
            Some(path) if info.upload.moved_to.is_none() => self.existing_path(id, path)?.into(),
            Some(path) => path.into(),
            None => id.to_text(),
        };
        Arc::make_mut(&mut info.upload).storage = self.storage(id, &data_path);
        let marked = info.can_mark_finished && info.upload.completion.is_done();
        info.can_mark_finished = true;
        Ok(Record {
            info,
            marked,
            data_path,
        })
    }

    /// Returns the path, or the id if the data is there instead: the application moved it back. A missing
    /// file elsewhere is not deleted, because its directory may not be mounted.
    fn existing_path(&self, id: &UploadId, path: String) -> Result<String> {
        let Err(error) = self.stat(&path) else {
            return Ok(path);
        };
        let fail = |error| failed(id, "reading the size of the data", error);
        let is_outside = path.starts_with('/');
        match self.stat(id.as_str()) {
            Err(missing) if is_outside && is_missing(&missing) && is_missing(&error) => {
                Err(fail(NotServed::missing(&path)))
            }
            Err(missing) if is_missing(&missing) && NotServed::of(&error).is_some() => {
                Err(fail(error))
            }
            _ => Ok(id.as_str().to_owned()),
        }
    }

    pub(super) fn open_versioned(
        &self,
        data_path: &str,
        open: impl Fn(BorrowedFd<'_>, &str) -> io::Result<OwnedFd>,
    ) -> io::Result<(OwnedFd, FileVersion)> {
        let (dir, name) = self.root.parent(data_path)?;
        self.open_in(dir.as_fd(), name, open)
    }

    fn open_in(
        &self,
        dir: BorrowedFd<'_>,
        name: &str,
        open: impl Fn(BorrowedFd<'_>, &str) -> io::Result<OwnedFd>,
    ) -> io::Result<(OwnedFd, FileVersion)> {
        match open(dir, name) {
            Err(error) if is_link_error(&error) => {
                let (dir, name) = self.root.follow(dir, name)?;
                check_opened(open(dir.as_fd(), &name), dir.as_fd(), &name)
            }
            opened => check_opened(opened, dir, name),
        }
    }

    pub(super) fn open_data(
        &self,
        id: &UploadId,
        data_path: &str,
    ) -> Result<(OwnedFd, FileVersion)> {
        let opened = self.open_versioned(data_path, sys::open_write);
        opened.map_err(|error| failed(id, "opening the data", error))
    }

    /// Changes the description atomically. The caller holds the upload's lock.
    pub(super) fn change(
        &self,
        id: &UploadId,
        entry: &CachedUpload,
        change: impl FnOnce(&mut Record) -> Result<()>,
    ) -> Result<Arc<Record>> {
        let (mut record, known) = self.record(id, Some(entry))?;
        change(Arc::make_mut(&mut record))?;
        let json = record.info.encode();
        let lease = entry.lease.lock().clone();
        let replaced = match lease {
            Some(lease) => self
                .prepare_change(id, &json, &known, &lease)
                .and_then(PreparedChange::apply),
            None => self
                .replace(&info_path(id), &json)
                .map_err(|error| failed(id, "replacing the description", error)),
        };
        drop(self.take_info(entry));
        entry.info.lock().record = None;
        if self.options.durability != Durability::None {
            entry.info.lock().synced.info = None;
        }
        replaced.map(|()| record)
    }

    fn replace(&self, path: &str, content: &[u8]) -> io::Result<()> {
        let (dir, name) = self.root.parent(path)?;
        let dir = dir.as_fd();
        let temporary = temporary(name);
        let file = sys::create_new(dir, &temporary, self.options.file_mode)?;
        let write = || {
            sys::write_from(file.as_fd(), content, 0)?;
            if self.options.durability != Durability::None {
                // Otherwise a power loss could leave the new name with an empty file.
                sys::sync_data(file.as_fd())?;
            }
            sys::rename(dir, &temporary, name)
        };
        write().inspect_err(|_| {
            let _ = sys::unlink(dir, &temporary);
        })
    }

    /// The first half of a change that a former holder may make late: see [`guard`](super::guard).
    pub(super) fn prepare_change(
        &self,
        id: &UploadId,
        content: &[u8],
        known: &FileVersion,
        lease: &BoundLease,
    ) -> Result<PreparedChange> {
        let fail = |error| failed(id, "replacing the description", error);
        let path = info_path(id);
        let (dir, name) = self.root.parent(&path).map_err(fail)?;
        let created = create_temporary(dir.as_fd(), name, self.options.file_mode);
        let (temporary, file) = created.map_err(fail)?;
        let prepared = PreparedChange {
            id: id.clone(),
            name: name.to_owned(),
            dir,
            temporary,
        };
        // Only now: a takeover removes the temporary file, or has changed the version before.
        lease.check_own(id)?;
        if self.stat(&path).map_err(fail)? != *known {
            return Err(StoreError::LeaseLost(id.clone()));
        }
        sys::write_from(file.as_fd(), content, 0).map_err(fail)?;
        if self.options.durability != Durability::None {
            // Otherwise a power loss could leave the new name with an empty file.
            sys::sync_data(file.as_fd()).map_err(fail)?;
        }
        Ok(prepared)
    }

    /// Syncs the data, too, if it must survive a power loss.
    pub(super) fn truncate(&self, id: &UploadId, data: &OwnedFd, len: u64) -> Result<()> {
        let truncate = || {
            sys::truncate(data.as_fd(), len)?;
            match self.options.durability {
                Durability::None => Ok(()),
                Durability::Complete | Durability::Every => sys::sync_data(data.as_fd()),
            }
        };
        truncate().map_err(|error| failed(id, "truncating the data", error))
    }

    pub(super) fn release(&self, id: &UploadId) -> Result<()> {
        let entry = self.cache.get_or_insert(id);
        let (record, _) = self.record(id, Some(&entry))?;
        if record.is_moved() {
            return Ok(());
        }
        let (data, version) = self.open_data(id, &record.data_path)?;
        if version.allocated > version.size.next_multiple_of(ALLOCATION_SLACK) {
            sys::truncate(data.as_fd(), version.size)
                .map_err(|error| failed(id, "releasing reserved space", error))?;
        }
        Ok(())
    }

    /// Makes the description stand for no upload, before its files are removed one by one. A holder that goes on late
    /// fails here, and not after another one has taken the upload over.
    pub(super) fn mark_terminated(&self, id: &UploadId, entry: &CachedUpload) -> Result<()> {
        let marked = self.change(id, entry, |record| {
            let extensions = &mut record.info.extensions;
            extensions.insert(TERMINATED.to_owned(), "1".to_owned());
            Ok(())
        });
        match marked {
            Err(error @ StoreError::LeaseLost(_)) => Err(error),
            // An interrupted removal is repeated, and damaged uploads are removed, too.
            _ => Ok(()),
        }
    }

    pub(super) fn remove(&self, id: &UploadId, data_path: &str) -> Result<bool> {
        let mut removed = false;
        for path in [data_path, &info_path(id)] {
            match self.unlink(path) {
                Err(error) if !is_missing(&error) => {
                    return Err(failed(id, "removing a file", error));
                }
                unlinked => removed |= unlinked.unwrap_or(false),
            }
        }
        Ok(removed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn temporary_names_are_recognized() {
        let name = temporary("a.b.info");
        assert_eq!(temporary_of(&name), Some("a.b.info"));
        for other in [
            "a.info",
            ".a.info",
            ".a.info.tmp",
            ".a.info.0123456.tmp",
            ".landfall",
            ".a.00000000.tmp",
        ] {
            assert_eq!(temporary_of(other), None, "{other}");
        }
    }
}
