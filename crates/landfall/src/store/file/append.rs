//! Writes to the data file of one upload: positioned writes, ranges of unverified bytes, and syncs.
//!
//! Every write and truncation checks, under the lock of the upload, that no newer writer has opened it. The mark of
//! unverified bytes is stored before the first of them. After a dropped call the written bytes are unknown, and further
//! changes fail. After a failed sync the data is truncated to the last synced offset.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    sync::Arc,
};

use async_trait::async_trait;
use bytes::Bytes;

use super::{
    Durability, Inner,
    cache::{CachedUpload, WriterEpoch, WriterState},
    failure::failed,
    guard::OwnedData,
    io_pool::StepKind,
    sys,
};
use crate::{
    lease::Fence,
    store::{Append, Result, StoreError},
    upload::{Upload, UploadId},
};

/// Space is not reserved for shorter uploads: the system call costs more than it gains.
const MIN_RESERVED_LENGTH: u64 = 8 * 1024 * 1024;

pub(super) fn is_reserved_for(length: u64) -> bool {
    length >= MIN_RESERVED_LENGTH
}

#[derive(Debug)]
pub(super) struct FileAppend {
    inner: Arc<Inner>,
    entry: Arc<CachedUpload>,
    upload: Arc<Upload>,
    opened: OpenedFile,
    offset: u64,
    fence: Fence,
    /// Set between `begin_unverified` and its end.
    unverified: Option<UnverifiedRange>,
    /// Set while a step runs: still set afterwards if the call was dropped. The written bytes are unknown then; only
    /// [`Store::resume`](crate::store::Store::resume) finds out.
    is_in_doubt: bool,
    reserved: bool,
}

#[derive(Debug, Clone, Copy)]
struct UnverifiedRange {
    from: u64,
    /// The mark is stored in the `.info` before the first byte is written.
    stored: bool,
}

#[derive(Debug)]
pub(super) struct OpenedFile {
    pub(super) data_path: Arc<str>,
    pub(super) data: Arc<OwnedFd>,
    pub(super) ino: u64,
    pub(super) offset: u64,
    pub(super) epoch: WriterEpoch,
    /// Under a lease of a service, which ends without this process.
    pub(super) owned: Option<Arc<OwnedData>>,
}

/// After a write and before an acknowledgement: see [`guard`](super::guard).
fn check_owned(inner: &Inner, id: &UploadId, owned: Option<&OwnedData>) -> Result<()> {
    owned.map_or(Ok(()), |owned| owned.check(inner, id))
}

impl FileAppend {
    pub(super) fn new(
        inner: Arc<Inner>,
        entry: Arc<CachedUpload>,
        upload: Arc<Upload>,
        fence: Fence,
        opened: OpenedFile,
    ) -> Self {
        let reserve =
            inner.reserves && opened.offset == 0 && upload.length.is_some_and(is_reserved_for);
        Self {
            inner,
            entry,
            upload,
            offset: opened.offset,
            opened,
            fence,
            unverified: None,
            is_in_doubt: false,
            reserved: !reserve,
        }
    }

    fn verified_offset(&self) -> u64 {
        self.unverified.map_or(self.offset, |range| range.from)
    }

    fn check_certain(&self) -> Result<()> {
        if self.is_in_doubt {
            let action = format!("writing upload {}", self.upload.id);
            return Err(StoreError::other(action, "an earlier call was dropped"));
        }
        Ok(())
    }

    async fn run_step<T, F>(&mut self, kind: StepKind, step: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Inner, &CachedUpload) -> Result<T> + Send + 'static,
    {
        self.check_certain()?;
        let (inner, entry) = (Arc::clone(&self.inner), Arc::clone(&self.entry));
        let (id, fence, epoch) = (self.upload.id.clone(), self.fence, self.opened.epoch);
        let step = move |state: &mut WriterState| {
            state.check_epoch(&id, fence, epoch)?;
            step(&inner, &entry)
        };
        self.is_in_doubt = true;
        let done = self.inner.io.run_locked(&self.entry, kind, step).await;
        self.is_in_doubt = false;
        done
    }

    /// Runs a step in the calling task, if it need not wait.
    fn run_now<T>(
        &mut self,
        bytes: usize,
        step: impl FnOnce(&mut Self) -> Result<T>,
    ) -> Option<Result<T>> {
        if self.is_in_doubt {
            return None;
        }
        let (inner, entry) = (Arc::clone(&self.inner), Arc::clone(&self.entry));
        inner.io.run_now(&entry, bytes, |state| {
            state.check_epoch(&self.upload.id, self.fence, self.opened.epoch)?;
            step(self)
        })
    }

