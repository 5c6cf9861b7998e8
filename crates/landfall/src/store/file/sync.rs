//! Syncing files and directories before a change is acknowledged.
//!
//! An upload is durable when its bytes, its `.info` and the names of both are synced. The names
//! include all directories from the files up to the store's root, because any of them may be new.
//! Syncs of a directory are grouped: callers that arrive during a sync share the next one.

use std::{
    collections::HashMap,
    io,
    os::fd::AsFd,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use parking_lot::Mutex;

use super::{
    Durability, Inner,
    cache::{CachedUpload, Record, Synced},
    failure::failed,
    files::{FileState, info_path},
    io_pool::{IoPool, StepKind},
    sys,
};
use crate::{
    store::{Result, StoreError},
    upload::UploadId,
};

/// Files unchanged for this long are assumed to be synced, because systems write dirty pages after
/// about half a minute. Saves syncing old uploads after a restart.
const ASSUMED_SYNCED_AGE: Duration = Duration::from_secs(3600);
const SYNC_FAILED: &str = "a sync of its bytes failed";

#[derive(Debug, Default)]
pub(super) struct DirectorySyncs(Mutex<HashMap<String, Arc<SyncGroup>>>);

#[derive(Debug, Default)]
struct SyncGroup {
    started: AtomicU64,
    outcome: tokio::sync::Mutex<SyncOutcome>,
}

#[derive(Debug, Default)]
struct SyncOutcome {
    done: u64,
    /// The kernel reports a failure only once, so all callers that shared the sync must get it.
    failed: Option<(u64, Option<i32>)>,
}

impl SyncGroup {
    /// The sync must start after this call.
    async fn sync<F>(&self, io: &IoPool, sync: F) -> Result<()>
    where
        F: FnOnce() -> io::Result<()> + Send + 'static,
    {
        let wanted = self.started.load(Ordering::Acquire) + 1;
        let mut outcome = self.outcome.lock().await;
        if let Some((failed, code)) = outcome.failed
            && failed >= wanted
        {
            let error = code.map_or(io::ErrorKind::Other.into(), io::Error::from_raw_os_error);
            return Err(StoreError::io("syncing a directory", error));
        }
        if outcome.done >= wanted {
            return Ok(());
        }
        let this = self.started.fetch_add(1, Ordering::AcqRel) + 1;
        // The step returns the error as a value, so that it is recorded before it is reported.
        match io.run(StepKind::Sync(0), move || Ok(sync())).await? {
            Ok(()) => {
                outcome.done = this;
                Ok(())
            }
            Err(error) => {
                outcome.failed = Some((this, error.raw_os_error()));
                Err(StoreError::io("syncing a directory", error))
            }
        }
    }
}

impl DirectorySyncs {
    async fn sync(&self, inner: &Arc<Inner>, path: &str) -> Result<()> {
        let group = {
            let mut groups = self.0.lock();
            Arc::clone(groups.entry(path.to_owned()).or_default())
        };
        let (this, dir) = (Arc::clone(inner), path.to_owned());
        let done = group
            .sync(&inner.io, move || {
                if dir.is_empty() {
                    sys::sync_dir(this.root.handle())
                } else {
                    sys::sync_dir(this.root.directory(&dir)?.as_fd())
                }
            })
            .await;
        let mut groups = self.0.lock();
        // Two references, one of the map and one of this call: no one waits for this directory. The
        // root's group stays.
        if !path.is_empty() && Arc::strong_count(&group) == 2 {
            groups.remove(path);
        }
        done
    }
}

/// Starts with the file's own directory and ends with the root (`""`).
fn ancestors(path: &str) -> impl Iterator<Item = &str> {
    path.rmatch_indices('/')
        .map(|(at, _)| &path[..at])
        .chain([""])
}

impl Inner {
    pub(super) async fn sync_names(self: &Arc<Self>, id: &UploadId, data_path: &str) -> Result<()> {
        let dirs = ancestors(id.as_str()).chain(ancestors(data_path));
        let mut dirs: Vec<&str> = dirs.filter(|dir| self.root.owns(dir)).collect();
        // Longest first, so that a name is synced before those of its parents. Correctness does not
        // depend on it: nothing is acknowledged in between.
        dirs.sort_unstable_by(|a, b| b.len().cmp(&a.len()).then(a.cmp(b)));
        dirs.dedup();
        for dir in dirs {
            self.dirs.sync(self, dir).await?;
        }
        Ok(())
    }

    /// `bytes`: about how many of the data are not synced.
    pub(super) async fn sync_upload(
        self: &Arc<Self>,
        id: &UploadId,
        data_path: &str,
        bytes: u64,
    ) -> Result<()> {
        let entry = self.cache.get_or_insert(id);
        let _syncing = entry.syncing.lock().await;
        self.sync_files(id, &entry, data_path, bytes).await
    }

    async fn sync_files(
        self: &Arc<Self>,
        id: &UploadId,
        entry: &CachedUpload,
        data_path: &str,
        bytes: u64,
    ) -> Result<()> {
        let (this, name, path) = (Arc::clone(self), id.clone(), data_path.to_owned());
        let (data, info) = self
            .io
            .run(StepKind::Sync(bytes), move || {
                let fail = |error| failed(&name, "syncing", error);
                let (file, data) = this.open_data(&name, &path)?;
                sys::sync_data(file.as_fd()).map_err(|error| {
                    this.mark_damaged(&name);
                    fail(error)
                })?;
                let path = info_path(&name);
                let opened = this.open_versioned(&path, sys::open_read);
                let (file, info) = opened.map_err(fail)?;
                sys::sync_data(file.as_fd()).map_err(fail)?;
                Ok((data, info))
            })
            .await?;
        self.sync_names(id, data_path).await?;
        let synced = &mut entry.info.lock().synced;
        synced.add(data.ino, data.size);
        synced.info = Some(info);
        Ok(())
    }

    /// Any written byte may be lost, and the next sync would succeed.
    fn mark_damaged(&self, id: &UploadId) {
        let entry = self.cache.get_or_insert(id);
        let _state = entry.state.lock();
        let marked = self.change(id, &entry, |record| {
            record.info.damaged = Some(SYNC_FAILED.into());
            Ok(())
        });
        if let Err(error) = marked {
            tracing::error!(upload = %id, %error, "failed to mark an upload as damaged");
        }
    }

    pub(super) async fn sync_if_required(
        self: &Arc<Self>,
        id: &UploadId,
        state: &FileState,
    ) -> Result<()> {
        if !self.must_sync(id, state) {
            return Ok(());
        }
        let entry = self.cache.get_or_insert(id);
        let running = entry.syncing.try_lock();
        let _syncing = match running {
            Ok(syncing) => syncing,
            Err(_) => {
                let syncing = entry.syncing.lock().await;
                // The sync that ran may have failed, which the next one would not show.
                let (this, name) = (Arc::clone(self), id.clone());
                let inspect = move || this.inspect(&name);
                let now = self.io.run(StepKind::Short(0), inspect).await?;
                if now.offset >= state.offset && !self.must_sync(id, state) {
                    return Ok(());
                }
                syncing
            }
        };
        let data_path = &state.record.data_path;
        self.sync_files(id, &entry, data_path, state.offset).await
    }

    pub(super) fn must_sync(&self, id: &UploadId, state: &FileState) -> bool {
        let upload = &state.record.info.upload;
        let is_old = |version: &sys::FileVersion| {
            SystemTime::now()
                .duration_since(version.changed())
                .is_ok_and(|age| age > ASSUMED_SYNCED_AGE)
        };
        let needed = match self.options.durability {
            Durability::None => false,
            Durability::Complete => {
                upload.is_complete_at(state.offset) && !upload.completion.is_done() && {
                    let synced = self.synced_state(id);
                    synced.bytes_of(state.data.ino) < state.offset || synced.info.is_none()
                }
            }
            Durability::Every => {
                let synced = self.synced_state(id);
                synced.bytes_of(state.data.ino) < state.offset || synced.info != Some(state.info)
            }
        };
        needed && !state.record.is_moved() && !(is_old(&state.data) && is_old(&state.info))
    }

    fn synced_state(&self, id: &UploadId) -> Synced {
        self.cache
            .get(id)
            .map(|entry| entry.info.lock().synced)
            .unwrap_or_default()
    }

    pub(super) async fn sync_info_if_required(
        self: &Arc<Self>,
        id: &UploadId,
        entry: &CachedUpload,
        record: &Record,
    ) -> Result<()> {
        let needed = match self.options.durability {
            Durability::None => false,
            // Concatenation completes a final upload.
            Durability::Complete => {
                record.info.upload.is_final() && record.info.upload.is_concatenated()
            }
            Durability::Every => true,
        };
        if needed {
            let version = self.stat(&info_path(id)).ok();
            self.sync_names(id, &record.data_path).await?;
            entry.info.lock().synced.info = version;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[test]
    fn ancestors_end_at_the_root() {
        let dirs = |path| ancestors(path).collect::<Vec<_>>();
        assert_eq!(dirs("x"), [""]);
        assert_eq!(dirs("a/x"), ["a", ""]);
        assert_eq!(dirs("a/b/c/x"), ["a/b/c", "a/b", "a", ""]);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn callers_during_a_sync_share_the_next() {
        let (io, group) = (IoPool::new(false), Arc::new(SyncGroup::default()));
        let runs = Arc::new(AtomicUsize::new(0));
        let mut callers = tokio::task::JoinSet::new();
        for _ in 0..50 {
            let (io, group, runs) = (io.clone(), Arc::clone(&group), Arc::clone(&runs));
            callers.spawn(async move {
                let sync = move || {
                    runs.fetch_add(1, Ordering::Relaxed);
                    std::thread::sleep(Duration::from_millis(50));
                    Ok(())
                };
                group.sync(&io, sync).await.unwrap();
            });
        }
        callers.join_all().await;
        let runs = runs.load(Ordering::Relaxed);
        assert!((1..=3).contains(&runs), "{runs} syncs for 50 callers");
    }

    #[tokio::test]
    async fn a_sync_started_earlier_is_not_reused() {
        let (io, group) = (IoPool::new(false), SyncGroup::default());
        for expected in 1..4 {
            group.sync(&io, || Ok(())).await.unwrap();
            assert_eq!(group.started.load(Ordering::Relaxed), expected);
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn all_callers_of_a_failed_sync_get_the_error() {
        let (io, group) = (IoPool::new(false), Arc::new(SyncGroup::default()));
        let failures = Arc::new(AtomicUsize::new(0));
        let mut callers = tokio::task::JoinSet::new();
        for _ in 0..20 {
            let (io, group) = (io.clone(), Arc::clone(&group));
            let failures = Arc::clone(&failures);
            callers.spawn(async move {
                // The kernel reports the failure only once.
                let sync = move || {
                    std::thread::sleep(Duration::from_millis(100));
                    match failures.fetch_add(1, Ordering::Relaxed) {
                        1 => Err(io::ErrorKind::Other.into()),
                        _ => Ok(()),
                    }
                };
                group.sync(&io, sync).await.is_err()
            });
        }
        let failed = callers
            .join_all()
            .await
            .into_iter()
            .filter(|failed| *failed)
            .count();
        assert!(failed > 1, "only {failed} got the error");
    }
}
