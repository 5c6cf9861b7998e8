//! Chooses store and leases by the settings, and reports the state of directory and bucket as conditions.
//!
//! Leases in Redis, PostgreSQL or a bucket replace the store's own. A directory that cannot be written ends the start.
//! Later checks only set conditions: requests and the sweeper continue.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use anyhow::Context as _;
use landfall::{
    Composer,
    lease::{Intervals, MemoryLocker},
    store::file::{DirectoryError, FileOptions, FileStore},
};
use parking_lot::Mutex;
use rustix::fs::{Access, StatVfs, StatVfsMountFlags};
use tokio::sync::Mutex as AsyncMutex;

use super::bucket::Bucket;
use super::cloud::CloudStorage;
use super::{leases::SharedLeases, state::SharedDatabase};
use crate::{
    condition::{ConditionKind, Conditions},
    settings::{self, LeaseKind, Settings},
};

const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);
const MIN_FREE_PERCENT: u128 = 5;

/// The location and capacity of the storage in bytes, as the dashboard shows them.
#[derive(Clone, Debug, serde::Serialize)]
pub(crate) struct StorageCapacity {
    pub(super) location: String,
    pub(super) capacity: Option<u64>,
    pub(super) free: Option<u64>,
}

#[derive(Debug)]
pub(crate) struct Storage {
    pub(super) backend: StorageBackend,
    /// Where leases are held without `leases`, and a sentence about it.
    local_leases: (&'static str, &'static str),
    pub(super) leases: Option<Arc<SharedLeases>>,
}

#[derive(Debug)]
pub(super) enum StorageBackend {
    Directory(Directory),
    /// In S3.
    Bucket(Box<Bucket>),
    /// In another cloud.
    Cloud(CloudStorage),
}

impl Storage {
    pub(super) async fn open(
        settings: &Settings,
        database: &SharedDatabase,
    ) -> anyhow::Result<(Self, Composer)> {
        let (backend, composer) = match &settings.s3.bucket {
            Some(name) => {
                let (bucket, composer) = Bucket::open(settings, name).await?;
                (StorageBackend::Bucket(Box::new(bucket)), composer)
            }
            None => match CloudStorage::open(settings).await? {
                Some((cloud, composer)) => (StorageBackend::Cloud(cloud), composer),
                None => {
                    let (directory, composer) = Directory::open(settings)?;
                    (StorageBackend::Directory(directory), composer)
                }
            },
        };
        let composer = match settings.leases.kind {
            LeaseKind::Memory => composer.with_locker(MemoryLocker::new()),
            _ => composer,
        };
        let wanted = &settings.leases;
        let leases: Option<SharedLeases> = match (&wanted.kind, &backend) {
            (LeaseKind::Redis(url), _) => Some(SharedLeases::redis(url.reveal(), wanted).await?),
            (LeaseKind::Postgres(url), _) => {
                let connections = database.connect_leases(settings, url.reveal()).await?;
                Some(SharedLeases::postgres(connections, wanted).await?)
            }
            (LeaseKind::Store, StorageBackend::Bucket(bucket)) => {
                let (client, prefix) = (&bucket.client, &settings.s3.object_prefix);
                Some(SharedLeases::bucket(client, &bucket.name, prefix, wanted).await?)
            }
            (LeaseKind::Store, StorageBackend::Cloud(cloud)) => Some(cloud.opened.leases(wanted)?),
            _ => None,
        };
        let composer = match &leases {
            Some(leases) => leases.configure(composer),
            None => composer,
        };
        #[cfg(feature = "full")]
        let composer = crate::trace::store(composer);
        let storage = Self {
            backend,
            local_leases: local_leases(settings),
            leases: leases.map(Arc::new),
        };
        Ok((storage, composer))
    }

    pub(super) fn describe(&self) -> String {
        match &self.backend {
            StorageBackend::Directory(directory) => {
                format!(
                    "Using '{}' as directory storage. A file is named {}, its description ID.info.",
                    directory.path.display(),
                    directory.names.as_deref().unwrap_or("ID")
                )
            }
            StorageBackend::Bucket(bucket) => bucket.description.clone(),
            StorageBackend::Cloud(cloud) => cloud.description.clone(),
        }
    }

    pub(super) fn name(&self) -> String {
        match &self.backend {
            StorageBackend::Directory(_) => "the upload directory".to_owned(),
            StorageBackend::Bucket(bucket) => format!("the bucket {}", bucket.name),
            StorageBackend::Cloud(cloud) => format!("the bucket {}", cloud.name),
        }
    }

