use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use anyhow::Context as _;
use landfall::{
    Composer,
    lease::{Intervals, MemoryLocker},
    store::file::{DirectoryError, FileOptions, FileStore},
};
use rustix::fs::{Access, StatVfs, StatVfsMountFlags};

use super::bucket::Bucket;
use super::leases::SharedLeases;
use crate::{
    condition::{ConditionKind, Conditions},
    settings::{self, LeaseKind, Settings},
};

const MIN_FREE_PERCENT: u128 = 5;

/// The location and capacity of the storage in bytes, as the dashboard shows them.
#[derive(Debug, serde::Serialize)]
pub(crate) struct StorageCapacity {
    pub(super) location: String,
    pub(super) capacity: Option<u64>,
    pub(super) free: Option<u64>,
}

#[derive(Debug)]
pub(crate) struct Storage {
    pub(super) backend: StorageBackend,
    is_single_node: bool,
    pub(super) leases: Option<Arc<SharedLeases>>,
}

#[derive(Debug)]
pub(super) enum StorageBackend {
    Directory(Directory),
    Bucket(Box<Bucket>),
}

impl Storage {
    pub(super) async fn open(settings: &Settings) -> anyhow::Result<(Self, Composer)> {
        let (backend, composer) = match &settings.s3.bucket {
            Some(name) => {
                let (bucket, composer) = Bucket::open(settings, name).await?;
                (StorageBackend::Bucket(Box::new(bucket)), composer)
            }
            None => {
                let (directory, composer) = Directory::open(settings)?;
                (StorageBackend::Directory(directory), composer)
            }
        };
        let composer = match settings.leases.kind {
            LeaseKind::Memory => composer.with_locker(MemoryLocker::new()),
            _ => composer,
        };
        let wanted = &settings.leases;
        let leases: Option<SharedLeases> = match (&wanted.kind, &backend) {
            (LeaseKind::Redis(url), _) => Some(SharedLeases::redis(url.reveal(), wanted).await?),
            (LeaseKind::Postgres(url), _) => {
                Some(SharedLeases::postgres(url.reveal(), wanted).await?)
            }
            (LeaseKind::Store, StorageBackend::Bucket(bucket)) => {
                let (client, prefix) = (&bucket.client, &settings.s3.object_prefix);
                Some(SharedLeases::bucket(client, &bucket.name, prefix, wanted).await?)
            }
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
            is_single_node: settings.leases.kind == LeaseKind::Memory,
            leases: leases.map(Arc::new),
        };
        Ok((storage, composer))
    }

    pub(super) fn describe(&self) -> String {
        match &self.backend {
            StorageBackend::Directory(directory) => {
                format!("Using '{}' as directory storage.", directory.path.display())
            }
            StorageBackend::Bucket(bucket) => bucket.description.clone(),
        }
    }

    pub(super) fn name(&self) -> String {
        match &self.backend {
            StorageBackend::Directory(_) => "the upload directory".to_owned(),
            StorageBackend::Bucket(bucket) => format!("the bucket {}", bucket.name),
        }
    }

    pub(super) async fn close(&self) {
        if let Some(leases) = &self.leases {
            leases.close().await;
        }
    }

    /// Checks leases and store; probes of other machines are cached for a few seconds.
    pub(super) async fn check(&self, conditions: &Conditions) {
        if let Some(leases) = &self.leases {
            let error = leases.health_error().await;
            conditions.set(ConditionKind::LeasesUnavailable, leases.name(), error);
        }
        if let StorageBackend::Bucket(bucket) = &self.backend {
            let error = bucket.health_error().await;
            conditions.set(ConditionKind::BucketUnreachable, &bucket.name, error);
        }
        self.check_directory(conditions);
    }

    /// Checks the upload directory, with two system calls.
    pub(super) fn check_directory(&self, conditions: &Conditions) {
        if let StorageBackend::Directory(directory) = &self.backend {
            directory.check(conditions);
        }
    }

    pub(crate) fn capacity(&self) -> StorageCapacity {
        match &self.backend {
            StorageBackend::Directory(directory) => directory.capacity(),
            StorageBackend::Bucket(bucket) => StorageCapacity {
                location: format!("bucket {}", bucket.name),
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
        match self.is_single_node {
            true => ("memory", "Held in this process.".into()),
            false => ("files", "Held as file locks on this machine.".into()),
        }
    }
}

#[derive(Debug)]
pub(super) struct Directory {
    path: PathBuf,
    store: Arc<FileStore>,
    /// Requests for files that are not served, as of the last check.
    unserved: AtomicU64,
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
        options.orphan_age = options.orphan_age.min(settings.expiry.orphan_age());
        options.lease_intervals = Intervals {
            holder: storage.lease_holder_poll,
            waiter: storage.lease_acquirer_poll,
        };
        let shown = storage.upload_dir.display();
        let store = FileStore::open(&storage.upload_dir, options)
            .with_context(|| format!("cannot use the upload directory {shown}"))?;
        let path = store.dir().to_owned();
        check_writable(&path)?;
        settings::refuse_link(&settings.own_dir()).map_err(anyhow::Error::msg)?;
        let store = Arc::new(store);
        let directory = Self {
            path,
            store: store.clone(),
            unserved: AtomicU64::new(0),
        };
        Ok((directory, Composer::join_shared(store)))
    }

    fn capacity(&self) -> StorageCapacity {
        StorageCapacity::new(&self.path, rustix::fs::statvfs(&self.path).ok().as_ref())
    }

    fn check(&self, conditions: &Conditions) {
        use ConditionKind::*;
        let (unserved, last) = self.store.unserved();
        if self.unserved.swap(unserved, Relaxed) < unserved {
            conditions.raise(UploadNotServed, "", last);
        }
        let shown = self.path.display();
        let error = self.store.check_directory().err();
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
        let system = rustix::fs::statvfs(&self.path).ok();
        let read_only = |system: &StatVfs| system.f_flag.contains(StatVfsMountFlags::RDONLY);
        let is_read_only = system.as_ref().is_some_and(read_only);
        conditions.set(UploadDirectoryReadOnly, "", is_read_only.then_some(&shown));
        let percent = StorageCapacity::new(&self.path, system.as_ref()).free_percent();
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
