//! Takes an upload over from a holder that has not released its lease: new inodes for its bytes and its description.
//!
//! The order is what makes it exact; [`guard`](super::guard) has the other half. The bytes are copied and renamed over the
//! old ones, then the description, then the temporary files of the former holder are removed. Until that, it may still
//! have renamed one of its own: so both inodes are compared at the end, and everything is repeated if one is not ours.
//! What the former holder had written in the meantime is copied last. A copy shares its blocks where the file system can.

use std::{
    fs::File,
    io,
    os::fd::{AsFd as _, OwnedFd},
    sync::Arc,
};

use super::{
    Durability, Inner,
    bound_lease::BoundLease,
    cache::{CachedUpload, Record, Synced},
    failure::{failed, is_missing},
    files::info_path,
    paths::INFO,
    sys::{self, FileVersion},
    temporary::{create_temporary, put, remove_temporaries},
};
use crate::{
    store::{Result, StoreError, info::UploadInfo},
    upload::UploadId,
};

/// A former holder that goes on needs a new takeover once: its later changes fail.
const MAX_ATTEMPTS: u32 = 8;

/// Data files of several uploads may be in one directory, and their names are not those of the descriptions.
fn data_base(id: &UploadId) -> String {
    let hash = blake3::hash(id.as_str().as_bytes()).to_hex();
    format!("{}{INFO}", &hash[..16])
}

/// A file that takes the place of another one.
struct Replacement {
    old: OwnedFd,
    new: OwnedFd,
    version: FileVersion,
    copied: u64,
}

