//! Appending to an upload on behalf of one lease.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    sync::Arc,
};

use async_trait::async_trait;
use bytes::Bytes;

use super::{
    Durability, Inner,
    files::failed,
    slots::{Gate, Slot, Turn},
    sys,
};
use crate::{
    lease::Fence,
    store::{Append, Result, StoreError},
    upload::Upload,
};

/// Shorter uploads aren't worth a call to reserve space.
const RESERVE_FROM: u64 = 8 * 1024 * 1024;

/// Whether space is reserved for uploads of this length.
pub(super) fn is_reserved_for(length: u64) -> bool {
    length >= RESERVE_FROM
}

/// An upload's data file open for appending.
#[derive(Debug)]
pub(super) struct FileAppend {
    inner: Arc<Inner>,
    slot: Arc<Slot>,
    upload: Arc<Upload>,
    place: String,
    data: Arc<OwnedFd>,
    /// The data file's inode.
    ino: u64,
    /// The offset at which it was opened.
    opened: u64,
    offset: u64,
    fence: Fence,
    turn: Turn,
    /// Bytes on probation, if there may be any.
    hold: Option<Hold>,
    /// A step went to the pool and its outcome isn't known: this was dropped while waiting for it.
    adrift: bool,
    reserved: bool,
}

#[derive(Debug, Clone, Copy)]
struct Hold {
    from: u64,
    /// Whether the `.info` says so. It is only changed when bytes come.
    noted: bool,
}

/// What opening found.
pub(super) struct Opened {
    pub(super) place: String,
    pub(super) data: OwnedFd,
    pub(super) ino: u64,
    pub(super) offset: u64,
    pub(super) turn: Turn,
}

impl FileAppend {
    pub(super) fn new(
        inner: Arc<Inner>,
        slot: Arc<Slot>,
        upload: Arc<Upload>,
        fence: Fence,
        opened: Opened,
    ) -> Self {
        let reserve =
            inner.reserves && opened.offset == 0 && upload.length.is_some_and(is_reserved_for);
        Self {
            inner,
            slot,
            upload,
            place: opened.place,
            data: Arc::new(opened.data),
            ino: opened.ino,
            opened: opened.offset,
            offset: opened.offset,
            fence,
            turn: opened.turn,
            hold: None,
            adrift: false,
            reserved: !reserve,
        }
    }

    /// Runs a step that changes the upload, unless a newer writer has begun.
    async fn step<T, F>(&mut self, syncs: bool, bytes: usize, step: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Inner, &Slot) -> Result<T> + Send + 'static,
    {
        self.find_way().await?;
        let (inner, slot) = (Arc::clone(&self.inner), Arc::clone(&self.slot));
        let (id, fence, turn) = (self.upload.id.clone(), self.fence, self.turn);
        let step = move |gate: &mut Gate| {
            gate.go_on(&id, fence, turn)?;
            step(&inner, &slot)
        };
        self.adrift = true;
        let done = if syncs {
            self.inner.steps.gated_sync(&self.slot, step).await
        } else {
            self.inner.steps.gated(&self.slot, bytes, step).await
        };
        self.adrift = false;
        done
    }

    /// After a call that was dropped: what it left in the pool either has run or never will, and
    /// the size of the file tells how far it came.
    async fn find_way(&mut self) -> Result<()> {
        if !self.adrift {
            return Ok(());
        }
        self.turn = self.turn.next();
        let (id, fence, turn) = (self.upload.id.clone(), self.fence, self.turn);
        let data = Arc::clone(&self.data);
        let step = move |gate: &mut Gate| {
            gate.resume(&id, fence, turn)?;
            let stamp = sys::stat_open(data.as_fd())
                .map_err(|error| failed(&id, "looking at the data", error))?;
            Ok(stamp.size)
        };
        self.offset = self.inner.steps.gated(&self.slot, 0, step).await?;
        self.adrift = false;
        Ok(())
    }

    /// Notes in the `.info` from where on bytes don't count, or that all do.
    async fn note(&mut self, unverified_from: Option<u64>, cut: Option<u64>) -> Result<()> {
        let syncs = self.inner.options.durability != Durability::None;
        let (id, data) = (self.upload.id.clone(), Arc::clone(&self.data));
        let note = move |inner: &Inner, slot: &Slot| {
            if let Some(from) = cut {
                sys::truncate(data.as_fd(), from)
                    .and_then(|()| {
                        if syncs {
                            sys::sync_data(data.as_fd())
                        } else {
                            Ok(())
                        }
                    })
                    .map_err(|error| failed(&id, "taking back bytes", error))?;
            }
            inner.change(&id, slot, |record| {
                record.unverified_from = unverified_from;
                Ok(())
            })
        };
        let record = self.step(syncs, 0, note).await?;
        self.inner
            .keep_change(&self.upload.id, &self.slot, &record)
            .await
    }

    /// Takes back the bytes from an offset on.
    async fn cut(&mut self, from: u64) -> Result<()> {
        if self.offset <= from {
            return Ok(());
        }
        let (id, data) = (self.upload.id.clone(), Arc::clone(&self.data));
        self.step(false, 0, move |_, _| {
            sys::truncate(data.as_fd(), from)
                .map_err(|error| failed(&id, "taking back bytes", error))
        })
        .await
    }

    /// Reserves space for the whole upload.
    async fn reserve(&mut self) -> Result<()> {
        self.find_way().await?;
        let (id, data, length) = (
            self.upload.id.clone(),
            Arc::clone(&self.data),
            self.upload.length.unwrap_or(0),
        );
        let step = move || {
            sys::reserve(data.as_fd(), length)
                .map_err(|error| failed(&id, "reserving space for the data", error))
        };
        self.inner.steps.long(step).await?;
        self.reserved = true;
        Ok(())
    }