    pub(super) async fn close(&self) {
        let flushed = async {
            match &self.backend {
                StorageBackend::Directory(_) => Ok(()),
                StorageBackend::Bucket(bucket) => bucket.store.flush_due_times().await,
                StorageBackend::Cloud(cloud) => cloud.opened.flush_due_times().await,
            }
        };
        let flushed = tokio::time::timeout(FLUSH_TIMEOUT, flushed).await;
        if !matches!(flushed, Ok(Ok(()))) {
            tracing::debug!(
                "failed to write the due times of uploads; the next listing finds them"
            );
        }
        if let Some(leases) = &self.leases {
            leases.close().await;
        }
    }

    /// Checks leases and store; probes of other machines are cached for a few seconds.
    pub(super) async fn check(&self, conditions: &Conditions) {
        let leases = async {
            if let Some(leases) = &self.leases {
                let error = leases.health_error().await;
                conditions.set(ConditionKind::LeasesUnavailable, leases.name(), error);
            }
        };
        let backend = async {
            if let StorageBackend::Bucket(bucket) = &self.backend {
                let error = bucket.health_error().await;
                conditions.set(ConditionKind::BucketUnreachable, &bucket.name, error);
            }
            if let StorageBackend::Cloud(cloud) = &self.backend {
                let error = cloud.health_error().await;
                conditions.set(ConditionKind::BucketUnreachable, &cloud.name, error);
            }
            self.check_directory(conditions).await;
        };
        tokio::join!(leases, backend);
    }

    /// Checks the upload directory, with a few system calls.
    pub(super) async fn check_directory(&self, conditions: &Conditions) {
        if let StorageBackend::Directory(directory) = &self.backend {
            directory.check(conditions).await;
        }
    }

    /// Returns what the last check found.
    pub(crate) fn capacity(&self) -> StorageCapacity {
        match &self.backend {
            StorageBackend::Directory(directory) => directory.capacity.lock().clone(),
            StorageBackend::Bucket(_) | StorageBackend::Cloud(_) => StorageCapacity {
                location: self.name().trim_start_matches("the ").to_owned(),
                capacity: None,
                free: None,
            },
        }
    }

    pub(super) fn describe_leases(&self) -> (&'static str, String) {
        if let Some(leases) = &self.leases {
            let stats = leases.stats();
            let (held, taken, lost) = (stats.held, stats.waited, stats.lost);
            let description = format!("{held} held here, {taken} taken over, {lost} lost.");
            return (leases.name(), description);
        }
        let (name, description) = self.local_leases;
        (name, description.to_owned())
    }
}

fn local_leases(settings: &Settings) -> (&'static str, &'static str) {
    let is_memory = settings.leases.kind == LeaseKind::Memory;
    // A bucket has no locks: without a backend for leases, they are in memory.
    match is_memory || !settings.uses_directory() {
        true => ("memory", "Held in this process."),
        false => ("files", "Held as file locks on this machine."),
    }
}

#[derive(Debug)]
pub(super) struct Directory {
    path: PathBuf,
    /// The template of the files' names.
    names: Option<String>,
    store: Arc<FileStore>,
    /// Requests for files that are not served, as of the last check.
    unserved: AtomicU64,
    /// As of the last check.
    capacity: Mutex<StorageCapacity>,
    /// Locked during a check, so that a file system that hangs keeps one thread, not one for each request.
    checking: Arc<AsyncMutex<()>>,
}

impl Directory {
    fn open(settings: &Settings) -> anyhow::Result<(Self, Composer)> {
        let storage = &settings.storage;
        let mut options = FileOptions::default();
        options.durability = storage.durability;
        options.dir_mode = storage.dir_perms;
        options.file_mode = storage.file_perms;
        options.preallocate = storage.preallocate;
        options.data_dirs.clone_from(&storage.data_dirs);
        options.names.clone_from(&storage.file_names);
        options.orphan_age = options.orphan_age.min(settings.expiry.orphan_age());
        options.lease_intervals = Intervals {
            holder: storage.lease_holder_poll,
            waiter: storage.lease_acquirer_poll,
        };
        // Its text has the cause.
        let store = FileStore::open(&storage.upload_dir, options)
            .map_err(|error| anyhow::Error::msg(error.to_string()))?;
        let path = store.dir().to_owned();
        check_writable(&path)?;
        settings::refuse_link(&settings.own_dir()).map_err(anyhow::Error::msg)?;
        let capacity = StorageCapacity::new(&path, rustix::fs::statvfs(&path).ok().as_ref());
        let store = Arc::new(store);
        let directory = Self {
            path,
            names: storage.file_names.clone(),
            store: store.clone(),
            unserved: AtomicU64::new(0),
            capacity: Mutex::new(capacity),
            checking: Arc::default(),
        };
        Ok((directory, Composer::join_shared(store)))
    }