    /// Truncates the data to `truncate_to` before. Without a mark to store, removes it.
    async fn store_unverified_mark(
        &mut self,
        unverified_from: Option<u64>,
        truncate_to: Option<u64>,
    ) -> Result<()> {
        let kind = StepKind::short_or_sync(self.inner.options.durability != Durability::None);
        let (id, data) = (self.upload.id.clone(), Arc::clone(&self.opened.data));
        let owned = self.opened.owned.clone();
        let store = move |inner: &Inner, entry: &CachedUpload| {
            check_owned(inner, &id, owned.as_deref())?;
            if let Some(from) = truncate_to {
                inner.truncate(&id, &data, from)?;
            }
            inner.change(&id, entry, |record| {
                record.info.unverified_from = unverified_from;
                Ok(())
            })
        };
        let record = self.run_step(kind, store).await?;
        self.inner
            .sync_info_if_required(&self.upload.id, &self.entry, &record)
            .await
    }

    async fn truncate(&mut self, from: u64) -> Result<()> {
        if self.offset <= from {
            return Ok(());
        }
        let (id, data) = (self.upload.id.clone(), Arc::clone(&self.opened.data));
        self.run_step(StepKind::Short(0), move |_, _| {
            sys::truncate(data.as_fd(), from)
                .map_err(|error| failed(&id, "truncating the data", error))
        })
        .await
    }

    async fn reserve(&mut self) -> Result<()> {
        let (id, data, length) = (
            self.upload.id.clone(),
            Arc::clone(&self.opened.data),
            self.upload.length.unwrap_or(0),
        );
        let step = move || {
            sys::reserve(data.as_fd(), length)
                .map_err(|error| failed(&id, "reserving space for the data", error))
        };
        self.inner.io.run(StepKind::Long, step).await?;
        self.reserved = true;
        Ok(())
    }

    /// If a sync fails, the kernel may have dropped any of the unsynced bytes and the next sync would
    /// succeed, so the data is truncated to the last synced offset.
    async fn sync(&mut self) -> Result<()> {
        let known = self.entry.info.lock().synced;
        if known.info.is_none() {
            return self
                .inner
                .sync_upload(&self.upload.id, &self.opened.data_path, self.offset)
                .await;
        }
        let (ino, safe, offset) = (
            self.opened.ino,
            known.bytes_of(self.opened.ino),
            self.offset,
        );
        if safe >= offset {
            return Ok(());
        }
        let data = Arc::clone(&self.opened.data);
        let sync = move || Ok(sys::sync_data(data.as_fd()));
        match self
            .inner
            .io
            .run(StepKind::Sync(offset - safe), sync)
            .await?
        {
            Ok(()) => {
                self.entry.info.lock().synced.add(ino, offset);
                Ok(())
            }
            Err(error) => {
                let data = Arc::clone(&self.opened.data);
                let truncate =
                    move |_: &Inner, _: &CachedUpload| Ok(sys::truncate(data.as_fd(), safe));
                if let Err(error) = self
                    .run_step(StepKind::Waiting, truncate)
                    .await?
                    .map(|()| self.offset = safe)
                {
                    tracing::error!(upload = %self.upload.id, %error, "failed to truncate lost bytes");
                }
                Err(StoreError::io(
                    format!("syncing upload {}", self.upload.id),
                    error,
                ))
            }
        }
    }
}

impl Drop for FileAppend {
    fn drop(&mut self) {
        // Otherwise the upload is about to be finished.
        if !self.upload.is_complete_at(self.offset) {
            drop(self.inner.take_info(&self.entry));
        }
    }
}

#[async_trait]
impl Append for FileAppend {
    fn offset(&self) -> u64 {
        self.offset
    }

    fn readable(&self) -> Option<u64> {
        let offset = self.verified_offset();
        let only_by_commit = match self.inner.options.durability {
            Durability::None => false,
            Durability::Complete => self.upload.is_complete_at(offset),
            Durability::Every => true,
        };
        (!only_by_commit && !self.is_in_doubt).then_some(offset)
    }

