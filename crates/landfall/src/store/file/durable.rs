//! Syncing: what must be on the disk before something is acknowledged.
//!
//! An upload is on the disk when its bytes, its `.info` and the names of both are: the last means
//! every directory from the files up to the store's own, since any of them may have been made for
//! this upload. Directories are synced in groups: whoever needs a sync while one is running shares
//! the next one.

use std::{
    collections::HashMap,
    io,
    os::fd::AsFd,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use super::{
    Durability, Inner,
    files::{Look, failed, info_place},
    record::Record,
    slots::Slot,
    steps::Steps,
    sys,
};
use crate::{
    store::{Result, StoreError},
    upload::UploadId,
};

/// What hasn't changed for so long is taken for synced: systems write out what they hold after half a
/// minute or so. It saves syncing old uploads when they are first looked at after a start.
const LONG_AGO: Duration = Duration::from_secs(3600);
/// Kept in the `.info` of an upload whose bytes may be lost although they were written.
const LOST: &str = "its bytes could not be put on the disk";

/// The syncs of directories that are running or wanted.
#[derive(Debug, Default)]
pub(super) struct DirSyncs(Mutex<HashMap<String, Arc<Group>>>);

/// The syncs of one directory, numbered from 1.
#[derive(Debug, Default)]
struct Group {
    /// The newest one begun.
    begun: AtomicU64,
    /// Whose turn it is; the outcome of those that ended.
    turn: tokio::sync::Mutex<Ended>,
}

#[derive(Debug, Default)]
struct Ended {
    /// The newest one that succeeded.
    done: u64,
    /// The newest one that failed, and how: the system tells of a failure only once, so all who
    /// shared that sync must hear of it.
    failed: Option<(u64, SyncFailure)>,
}

/// An I/O error that can be reported more than once.
#[derive(Debug, Clone, Copy)]
enum SyncFailure {
    Os(i32),
    Kind(io::ErrorKind),
}

impl From<&io::Error> for SyncFailure {
    fn from(error: &io::Error) -> Self {
        error
            .raw_os_error()
            .map_or_else(|| Self::Kind(error.kind()), Self::Os)
    }
}

impl From<SyncFailure> for io::Error {
    fn from(failure: SyncFailure) -> Self {
        match failure {
            SyncFailure::Os(code) => Self::from_raw_os_error(code),
            SyncFailure::Kind(kind) => kind.into(),
        }
    }
}

impl Group {
    /// Waits until a sync has ended that began after this call, beginning it if need be.
    async fn sync<F>(&self, steps: &Steps, sync: F) -> Result<()>
    where
        F: FnOnce() -> io::Result<()> + Send + 'static,
    {
        let wanted = self.begun.load(Ordering::Acquire) + 1;
        let mut ended = self.turn.lock().await;
        if let Some((failed, failure)) = ended.failed
            && failed >= wanted
        {
            return Err(StoreError::io("syncing a directory", failure.into()));
        }
        if ended.done >= wanted {
            return Ok(());
        }
        let this = self.begun.fetch_add(1, Ordering::AcqRel) + 1;
        // The step reports how it went, and its value stays with us even when it fails.
        match steps.sync(move || Ok(sync())).await? {
            Ok(()) => {
                ended.done = this;
                Ok(())
            }
            Err(error) => {
                ended.failed = Some((this, SyncFailure::from(&error)));
                Err(StoreError::io("syncing a directory", error))
            }
        }
    }
}

impl DirSyncs {
    async fn sync(&self, inner: &Arc<Inner>, place: &str) -> Result<()> {
        let group = {
            let mut groups = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(groups.entry(place.to_owned()).or_default())
        };
        let (this, dir) = (Arc::clone(inner), place.to_owned());
        let done = group
            .sync(&inner.steps, move || {
                if dir.is_empty() {
                    sys::sync_dir(this.root.handle())
                } else {
                    sys::sync_dir(this.root.directory(&dir)?.as_fd())
                }
            })
            .await;
        let mut groups = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // One reference is the map's, one ours: nobody else wants this directory synced. The root's
        // group stays.
        if !place.is_empty() && Arc::strong_count(&group) == 2 {
            groups.remove(place);
        }
        done
    }
}

/// The directories that hold a file: its own, the one above, and so on to the root (`""`).
fn above(place: &str) -> impl Iterator<Item = &str> {
    place
        .rmatch_indices('/')
        .map(|(at, _)| &place[..at])
        .chain([""])
}

impl Inner {
    /// Syncs the directories that lead to both files of an upload.
    pub(super) async fn sync_names(self: &Arc<Self>, id: &UploadId, place: &str) -> Result<()> {
        let mut dirs: Vec<&str> = above(id.as_str()).chain(above(place)).collect();
        // Longest first: a name is worth nothing before the names that lead to it, but the order
        // only matters to the eye, nothing is acknowledged in between.
        dirs.sort_unstable_by(|a, b| b.len().cmp(&a.len()).then(a.cmp(b)));
        dirs.dedup();
        for dir in dirs {
            self.dirs.sync(self, dir).await?;
        }
        Ok(())
    }

    /// Puts an upload on the disk: bytes, description and names.
    pub(super) async fn settle(self: &Arc<Self>, id: &UploadId, place: &str) -> Result<()> {
        let slot = self.slots.get(id);
        let (this, name, data_place) = (Arc::clone(self), id.clone(), place.to_owned());
        let (data, info) = self
            .steps
            .sync(move || {
                let fail = |error| failed(&name, "syncing", error);
                let (file, data) = this.open_data(&name, &data_place)?;
                sys::sync_data(file.as_fd()).map_err(|error| {
                    this.give_up(&name);
                    fail(error)
                })?;
                let place = info_place(&name);
                let (dir, base) = this.root.parent(&place).map_err(fail)?;
                let file = sys::open_read(dir.as_fd(), base).map_err(fail)?;
                let info = sys::stat_open(file.as_fd()).map_err(fail)?;
                sys::sync_data(file.as_fd()).map_err(fail)?;
                Ok((data, info))
            })
            .await?;
        self.sync_names(id, place).await?;
        let synced = &mut slot.known().synced;
        synced.add(data.ino, data.size);
        synced.info = Some(info);
        Ok(())
    }

    /// After a failed sync nobody knows which of the written bytes are still there, and the next
    /// sync would succeed: the upload is marked, so that it is never taken for whole.
    fn give_up(&self, id: &UploadId) {
        let slot = self.slots.get(id);
        let _gate = slot.gate();
        let marked = self.change(id, &slot, |record| {
            record.damaged = Some(LOST.into());
            Ok(())
        });
        if let Err(error) = marked {
            tracing::error!(upload = %id, %error, "can't mark the upload as damaged");
        }
    }

    /// Makes what is about to be reported as durable as was promised for it.
    pub(super) async fn keep_promise(self: &Arc<Self>, id: &UploadId, look: &Look) -> Result<()> {
        let upload = &look.record.upload;
        let now = SystemTime::now();
        let is_old = |stamp: &sys::Stamp| {
            now.duration_since(stamp.changed())
                .is_ok_and(|age| age > LONG_AGO)
        };
        let needed = match self.options.durability {
            Durability::None => false,
            Durability::Complete => {
                upload.is_complete_at(look.offset) && !upload.completion.is_done() && {
                    let synced = self.known_synced(id);
                    synced.bytes_of(look.data.ino) < look.offset || synced.info.is_none()
                }
            }
            Durability::Every => {
                let synced = self.known_synced(id);
                synced.bytes_of(look.data.ino) < look.offset || synced.info != Some(look.info)
            }
        };
        if needed && !(is_old(&look.data) && is_old(&look.info)) {
            self.settle(id, &look.record.place).await?;
        }
        Ok(())
    }

    fn known_synced(&self, id: &UploadId) -> super::slots::Synced {
        self.slots
            .find(id)
            .map(|slot| slot.known().synced)
            .unwrap_or_default()
    }

    /// After a change of the description: syncs its name if that is promised.
    pub(super) async fn keep_change(
        self: &Arc<Self>,
        id: &UploadId,
        slot: &Slot,
        record: &Record,
    ) -> Result<()> {
        let needed = match self.options.durability {
            Durability::None => false,
            // That the parts are joined is part of being complete.
            Durability::Complete => record.upload.is_final() && record.upload.is_concatenated(),
            Durability::Every => true,
        };
        if needed {
            let stamp = self.stat(&info_place(id)).ok();
            self.sync_names(id, &record.place).await?;
            slot.known().synced.info = stamp;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[test]
    fn all_directories_up_to_the_root() {
        let dirs = |place| above(place).collect::<Vec<_>>();
        assert_eq!(dirs("x"), [""]);
        assert_eq!(dirs("a/x"), ["a", ""]);
        assert_eq!(dirs("a/b/c/x"), ["a/b/c", "a/b", "a", ""]);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn those_who_come_during_a_sync_share_the_next() {
        let (steps, group) = (Steps::new(false), Arc::new(Group::default()));
        let runs = Arc::new(AtomicUsize::new(0));
        let mut callers = tokio::task::JoinSet::new();
        for _ in 0..50 {
            let (steps, group, runs) = (steps.clone(), Arc::clone(&group), Arc::clone(&runs));
            callers.spawn(async move {
                let sync = move || {
                    runs.fetch_add(1, Ordering::Relaxed);
                    std::thread::sleep(Duration::from_millis(50));
                    Ok(())
                };
                group.sync(&steps, sync).await.unwrap();
            });
        }
        callers.join_all().await;
        let runs = runs.load(Ordering::Relaxed);
        assert!((1..=3).contains(&runs), "{runs} syncs for 50 callers");
    }

    #[tokio::test]
    async fn a_sync_begun_earlier_is_not_enough() {
        let (steps, group) = (Steps::new(false), Group::default());
        for expected in 1..4 {
            group.sync(&steps, || Ok(())).await.unwrap();
            assert_eq!(group.begun.load(Ordering::Relaxed), expected);
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn all_who_share_a_failed_sync_hear_of_it() {
        let (steps, group) = (Steps::new(false), Arc::new(Group::default()));
        let failures = Arc::new(AtomicUsize::new(0));
        let mut callers = tokio::task::JoinSet::new();
        for _ in 0..20 {
            let (steps, group) = (steps.clone(), Arc::clone(&group));
            let failures = Arc::clone(&failures);
            callers.spawn(async move {
                // The system tells of the failure only once.
                let sync = move || {
                    std::thread::sleep(Duration::from_millis(100));
                    match failures.fetch_add(1, Ordering::Relaxed) {
                        1 => Err(io::ErrorKind::Other.into()),
                        _ => Ok(()),
                    }
                };
                group.sync(&steps, sync).await.is_err()
            });
        }
        let failed = callers
            .join_all()
            .await
            .into_iter()
            .filter(|failed| *failed)
            .count();
        assert!(failed > 1, "only {failed} heard of the failure");
    }
}