    async fn check(&self, conditions: &Conditions) {
        use ConditionKind::*;
        let checking = self.checking.clone().lock_owned().await;
        let (store, path) = (self.store.clone(), self.path.clone());
        let probe = move || {
            let error = store.check_directory().err();
            let system = rustix::fs::statvfs(&path).ok();
            (checking, error, system)
        };
        // Not in this task, since a network file system may hang. It fails while the runtime shuts down.
        let Ok((_checking, error, system)) = tokio::task::spawn_blocking(probe).await else {
            return;
        };
        let capacity = StorageCapacity::new(&self.path, system.as_ref());
        let percent = capacity.free_percent();
        *self.capacity.lock() = capacity;
        let (unserved, last) = self.store.unserved();
        if self.unserved.swap(unserved, Relaxed) < unserved {
            conditions.raise(UploadNotServed, "", last);
        }
        let shown = self.path.display();
        for (kind, of_kind) in [
            (UploadDirectoryMissing, DirectoryError::Missing),
            (UploadDirectoryReplaced, DirectoryError::Replaced),
        ] {
            let is_so = error == Some(of_kind);
            conditions.set(kind, "", is_so.then_some(&shown));
        }
        if error.is_some() {
            return;
        }
        let read_only = |system: &StatVfs| system.f_flag.contains(StatVfsMountFlags::RDONLY);
        let is_read_only = system.as_ref().is_some_and(read_only);
        conditions.set(UploadDirectoryReadOnly, "", is_read_only.then_some(&shown));
        let low = percent.filter(|percent| *percent < MIN_FREE_PERCENT);
        conditions.set(
            DiskAlmostFull,
            "",
            low.map(|percent| format!("{percent} % of {shown}")),
        );
    }
}

impl StorageCapacity {
    fn new(path: &Path, system: Option<&StatVfs>) -> Self {
        let bytes = |blocks: fn(&StatVfs) -> u64| {
            let system = system?;
            Some(blocks(system).saturating_mul(system.f_frsize))
        };
        Self {
            location: path.display().to_string(),
            // Excludes the blocks reserved for root.
            capacity: bytes(|system| system.f_blocks - system.f_bfree + system.f_bavail),
            free: bytes(|system| system.f_bavail),
        }
    }

    pub(super) fn free_percent(&self) -> Option<u128> {
        let (capacity, free) = (self.capacity?, self.free?);
        // Some file systems do not know their size.
        (capacity > 0).then(|| u128::from(free) * 100 / u128::from(capacity))
    }
}

/// Fails at startup, rather than for every upload.
fn check_writable(dir: &Path) -> anyhow::Result<()> {
    let shown = dir.display();
    rustix::fs::access(dir, Access::WRITE_OK | Access::EXEC_OK).with_context(|| {
        format!("cannot write to the upload directory {shown}; check its owner and permissions")
    })
}

#[cfg(test)]
mod tests {
    use std::{pin::pin, sync::mpsc, time::Duration};

    use super::*;
    use crate::app::state::tests::settings;

    #[test]
    fn a_file_system_that_hangs_stops_no_task() {
        let dir = tempfile::tempdir().unwrap();
        let settings = settings(&["-upload-dir", dir.path().to_str().unwrap()]);
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_all().max_blocking_threads(1).build();
        runtime.unwrap().block_on(async {
            let (storage, _) = Storage::open(&settings, &SharedDatabase::default())
                .await
                .unwrap();
            let conditions = Conditions::default();
            // As a system call that hangs, on the only thread for them.
            let (end, hanging) = mpsc::channel::<()>();
            tokio::task::spawn_blocking(move || hanging.recv());
            let mut check = pin!(storage.check(&conditions));
            let waited = tokio::time::timeout(Duration::from_millis(50), &mut check).await;
            assert!(waited.is_err(), "the check runs in the task");
            assert!(storage.capacity().free.is_some());
            drop(end);
            check.await;
        });
    }

    #[test]
    fn leases_are_held_where_the_settings_say() {
        let local = |args: &[&str]| local_leases(&settings(args)).0;
        assert_eq!(local(&[]), "files");
        assert_eq!(local(&["-lease=store"]), "files");
        assert_eq!(local(&["-lease=memory"]), "memory");
        assert_eq!(local(&["-s3-bucket=b"]), "memory");
        assert_eq!(local(&["-s3-bucket=b", "-lease=memory"]), "memory");
    }
}
