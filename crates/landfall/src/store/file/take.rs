use std::{
    io,
    os::fd::AsFd,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    Durability, FileStore, Inner,
    cache::{CachedInfo, CachedUpload, WriterState},
    io_pool::StepKind,
    sys,
};
use crate::{
    store::{Result, StoreError},
    upload::{Snapshot, UploadId},
};

impl FileStore {
    /// Moves the file of a completed upload to `to` and removes the upload, description included.
    ///
    /// The file gets the new name before the old one is removed, so a crash loses neither; repeat
    /// the call then. `to` must not exist, its directory must, and both must be on the file system
    /// of the store. With [`Durability::Complete`] or [`Durability::Every`] the new name is synced
    /// before the old one is removed.
    ///
    /// Call it after completion, for example on an
    /// [`EventKind::Completed`](crate::event::EventKind::Completed). A client that repeats its last
    /// request afterwards gets 404.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] if there is no such upload; [`StoreError::Other`] if it is
    /// incomplete, if `to` exists, or if `to` is on another file system (copy the file then, and
    /// remove the upload). The upload is unchanged after an error.
    ///
    /// # Cancel safety
    /// A step that reached the blocking pool runs to its end.
    pub async fn take(&self, id: &UploadId, to: impl AsRef<Path>) -> Result<Snapshot> {
        let inner = Arc::clone(&self.0);
        let entry = inner.cache.get_or_insert(id);
        let (this, name, to) = (Arc::clone(&inner), id.clone(), to.as_ref().to_owned());
        let shared = Arc::clone(&entry);
        let step = move |state: &mut WriterState| this.take(&name, &shared, state, &to);
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
    ) -> Result<(Snapshot, String)> {
        let file_state = self.inspect(id)?;
        let snapshot = file_state.snapshot();
        if !snapshot.is_complete() {
            return Err(self.take_error(id, to, "it is incomplete".into()));
        }
        let data_path = file_state.record.data_path.clone();
        let linked = self.link_outside(&data_path, to);
        linked.map_err(|error| match error.kind() {
            io::ErrorKind::CrossesDevices => self.take_error(
                id,
                to,
                "it is on another file system; copy the file, then remove the upload".into(),
            ),
            _ => self.take_error(id, to, error.to_string()),
        })?;
        // A current writer must not write into the application's file.
        state.revoke_writers();
        self.remove(id, &data_path)?;
        *entry.info.lock() = CachedInfo::default();
        Ok((snapshot, data_path))
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
