//! Handing a finished file over to the application.

use std::{
    io,
    os::fd::AsFd,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    Durability, FileStore, Inner,
    slots::{self, Gate, Slot},
    sys,
};
use crate::{
    store::{Result, StoreError},
    upload::{Snapshot, UploadId},
};

impl FileStore {
    /// Moves the file of a finished upload to `to` and removes the upload: no description is left.
    ///
    /// The file gets its new name before it loses the old one, so that a crash loses neither; call
    /// it again then. `to` must not exist, its directory must, and both must be on the file system
    /// of the store. With [`Durability::Complete`] or [`Durability::Every`] the new name is synced
    /// before the old one goes.
    ///
    /// Call it when completion has been told, for example on an
    /// [`EventKind::Completed`](crate::event::EventKind::Completed). A client that repeats its last
    /// request afterwards is told that the upload does not exist.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] if there is no such upload; [`StoreError::Other`] if it is unfinished,
    /// if `to` exists, or if `to` is on another file system (copy the file then, and remove the
    /// upload). The upload is still there after an error.
    ///
    /// # Cancel safety
    /// What has been started on a thread is finished although the call is dropped.
    pub async fn take(&self, id: &UploadId, to: impl AsRef<Path>) -> Result<Snapshot> {
        let inner = Arc::clone(&self.0);
        let slot = inner.slots.get(id);
        let (this, name, to) = (Arc::clone(&inner), id.clone(), to.as_ref().to_owned());
        let held = Arc::clone(&slot);
        let step = move |gate: &mut Gate| this.take(&name, &held, gate, &to);
        let (snapshot, place) = inner.steps.gated_long(&slot, step).await?;
        if inner.options.durability == Durability::Every {
            inner.sync_names(id, &place).await?;
        }
        Ok(snapshot)
    }
}

impl Inner {
    fn take(
        &self,
        id: &UploadId,
        slot: &Slot,
        gate: &mut Gate,
        to: &Path,
    ) -> Result<(Snapshot, String)> {
        let look = self.look(id)?;
        let snapshot = look.snapshot();
        if !snapshot.is_complete() {
            return Err(self.not_taken(id, to, "it is unfinished".into()));
        }
        let place = look.record.place.clone();
        let named = self.name_anew(&place, to);
        named.map_err(|error| match error.kind() {
            io::ErrorKind::CrossesDevices => self.not_taken(
                id,
                to,
                "that is on another file system; copy the file, then remove the upload".into(),
            ),
            _ => self.not_taken(id, to, error.to_string()),
        })?;
        // Whoever still has it open must not write into a file that is the application's.
        gate.shut();
        self.remove(id, &place)?;
        *slot.known() = slots::Known::default();
        Ok((snapshot, place))
    }

    /// Gives a data file a second name outside of the store.
    fn name_anew(&self, place: &str, to: &Path) -> io::Result<()> {
        let (dir, name) = self.root.parent(place)?;
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
        let above = match to.parent() {
            Some(above) if !above.as_os_str().is_empty() => above.to_owned(),
            _ => PathBuf::from("."),
        };
        sys::sync_dir(std::fs::File::open(above)?.as_fd())
    }

    fn not_taken(&self, id: &UploadId, to: &Path, why: String) -> StoreError {
        StoreError::Other {
            action: format!("moving upload {id} to {}", to.display()),
            source: why.into(),
        }
    }
}