    async fn write(&mut self, chunks: &mut Vec<Bytes>) -> Result<()> {
        if chunks.iter().all(Bytes::is_empty) {
            chunks.clear();
            return Ok(());
        }
        if !self.reserved {
            self.reserve().await?;
        }
        if let Some(range) = self.unverified.filter(|range| !range.stored) {
            self.store_unverified_mark(Some(range.from), None).await?;
            let stored = true;
            self.unverified = Some(UnverifiedRange { stored, ..range });
        }
        let bytes = chunks.iter().map(Bytes::len).sum();
        let mut taken = std::mem::take(chunks);
        let (data, offset) = (Arc::clone(&self.opened.data), self.offset);
        let (id, owned) = (self.upload.id.clone(), self.opened.owned.clone());
        let (emptied, written, outcome): (_, u64, io::Result<()>) = self
            .run_step(StepKind::Short(bytes), move |inner, _| {
                let (written, outcome) = sys::write_at(data.as_fd(), &taken, offset);
                taken.clear();
                check_owned(inner, &id, owned.as_deref())?;
                Ok((taken, written, outcome))
            })
            .await?;
        *chunks = emptied;
        self.offset += written;
        outcome.map_err(|error| failed(&self.upload.id, "writing the data", error))
    }

    async fn commit(&mut self) -> Result<u64> {
        let (id, owned) = (self.upload.id.clone(), self.opened.owned.clone());
        let check =
            move |inner: &Inner, _: &CachedUpload| check_owned(inner, &id, owned.as_deref());
        self.run_step(StepKind::Short(0), check).await?;
        if self.inner.options.durability == Durability::Every {
            self.sync().await?;
        }
        Ok(self.verified_offset())
    }

    fn write_now(&mut self, chunks: &mut Vec<Bytes>) -> Option<Result<()>> {
        if !self.reserved || self.unverified.is_some_and(|range| !range.stored) {
            return None;
        }
        let bytes = chunks.iter().map(Bytes::len).sum();
        if bytes == 0 {
            return None;
        }
        self.run_now(bytes, |append| {
            let data = append.opened.data.as_fd();
            let (written, outcome) = sys::write_at(data, chunks, append.offset);
            chunks.clear();
            check_owned(
                &append.inner,
                &append.upload.id,
                append.opened.owned.as_deref(),
            )?;
            append.offset += written;
            outcome.map_err(|error| failed(&append.upload.id, "writing the data", error))
        })
    }

    fn commit_now(&mut self) -> Option<Result<u64>> {
        if self.inner.options.durability == Durability::Every {
            return None;
        }
        if self.opened.owned.is_some() {
            return self.run_now(0, |append| {
                check_owned(
                    &append.inner,
                    &append.upload.id,
                    append.opened.owned.as_deref(),
                )?;
                Ok(append.verified_offset())
            });
        }
        // It makes no system call that could be slow.
        let mut state = self.entry.state.try_lock()?;
        if self.is_in_doubt {
            return None;
        }
        let current = state.check_epoch(&self.upload.id, self.fence, self.opened.epoch);
        Some(current.map(|()| self.verified_offset()))
    }

    async fn begin_unverified(&mut self) -> Result<()> {
        if self.unverified.is_none() {
            self.unverified = Some(UnverifiedRange {
                from: self.offset,
                stored: false,
            });
        }
        Ok(())
    }

    async fn accept_unverified(&mut self) -> Result<()> {
        self.check_certain()?;
        if self.unverified.is_some_and(|range| range.stored) {
            self.store_unverified_mark(None, None).await?;
        }
        self.unverified = None;
        Ok(())
    }

    async fn discard_unverified(&mut self) -> Result<()> {
        self.check_certain()?;
        match self.unverified {
            Some(UnverifiedRange { from, stored: true }) => {
                self.store_unverified_mark(None, Some(from)).await?;
            }
            Some(UnverifiedRange { stored: false, .. }) => {}
            None => self.truncate(self.opened.offset).await?,
        }
        self.offset = self
            .unverified
            .map_or(self.opened.offset, |range| range.from);
        self.unverified = None;
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
    async fn resume_returns_the_snapshot_of_the_opened_append() {
        let dir = tempfile::tempdir().unwrap();
        let store = FileStore::new(dir.path()).unwrap();
        let upload = Upload::new(UploadId::random(), Some(9));
        let (upload, mut append) = store.create_append(upload, Fence(1)).await.unwrap();
        append.write(&mut vec!["hel".into()]).await.unwrap();
        drop(append);

        // The write of a cancelled request is slow and holds the lock.
        let (entry, data) = (
            store.0.cache.get_or_insert(&upload.id),
            dir.path().join(upload.id.as_str()),
        );
        let (started, has_started) = mpsc::channel();
        let (finish, may_finish) = mpsc::channel();
        let writer = std::thread::spawn(move || {
            let _state = entry.state.lock();
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
        assert!(!resuming.is_finished(), "resume must wait for the write");
        finish.send(()).unwrap();
        let (snapshot, append) = resuming.await.unwrap();
        assert_eq!((snapshot.offset, append.offset()), (5, 5));
        writer.join().unwrap();
    }
}