    /// Puts the bytes on the disk. If that fails nobody knows which of them are still there, so all
    /// that weren't there before are given up.
    async fn sync(&mut self) -> Result<()> {
        let known = self.slot.known().synced;
        if known.info.is_none() {
            return self.inner.settle(&self.upload.id, &self.place).await;
        }
        let (ino, safe, offset) = (self.ino, known.bytes_of(self.ino), self.offset);
        if safe >= offset {
            return Ok(());
        }
        let data = Arc::clone(&self.data);
        match self
            .inner
            .steps
            .sync(move || Ok(sys::sync_data(data.as_fd())))
            .await?
        {
            Ok(()) => {
                self.slot.known().synced.add(ino, offset);
                Ok(())
            }
            Err(error) => {
                let data = Arc::clone(&self.data);
                let cut = move |_: &Inner, _: &Slot| Ok(sys::truncate(data.as_fd(), safe));
                if let Err(error) = self.step(true, 0, cut).await?.map(|()| self.offset = safe) {
                    tracing::error!(upload = %self.upload.id, %error, "can't take back lost bytes");
                }
                Err(StoreError::io(
                    format!("syncing upload {}", self.upload.id),
                    error,
                ))
            }
        }
    }
}

#[async_trait]
impl Append for FileAppend {
    fn offset(&self) -> u64 {
        self.offset
    }

    fn readable(&self) -> Option<u64> {
        let offset = self.hold.map_or(self.offset, |hold| hold.from);
        let only_by_commit = match self.inner.options.durability {
            Durability::None => false,
            Durability::Complete => self.upload.is_complete_at(offset),
            Durability::Every => true,
        };
        (!only_by_commit && !self.adrift).then_some(offset)
    }

    async fn write(&mut self, chunks: &mut Vec<Bytes>) -> Result<()> {
        if chunks.iter().all(Bytes::is_empty) {
            chunks.clear();
            return Ok(());
        }
        self.find_way().await?;
        if !self.reserved {
            self.reserve().await?;
        }
        if let Some(Hold { from, noted: false }) = self.hold {
            self.note(Some(from), None).await?;
            self.hold = Some(Hold { from, noted: true });
        }
        let bytes = chunks.iter().map(Bytes::len).sum();
        let mut taken = std::mem::take(chunks);
        let (data, offset) = (Arc::clone(&self.data), self.offset);
        let (emptied, written, outcome): (_, u64, io::Result<()>) = self
            .step(false, bytes, move |_, _| {
                let (written, outcome) = sys::write_at(data.as_fd(), &taken, offset);
                taken.clear();
                Ok((taken, written, outcome))
            })
            .await?;
        *chunks = emptied;
        self.offset += written;
        outcome.map_err(|error| failed(&self.upload.id, "writing the data", error))
    }

    async fn commit(&mut self) -> Result<u64> {
        self.step(false, 0, |_, _| Ok(())).await?;
        if self.inner.options.durability == Durability::Every {
            self.sync().await?;
        }
        Ok(self.hold.map_or(self.offset, |hold| hold.from))
    }

    async fn begin_unverified(&mut self) -> Result<()> {
        self.find_way().await?;
        if self.hold.is_none() {
            self.hold = Some(Hold {
                from: self.offset,
                noted: false,
            });
        }
        Ok(())
    }

    async fn accept_unverified(&mut self) -> Result<()> {
        self.find_way().await?;
        if let Some(Hold { noted: true, .. }) = self.hold {
            self.note(None, None).await?;
        }
        self.hold = None;
        Ok(())
    }

    async fn discard_unverified(&mut self) -> Result<()> {
        self.find_way().await?;
        match self.hold {
            Some(Hold { from, noted: true }) => self.note(None, Some(from)).await?,
            Some(Hold { noted: false, .. }) => {}
            None => self.cut(self.opened).await?,
        }
        self.offset = self.hold.map_or(self.opened, |hold| hold.from);
        self.hold = None;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::{io::Write as _, sync::mpsc, time::Duration};

    use crate::{
        lease::Fence,
        store::{Store as _, file::FileStore},
        upload::{Upload, UploadId},
    };

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_snapshot_is_that_of_the_opened_append() {
        let dir = tempfile::tempdir().unwrap();
        let store = FileStore::new(dir.path()).unwrap();
        let upload = Upload::new(UploadId::random(), Some(9));
        let (upload, mut append) = store.create_append(upload, Fence(1)).await.unwrap();
        append.write(&mut vec!["hel".into()]).await.unwrap();
        drop(append);

        // The write of a dropped request takes its time, and has the gate meanwhile.
        let (slot, data) = (
            store.0.slots.get(&upload.id),
            dir.path().join(upload.id.as_str()),
        );
        let (started, has_started) = mpsc::channel();
        let (finish, may_finish) = mpsc::channel();
        let writer = std::thread::spawn(move || {
            let _gate = slot.gate();
            started.send(()).unwrap();
            may_finish.recv().unwrap();
            let mut file = std::fs::File::options().append(true).open(data).unwrap();
            file.write_all(b"lo").unwrap();
        });
        has_started.recv().unwrap();
        let resuming = tokio::spawn({
            let (store, id) = (store.clone(), upload.id.clone());
            async move { store.resume(&id, Fence(2)).await.unwrap() }
        });
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(!resuming.is_finished(), "it waits for the write");
        finish.send(()).unwrap();
        let (snapshot, append) = resuming.await.unwrap();
        assert_eq!((snapshot.offset, append.offset()), (5, 5));
        writer.join().unwrap();
    }
}
