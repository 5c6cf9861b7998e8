//! What is done to the two files of an upload, step by step and without waiting for anything but the
//! disk; [`Steps`](super::steps::Steps) decides where it runs.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    sync::Arc,
    time::{Duration, SystemTime},
};

use rustix::io::Errno;

use super::{
    Durability, Inner,
    record::Record,
    root::INFO,
    slots::Slot,
    sys::{self, Stamp},
};
use crate::{
    store::{
        Result, StoreError,
        info::{self, InvalidInfo, UploadInfo},
    },
    upload::{Snapshot, Upload, UploadId, UploadKind},
};

/// An `.info` changed less than this before it was read may change again without looking different,
/// where the file system's clock is coarse: it isn't kept parsed.
const COARSE: Duration = Duration::from_millis(50);
/// The longest segment (between slashes) of an id: what file systems take, less room for `.info`
/// and the suffix of a temporary file.
const MAX_SEGMENT_LEN: usize = 230;
/// Data changed less than this ago may be changing right now.
const RECENT: Duration = Duration::from_secs(2);
/// File systems round up what a file takes to something below this.
const SLACK: u64 = 1024 * 1024;

/// The files of an upload as they stood at one moment.
#[derive(Debug)]
pub(super) struct Look {
    pub(super) record: Arc<Record>,
    pub(super) info: Stamp,
    pub(super) data: Stamp,
    /// How many bytes count.
    pub(super) offset: u64,
}

impl Look {
    pub(super) fn snapshot(&self) -> Snapshot {
        Snapshot {
            upload: Arc::clone(&self.record.upload),
            offset: self.offset,
            modified: self.data.modified().max(self.info.modified()),
        }
    }
}

/// A new upload.
#[derive(Debug)]
pub(super) struct Made {
    pub(super) upload: Arc<Upload>,
    pub(super) place: String,
    pub(super) data: OwnedFd,
    /// The inode of the data file, for those who sync; else 0.
    pub(super) ino: u64,
    /// Set if it has been synced (but for the names of the files).
    pub(super) synced: Option<(u64, Stamp)>,
}

/// The name of a description, relative to the directory.
pub(super) fn info_place(id: &UploadId) -> String {
    [id.as_str(), INFO].concat()
}

/// The name of a temporary file beside `name`; see [`temporary_of`].
fn temporary(name: &str) -> String {
    format!(".{name}.{:08x}.tmp", rand::random::<u32>())
}

/// The name beside which a temporary file was made, if it has the name of one.
pub(super) fn temporary_of(name: &str) -> Option<&str> {
    let (name, random) = name
        .strip_prefix('.')?
        .strip_suffix(".tmp")?
        .rsplit_once('.')?;
    let hex = random.len() == 8 && random.bytes().all(|b| b.is_ascii_hexdigit());
    (hex && name.ends_with(INFO)).then_some(name)
}

/// Whether there is nothing to be found under a name: nothing at all, or something that would lead
/// elsewhere (a link, also in place of a directory).
pub(super) fn is_missing(error: &io::Error) -> bool {
    error.raw_os_error().is_some_and(|code| {
        [
            Errno::NOENT,
            Errno::NOTDIR,
            Errno::LOOP,
            Errno::XDEV,
            Errno::NAMETOOLONG,
        ]
        .contains(&Errno::from_raw_os_error(code))
    })
}

/// The error for something that failed with an upload's file.
pub(super) fn failed(id: &UploadId, doing: &str, error: io::Error) -> StoreError {
    if is_missing(&error) {
        StoreError::NotFound(id.clone())
    } else {
        StoreError::io(format!("{doing} of upload {id}"), error)
    }
}

/// Whether files can be called like this.
fn is_file_name(id: &UploadId) -> bool {
    let segments = id.as_str().split('/');
    segments.map(str::len).all(|len| len <= MAX_SEGMENT_LEN)
}