impl Inner {
    /// Returns whether no former holder can change the upload. Keeps its bytes locked.
    pub(super) fn is_secure(
        &self,
        id: &UploadId,
        entry: &CachedUpload,
        lease: &Arc<BoundLease>,
    ) -> Result<bool> {
        let record = match self.record(id, Some(entry)) {
            Ok((record, _)) if !record.is_moved() => record,
            // There is nothing to protect.
            Ok(_) | Err(StoreError::NotFound(_)) => {
                lease.settle();
                return Ok(true);
            }
            // Nothing can be written. The operation reports it.
            Err(_) => return Ok(true),
        };
        if !self.is_local {
            return Ok(lease.is_settled());
        }
        for _ in 0..MAX_ATTEMPTS {
            let Ok((data, version)) = self.open_versioned(&record.data_path, sys::open_write)
            else {
                return Ok(true);
            };
            if !self.is_local(&data) {
                return Ok(lease.is_settled());
            }
            let is_locked = lease.lock(data);
            if !is_locked.map_err(|error| failed(id, "locking the data", error))? {
                return Ok(false);
            }
            if self.is_at(&record.data_path, &version) {
                lease.settle();
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Locks the file of an upload that was just created.
    pub(super) fn lock_created(
        &self,
        id: &UploadId,
        lease: &BoundLease,
        data: &OwnedFd,
    ) -> Result<()> {
        let lock = || match self.is_local(data) {
            true => lease.lock(data.try_clone()?),
            false => Ok(true),
        };
        match lock().map_err(|error| failed(id, "locking the data", error))? {
            true => Ok(()),
            // Another process has the upload by now.
            false => Err(StoreError::LeaseLost(id.clone())),
        }
    }

    /// Only processes of this machine use the file system, and see each other's locks.
    fn is_local(&self, data: &OwnedFd) -> bool {
        self.is_local && sys::is_local(data.as_fd())
    }

    fn is_at(&self, path: &str, version: &FileVersion) -> bool {
        self.stat(path)
            .is_ok_and(|current| current.is_same_file(version))
    }

    /// Copies all bytes, if any may still be written.
    pub(super) fn take_over(
        &self,
        id: &UploadId,
        entry: &CachedUpload,
        lease: &Arc<BoundLease>,
    ) -> Result<()> {
        for _ in 0..MAX_ATTEMPTS {
            lease.check_own(id)?;
            let (record, _) = match self.record(id, Some(entry)) {
                Ok(found) => found,
                Err(StoreError::NotFound(_)) => {
                    lease.settle();
                    return Ok(());
                }
                Err(error) => return Err(error),
            };
            let taken = self.replace_inodes(id, &record, lease);
            drop(self.take_info(entry));
            {
                let mut info = entry.info.lock();
                info.record = None;
                info.synced = Synced::default();
            }
            if let Err(StoreError::Full(_)) = &taken {
                lease.refuse_writes();
                return Ok(());
            }
            if taken? {
                lease.settle();
                let bytes = self.stat(&record.data_path).map_or(0, |data| data.size);
                tracing::info!(upload = %id, bytes, "took over from a server that did not release the upload");
                return Ok(());
            }
        }
        Err(StoreError::Unavailable(
            "the upload keeps changing while it is taken over".into(),
        ))
    }

    /// False if the former holder has replaced a file meanwhile.
    fn replace_inodes(&self, id: &UploadId, record: &Record, lease: &BoundLease) -> Result<bool> {
        let data = self.replace_data(id, record, lease)?;
        let info = self.replace_info(id, lease)?;
        let path = info_path(id);
        let fail = |error| failed(id, "removing temporary files", error);
        let (dir, name) = self.root.parent(&path).map_err(fail)?;
        remove_temporaries(dir.as_fd(), name).map_err(fail)?;
        let Some(data) = data else {
            return Ok(self.is_at(&path, &info));
        };
        let (dir, _) = self.place_of(&record.data_path).map_err(fail)?;
        remove_temporaries(dir.as_fd(), &data_base(id)).map_err(fail)?;
        if !self.is_at(&path, &info) || !self.is_at(&record.data_path, &data.version) {
            return Ok(false);
        }
        let fail = |error| failed(id, "copying the data", error);
        self.copy_rest(&data).map_err(fail)?;
        if self.is_local(&data.new) {
            // Nobody else has opened it.
            lease.lock(data.new).map_err(fail)?;
        }
        Ok(true)
    }

    /// `None` for a finished upload: no writer has it open.
    fn replace_data(
        &self,
        id: &UploadId,
        record: &Record,
        lease: &BoundLease,
    ) -> Result<Option<Replacement>> {
        let fail = |error| failed(id, "copying the data", error);
        let (old, version) = match self.open_versioned(&record.data_path, sys::open_read) {
            Err(error) if is_missing(&error) || record.is_moved() => return Ok(None),
            opened => opened.map_err(fail)?,
        };
        if !version.is_file || record.info.upload.completion.is_done() {
            return Ok(None);
        }
        let (dir, name) = self.place_of(&record.data_path).map_err(fail)?;
        let created = create_temporary(dir.as_fd(), &data_base(id), self.options.file_mode);
        let (temporary, new) = created.map_err(fail)?;
        let copy = || {
            let source = File::from(old.try_clone()?);
            let target = File::from(new.try_clone()?);
            let copied = sys::copy(source, 0, &target, 0, version.size)?;
            sys::copy_attributes(old.as_fd(), new.as_fd())?;
            self.sync_replacement(&new)?;
            Ok(copied)
        };
        let replaced = copy().map_err(fail).and_then(|copied| {
            lease.check_own(id)?;
            put(id, dir.as_fd(), &temporary, &name)?;
            Ok(copied)
        });
        let copied = replaced.inspect_err(|_| {
            let _ = sys::unlink(dir.as_fd(), &temporary);
        })?;
        let version = sys::stat_open(new.as_fd()).map_err(fail)?;
        Ok(Some(Replacement {
            old,
            new,
            version,
            copied,
        }))
    }

    fn replace_info(&self, id: &UploadId, lease: &BoundLease) -> Result<FileVersion> {
        let fail = |error| failed(id, "replacing the description", error);
        let path = info_path(id);
        let (old, version) = self.open_versioned(&path, sys::open_read).map_err(fail)?;
        let size = usize::try_from(version.size.min(UploadInfo::MAX_LEN)).unwrap_or_default();
        let mut content = vec![0; size];
        let len = sys::read_at(old.as_fd(), &mut content, 0).map_err(fail)?;
        let (dir, name) = self.root.parent(&path).map_err(fail)?;
        let created = create_temporary(dir.as_fd(), name, self.options.file_mode);
        let (temporary, new) = created.map_err(fail)?;
        let write = || {
            sys::write_from(new.as_fd(), &content[..len], 0)?;
            sys::copy_attributes(old.as_fd(), new.as_fd())?;
            self.sync_replacement(&new)
        };
        let written = write().map_err(fail).and_then(|()| {
            lease.check_own(id)?;
            put(id, dir.as_fd(), &temporary, name)
        });
        written.inspect_err(|_| {
            let _ = sys::unlink(dir.as_fd(), &temporary);
        })?;
        sys::stat_open(new.as_fd()).map_err(fail)
    }

    /// What the former holder wrote before its file was replaced, and may have acknowledged.
    fn copy_rest(&self, data: &Replacement) -> io::Result<()> {
        let size = sys::stat_open(data.old.as_fd())?.size;
        if size > data.copied {
            let source = File::from(data.old.try_clone()?);
            let target = File::from(data.new.try_clone()?);
            sys::copy(
                source,
                data.copied,
                &target,
                data.copied,
                size - data.copied,
            )?;
            self.sync_replacement(&data.new)?;
        }
        Ok(())
    }

    fn sync_replacement(&self, file: &OwnedFd) -> io::Result<()> {
        match self.options.durability {
            Durability::None => Ok(()),
            // The file that it replaces may have been synced.
            Durability::Complete | Durability::Every => sys::sync_data(file.as_fd()),
        }
    }

    /// Returns the directory and the name of a file, or of that to which a link leads.
    fn place_of(&self, path: &str) -> io::Result<(Arc<OwnedFd>, String)> {
        let (dir, name) = self.root.parent(path)?;
        match sys::stat(dir.as_fd(), name) {
            Ok(version) if version.is_link => {
                let (dir, name) = self.root.follow(dir.as_fd(), name)?;
                Ok((Arc::new(dir), name))
            }
            _ => Ok((dir, name.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests;
