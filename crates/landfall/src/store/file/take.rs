//! Moves the file of a completed upload to the application, and keeps a description for clients that ask later.
//!
//! The order survives a crash: link the new name, record it in the description, unlink the old name. Writers are
//! revoked in the same step, so none can write into the application's file. An existing file at the new path is never
//! replaced.

use std::{
    io,
    os::fd::AsFd,
    path::{Path, PathBuf},
    sync::Arc,
};

use async_trait::async_trait;
use bytes::Bytes;

use super::{
    Durability, FileStore, Inner,
    cache::{CachedInfo, CachedUpload, WriterState},
    files::info_path,
    io_pool::StepKind,
    sys,
};
use crate::{
    store::{Append, Result, StoreError},
    upload::{Completion, Snapshot, UploadId},
};

impl FileStore {
    /// Moves the file of a completed upload to `to`, and keeps the description.
    ///
    /// A client that missed the response to its last request still learns that the upload is complete, instead
    /// of sending the file again. The [sweeper](crate::Sweeper) removes the description when unfinished uploads
    /// expire, or after a week. A download is 410, and [`Handler::get`](crate::Handler::get) finds no upload. The
    /// partial uploads of a [final](crate::upload::UploadKind::Final) one lose their bytes with it.
    ///
    /// Call it after completion, for example on an
    /// [`EventKind::Completed`](crate::event::EventKind::Completed). The file gets the new name before the old
    /// one is removed, so a crash loses neither. Repeat the call then, with the same path: `to` must depend on
    /// nothing but the upload. A call for a file that was moved to `to` before does nothing.
    ///
    /// `to` must not exist, its directory must, and both must be on the file system of the store. With
    /// [`Durability::Complete`] or [`Durability::Every`] the new name is synced before the old one is removed.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] if there is no such upload; [`StoreError::Other`] if it is
    /// incomplete, if it was moved elsewhere, if `to` exists, or if `to` is on another file system (copy the
    /// file then, and remove the upload). The upload is unchanged after an error.
    ///
    /// # Cancel safety
    /// A step that reached the blocking pool runs to its end.
    pub async fn take(&self, id: &UploadId, to: impl AsRef<Path>) -> Result<Snapshot> {
        let to = to.as_ref();
        let fail = |error| StoreError::io(format!("moving upload {id}"), error);
        let to = std::path::absolute(to).map_err(fail)?;
        let snapshot = self.take_one(id, &to, true).await?;
        for part in snapshot.upload.parts() {
            match self.take_one(part, &to, false).await {
                // Removed, or used by another final upload before.
                Ok(_) | Err(StoreError::NotFound(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(snapshot)
    }

    /// Removes the data; with `is_whole`, links it to `to` before.
    async fn take_one(&self, id: &UploadId, to: &Path, is_whole: bool) -> Result<Snapshot> {
        let inner = Arc::clone(&self.0);
        let entry = inner.cache.get_or_insert(id);
        let (this, name, to) = (Arc::clone(&inner), id.clone(), to.to_owned());
        let shared = Arc::clone(&entry);
        let step = move |state: &mut WriterState| this.take(&name, &shared, state, &to, is_whole);
        let (snapshot, data_path) = inner.io.run_locked(&entry, StepKind::Long, step).await?;
        if inner.options.durability == Durability::Every {
            inner.sync_names(id, &data_path).await?;
        }
        Ok(snapshot)
    }
}

impl Inner {
    fn take(
        &self,
        id: &UploadId,
        entry: &CachedUpload,
        state: &mut WriterState,
        to: &Path,
        is_whole: bool,
    ) -> Result<(Snapshot, Arc<str>)> {
        let file_state = self.inspect(id)?;
        let (snapshot, record) = (file_state.snapshot(), &file_state.record);
        let data_path = record.data_path.clone();
        if !snapshot.is_complete() && !is_whole {
            // Another upload has got the id of a part that was removed.
            return Err(StoreError::NotFound(id.clone()));
        }
        if !snapshot.is_complete() {
            return Err(self.take_error(id, to, "it is incomplete".into()));
        }
        match &record.info.upload.moved_to {
            // The description contains a text.
            Some(before) if is_whole && before.to_string_lossy() != to.to_string_lossy() => {
                let reason = format!("it was moved to {}", before.display());
                return Err(self.take_error(id, to, reason));
            }
            Some(_) => {
                if is_whole {
                    self.unlink_moved(id, &data_path, to)?;
                }
                return Ok((snapshot, data_path));
            }
            None => {}
        }
        let unlink = || {
            let fail = |error| StoreError::io(format!("removing the data of upload {id}"), error);
            self.unlink(&data_path).map_err(fail)
        };
        if is_whole {
            self.link_outside(&data_path, to)
                .map_err(|error| match error.kind() {
                    io::ErrorKind::CrossesDevices => self.take_error(
                        id,
                        to,
                        "it is on another file system; copy the file, then remove the upload"
                            .into(),
                    ),
                    _ => self.take_error(id, to, error.to_string()),
                })?;
        }
        // A current writer must not write into the application's file.
        state.revoke_writers();
        if !is_whole {
            // First, or else a crash could leave data that no description refers to.
            unlink()?;
        }
        self.change(id, entry, |record| {
            let upload = Arc::make_mut(&mut record.info.upload);
            upload.moved_to = Some(Box::new(to.to_owned()));
            if !upload.completion.is_done() {
                upload.completion = Completion::Done(None);
            }
            Ok(())
        })?;
        self.sync_description(id)
            .map_err(|error| self.take_error(id, to, error.to_string()))?;
        if is_whole {
            unlink()?;
        }
        *entry.info.lock() = CachedInfo::default();
        Ok((snapshot, data_path))
    }

    /// An earlier call may have been interrupted before it removed the data. Any other file at this path
    /// belongs to another upload.
    fn unlink_moved(&self, id: &UploadId, data_path: &str, to: &Path) -> Result<()> {
        let fail = |error| StoreError::io(format!("removing the data of upload {id}"), error);
        let (dir, name) = self.root.parent(data_path).map_err(fail)?;
        if sys::is_same_file(dir.as_fd(), name, to).unwrap_or(false) {
            self.unlink(data_path).map_err(fail)?;
        }
        Ok(())
    }

    /// Otherwise a power loss could restore the old description without its data.
    fn sync_description(&self, id: &UploadId) -> io::Result<()> {
        if self.options.durability == Durability::None {
            return Ok(());
        }
        let path = info_path(id);
        let (dir, _) = self.root.parent(&path)?;
        sys::sync_dir(dir.as_fd())
    }

    /// An upload may get the id of one whose file was moved away, unless its completion is to be emitted again.
    pub(super) fn remove_moved(&self, id: &UploadId) -> Result<bool> {
        match self.record(id, None) {
            Ok((record, _)) if record.is_moved() && !record.info.upload.unacknowledged => {
                self.remove(id, &info_path(id))
            }
            _ => Ok(false),
        }
    }

    fn link_outside(&self, data_path: &str, to: &Path) -> io::Result<()> {
        let (dir, name) = self.root.parent(data_path)?;
        match sys::link_out(dir.as_fd(), name, to) {
            // An earlier call was interrupted after this step.
            Err(error)
                if error.kind() == io::ErrorKind::AlreadyExists
                    && sys::is_same_file(dir.as_fd(), name, to)? => {}
            linked => linked?,
        }
        if self.options.durability == Durability::None {
            return Ok(());
        }
        sys::sync_data(sys::open_read(dir.as_fd(), name)?.as_fd())?;
        let dir_path = match to.parent() {
            Some(above) if !above.as_os_str().is_empty() => above.to_owned(),
            _ => PathBuf::from("."),
        };
        sys::sync_dir(std::fs::File::open(dir_path)?.as_fd())
    }

    fn take_error(&self, id: &UploadId, to: &Path, reason: String) -> StoreError {
        StoreError::other(format!("moving upload {id} to {}", to.display()), reason)
    }
}

/// An upload whose file was moved away: it is complete and takes no bytes.
#[derive(Debug)]
pub(super) struct MovedAppend {
    pub(super) id: UploadId,
    pub(super) offset: u64,
}

#[async_trait]
impl Append for MovedAppend {
    fn offset(&self) -> u64 {
        self.offset
    }

    async fn write(&mut self, chunks: &mut Vec<Bytes>) -> Result<()> {
        if chunks.iter().all(Bytes::is_empty) {
            return Ok(());
        }
        chunks.clear();
        Err(StoreError::LeaseLost(self.id.clone()))
    }

    async fn commit(&mut self) -> Result<u64> {
        Ok(self.offset)
    }

    async fn begin_unverified(&mut self) -> Result<()> {
        Ok(())
    }

    async fn accept_unverified(&mut self) -> Result<()> {
        Ok(())
    }

    async fn discard_unverified(&mut self) -> Result<()> {
        Ok(())
    }
}