fn damaged(id: &UploadId, what: impl Into<String>) -> StoreError {
    StoreError::Damaged {
        id: id.clone(),
        what: what.into(),
    }
}

impl Inner {
    /// Makes the files of a new upload. The data file comes first, so that bytes without a
    /// description are always an empty file and a creation that was cut off; but where a hook chose
    /// the place, the description comes first, because nothing else tells whose the bytes are.
    pub(super) fn make(&self, mut upload: Upload) -> Result<Made> {
        let id = upload.id.clone();
        if !is_file_name(&id) {
            return Err(StoreError::InvalidPath(format!(
                "the id {id} is too long for the name of a file"
            )));
        }
        let wish = upload.storage.get("Path").filter(|path| !path.is_empty());
        let place = match wish {
            Some(wish) => self.root.wish(wish).map_err(StoreError::InvalidPath)?,
            None => id.as_str().to_owned(),
        };
        let info = info_place(&id);
        upload.storage = self.storage(&place, &info);
        let described = UploadInfo::new(upload);
        let json = described.encode();
        let upload = described.upload;

        let own = place == id.as_str();
        let done = if own {
            self.make_file(&place, None).and_then(|data| {
                self.make_file(&info, Some(&json))
                    .map(|info| (data, info))
                    .inspect_err(|_| self.undo(&place))
            })
        } else {
            self.make_file(&info, Some(&json)).and_then(|file| {
                self.make_file(&place, None)
                    .map(|data| (data, file))
                    .inspect_err(|_| self.undo(&info))
            })
        };
        let (data, file) = done.map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => StoreError::AlreadyExists(id.clone()),
            _ if is_missing(&error) => StoreError::InvalidPath(format!(
                "{place:?} leads through something that is not a directory, or is too long"
            )),
            _ => StoreError::io(format!("creating upload {id}"), error),
        })?;
        let synced = self.sync_made(&data, &file).map_err(|error| {
            self.undo(&place);
            self.undo(&info);
            StoreError::io(format!("syncing the new upload {id}"), error)
        })?;
        let ino = synced.map_or(0, |(ino, _)| ino);
        Ok(Made {
            upload: Arc::new(upload),
            place,
            data,
            ino,
            synced,
        })
    }

    fn make_file(&self, place: &str, content: Option<&[u8]>) -> io::Result<OwnedFd> {
        let (dir, name) = self.root.make_parent(place, self.options.dir_mode)?;
        let file = sys::create_new(dir.as_fd(), name, self.options.file_mode)?;
        if let Some(content) = content
            && let Err(error) = sys::write_whole(file.as_fd(), content)
        {
            let _ = sys::unlink(dir.as_fd(), name);
            return Err(error);
        }
        Ok(file)
    }

    fn sync_made(&self, data: &OwnedFd, info: &OwnedFd) -> io::Result<Option<(u64, Stamp)>> {
        if self.options.durability != Durability::Every {
            return Ok(None);
        }
        sys::sync_data(info.as_fd())?;
        Ok(Some((
            sys::stat_open(data.as_fd())?.ino,
            sys::stat_open(info.as_fd())?,
        )))
    }

    /// Removes a file of an upload whose creation failed; there is nothing more to do if that fails
    /// too, the sweeper finds it.
    fn undo(&self, place: &str) {
        if let Ok((dir, name)) = self.root.parent(place) {
            let _ = sys::unlink(dir.as_fd(), name);
        }
    }

    /// `Storage` as tusd writes it.
    fn storage(&self, place: &str, info: &str) -> std::collections::BTreeMap<String, String> {
        [
            ("Type".into(), "filestore".into()),
            ("Path".into(), self.root.absolute(place)),
            ("InfoPath".into(), self.root.absolute(info)),
        ]
        .into()
    }

    /// The upload as it stands: for one that was seen before and hasn't changed, two calls of stat.
    pub(super) fn look(&self, id: &UploadId) -> Result<Look> {
        let slot = self.slots.find(id);
        for _ in 0..16 {
            let (record, info) = self.record(id, slot.as_deref())?;
            let data = self
                .stat(&record.place)
                .map_err(|error| failed(id, "looking at the data", error))?;
            // Bytes on probation must not count: had they and the note of them come between the two
            // looks, then just now, and the description would be another.
            let now = SystemTime::now();
            let recent = now
                .duration_since(data.modified())
                .is_ok_and(|age| age < RECENT)
                || data.modified() > now;
            if recent && self.stat(&info_place(id)).ok() != Some(info) {
                continue;
            }
            return self.judge(id, record, info, data);
        }
        Err(StoreError::Unavailable {
            retry_after: None,
            source: "the upload's description changes all the time".into(),
        })
    }

    pub(super) fn judge(
        &self,
        id: &UploadId,
        mut record: Arc<Record>,
        info: Stamp,
        data: Stamp,
    ) -> Result<Look> {
        if !data.is_file() {
            return Err(damaged(id, "its data is not a plain file"));
        }
        if let Some(what) = &record.damaged {
            return Err(damaged(id, what));
        }
        let offset = record
            .unverified_from
            .map_or(data.size, |from| data.size.min(from));
        if record.joined_unsaid && record.upload.length == Some(data.size) {
            let record = Arc::make_mut(&mut record);
            record.joined_unsaid = false;
            if let UploadKind::Final {
                concatenated: joined,
                ..
            } = &mut Arc::make_mut(&mut record.upload).kind
            {
                *joined = true;
            }
        }
        if record.upload.length.is_some_and(|length| offset > length) {
            return Err(damaged(id, "it has more bytes than its length"));
        }
        Ok(Look {
            record,
            info,
            data,
            offset,
        })
    }

    pub(super) fn stat(&self, place: &str) -> io::Result<Stamp> {
        let (dir, name) = self.root.parent(place)?;
        sys::stat(dir.as_fd(), name)
    }

    /// What the `.info` says, from memory if the file is still the one that was read.
    pub(super) fn record(
        &self,
        id: &UploadId,
        slot: Option<&Slot>,
    ) -> Result<(Arc<Record>, Stamp)> {
        let place = info_place(id);
        let fail = |error| failed(id, "reading the description", error);
        let (dir, name) = self.root.parent(&place).map_err(fail)?;
        if let Some(slot) = slot {
            let stamp = sys::stat(dir.as_fd(), name).map_err(fail)?;
            if let Some((known, record)) = &slot.known().record
                && *known == stamp
            {
                return Ok((Arc::clone(record), stamp));
            }
        }
        let file = sys::open_read(dir.as_fd(), name).map_err(fail)?;
        let stamp = sys::stat_open(file.as_fd()).map_err(fail)?;
        if !stamp.is_file() || stamp.size > info::MAX_LEN {
            return Err(damaged(
                id,
                "its description is not a plain file of a sensible size",
            ));
        }
        let mut json = vec![0; usize::try_from(stamp.size).unwrap_or_default()];
        let len = sys::read_at(file.as_fd(), &mut json, 0).map_err(fail)?;
        json.truncate(len);
        let record = Arc::new(self.interpret(id, &place, &json)?);
        let settled = SystemTime::now()
            .duration_since(stamp.changed())
            .is_ok_and(|age| age > COARSE);
        if settled {
            self.slots.remember(id, stamp, &record);
        }
        Ok((record, stamp))
    }

    fn interpret(&self, id: &UploadId, info: &str, json: &[u8]) -> Result<Record> {
        let decoded = match UploadInfo::decode(id, json) {
            Ok(decoded) => decoded,
            // Bytes come after the description: without any, nothing was ever acknowledged.
            Err(InvalidInfo::Truncated)
                if self.stat(id.as_str()).is_ok_and(|data| data.size > 0) =>
            {
                return Err(damaged(id, "its description is cut short"));
            }
            Err(InvalidInfo::Truncated) => return Err(StoreError::NotFound(id.clone())),
            Err(InvalidInfo::Malformed(what)) => {
                return Err(damaged(
                    id,
                    format!("its description makes no sense: {what}"),
                ));
            }
        };
        let mut upload = decoded.upload;
        let said = |key| upload.storage.get(key).map(String::as_str);
        let place = self
            .root
            .place_of(id, said("Path"), said("InfoPath"))
            .filter(|place| place == id.as_str() || self.stat(place).is_ok())
            .unwrap_or_else(|| id.as_str().to_owned());
        upload.storage = self.storage(&place, info);
        Ok(Record {
            upload: Arc::new(upload),
            unverified_from: decoded.unverified_from,
            damaged: decoded.damaged,
            joined_unsaid: decoded.concatenated_unknown,
            place,
        })
    }

    /// Opens the data file for writing.
    pub(super) fn open_data(&self, id: &UploadId, place: &str) -> Result<(OwnedFd, Stamp)> {
        let open = || {
            let (dir, name) = self.root.parent(place)?;
            let data = sys::open_write(dir.as_fd(), name)?;
            let stamp = sys::stat_open(data.as_fd())?;
            Ok((data, stamp))
        };
        let (data, stamp) = open().map_err(|error| failed(id, "opening the data", error))?;
        if !stamp.is_file() {
            return Err(damaged(id, "its data is not a plain file"));
        }
        Ok((data, stamp))
    }

    /// Changes the description: the old or the new one is there at any moment. The caller has the
    /// upload's gate.
    pub(super) fn change(
        &self,
        id: &UploadId,
        slot: &Slot,
        change: impl FnOnce(&mut Record) -> Result<()>,
    ) -> Result<Arc<Record>> {
        let (mut record, _) = self.record(id, Some(slot))?;
        change(Arc::make_mut(&mut record))?;
        let json = record.encode();
        let replaced = self
            .replace(&info_place(id), &json)
            .map_err(|error| failed(id, "replacing the description", error));
        slot.known().record = None;
        if self.options.durability != Durability::None {
            slot.known().synced.info = None;
        }
        replaced.map(|()| record)
    }

    fn replace(&self, place: &str, content: &[u8]) -> io::Result<()> {
        let (dir, name) = self.root.parent(place)?;
        let dir = dir.as_fd();
        let temporary = temporary(name);
        let file = sys::create_new(dir, &temporary, self.options.file_mode)?;
        let write = || {
            sys::write_whole(file.as_fd(), content)?;
            if self.options.durability != Durability::None {
                // Else a power cut could leave the new name with nothing behind it.
                sys::sync_data(file.as_fd())?;
            }
            sys::rename(dir, &temporary, name)
        };
        write().inspect_err(|_| {
            let _ = sys::unlink(dir, &temporary);
        })
    }

    /// Gives back space that was reserved for more bytes than came.
    pub(super) fn release(&self, id: &UploadId) -> Result<()> {
        let slot = self.slots.get(id);
        let (record, _) = self.record(id, Some(&slot))?;
        let (data, stamp) = self.open_data(id, &record.place)?;
        if stamp.allocated > stamp.size.next_multiple_of(SLACK) {
            sys::truncate(data.as_fd(), stamp.size)
                .map_err(|error| failed(id, "giving back reserved space", error))?;
        }
        Ok(())
    }

    /// Removes the files of an upload and says whether there was one; what is missing already is no
    /// error.
    pub(super) fn remove(&self, id: &UploadId, place: &str) -> Result<bool> {
        let mut any = false;
        for place in [place, &info_place(id)] {
            let gone = self
                .root
                .parent(place)
                .and_then(|(dir, name)| sys::unlink(dir.as_fd(), name));
            match gone {
                Err(error) if !is_missing(&error) => {
                    return Err(failed(id, "removing a file", error));
                }
                gone => any |= gone.unwrap_or(false),
            }
        }
        Ok(any)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn temporary_names_are_recognised() {
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
