use std::{
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::Context as _;
use landfall::{
    Composer,
    lease::{Intervals, MemoryLocker},
    store::file::{FileOptions, FileStore},
};
use rustix::fs::Access;
#[cfg(feature = "grants")]
use rustix::fs::StatVfs;

#[cfg(feature = "s3")]
use super::bucket::Bucket;
use super::leases::SharedLeases;
use crate::settings::{self, LeaseKind, Settings};

/// The location and capacity of the storage in bytes, as the dashboard shows them.
#[cfg(feature = "grants")]
#[derive(Debug, serde::Serialize)]
pub(crate) struct StorageCapacity {
    pub(super) location: String,
    pub(super) capacity: Option<u64>,
    pub(super) free: Option<u64>,
}

#[derive(Debug)]
pub(crate) struct Storage {
    pub(super) backend: StorageBackend,
    #[cfg(feature = "grants")]
    is_single_node: bool,
    pub(super) leases: Option<Arc<SharedLeases>>,
}

#[derive(Debug)]
pub(super) enum StorageBackend {
    Directory(Directory),
    #[cfg(feature = "s3")]
    Bucket(Box<Bucket>),
}

impl StorageBackend {
    async fn open(settings: &Settings) -> anyhow::Result<(Self, Composer)> {
        #[cfg(feature = "s3")]
        if let Some(name) = &settings.s3.bucket {
            let (bucket, composer) = Bucket::open(settings, name).await?;
            return Ok((Self::Bucket(Box::new(bucket)), composer));
        }
        let (directory, composer) = Directory::open(settings)?;
        Ok((Self::Directory(directory), composer))
    }
}

impl Storage {
    pub(super) async fn open(settings: &Settings) -> anyhow::Result<(Self, Composer)> {
        let (backend, composer) = StorageBackend::open(settings).await?;
        let composer = match settings.leases.kind {
            LeaseKind::Memory => composer.with_locker(MemoryLocker::new()),
            _ => composer,
        };
        let wanted = &settings.leases;
        let leases: Option<SharedLeases> = match (&wanted.kind, &backend) {
            #[cfg(feature = "redis")]
            (LeaseKind::Redis(url), _) => Some(SharedLeases::redis(url.reveal(), wanted).await?),
            #[cfg(feature = "postgres")]
            (LeaseKind::Postgres(url), _) => {
                Some(SharedLeases::postgres(url.reveal(), wanted).await?)
            }
            #[cfg(feature = "s3")]
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
        #[cfg(feature = "otel")]
        let composer = crate::trace::store(composer);
        let storage = Self {
            backend,
            #[cfg(feature = "grants")]
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
            #[cfg(feature = "s3")]
            StorageBackend::Bucket(bucket) => bucket.description.clone(),
        }
    }

    pub(super) fn name(&self) -> String {
        match &self.backend {
            StorageBackend::Directory(_) => "the upload directory".to_owned(),
            #[cfg(feature = "s3")]
            StorageBackend::Bucket(bucket) => format!("the bucket {}", bucket.name),
        }
    }

    pub(super) async fn close(&self) {
        if let Some(leases) = &self.leases {
            leases.close().await;
        }
    }

    pub(super) async fn health_error(&self) -> Option<&'static str> {
        match self.lease_error().await {
            None => self.store_error().await,
            some => some,
        }
    }

    pub(super) async fn lease_error(&self) -> Option<&'static str> {
        self.leases.as_ref()?.health_error().await
    }

    pub(super) async fn store_error(&self) -> Option<&'static str> {
        match &self.backend {
            StorageBackend::Directory(directory) => directory.check_identity(),
            #[cfg(feature = "s3")]
            StorageBackend::Bucket(bucket) => bucket.health_error().await,
        }
    }

    #[cfg(feature = "grants")]
    pub(crate) fn capacity(&self) -> StorageCapacity {
        match &self.backend {
            StorageBackend::Directory(directory) => directory.capacity(),
            #[cfg(feature = "s3")]
            StorageBackend::Bucket(bucket) => StorageCapacity {
                location: format!("bucket {}", bucket.name),
                capacity: None,
                free: None,
            },
        }
    }

    #[cfg(feature = "grants")]
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
    identity: Option<Identity>,
}

type Identity = (u64, u64);

impl Directory {
    fn open(settings: &Settings) -> anyhow::Result<(Self, Composer)> {
        let storage = &settings.storage;
        let mut options = FileOptions::default();
        options.durability = storage.durability;
        options.dir_mode = storage.dir_perms;
        options.file_mode = storage.file_perms;
        options.preallocate = storage.preallocate;
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
        let identity = identity(&path);
        let directory = Self { path, identity };
        Ok((directory, Composer::join_shared(Arc::new(store))))
    }

    #[cfg(feature = "grants")]
    fn capacity(&self) -> StorageCapacity {
        let system = rustix::fs::statvfs(&self.path).ok();
        let bytes = |blocks: fn(&StatVfs) -> u64| {
            let system = system.as_ref()?;
            Some(blocks(system).saturating_mul(system.f_frsize))
        };
        StorageCapacity {
            location: self.path.display().to_string(),
            // Excludes the blocks reserved for root.
            capacity: bytes(|system| system.f_blocks - system.f_bfree + system.f_bavail),
            free: bytes(|system| system.f_bavail),
        }
    }

    /// When another disk is mounted there, or unmounted, uploads would continue in the old directory.
    fn check_identity(&self) -> Option<&'static str> {
        match identity(&self.path) {
            None => Some("the upload directory is missing\n"),
            found if found != self.identity => {
                Some("the upload directory was replaced: mount the original one, or restart\n")
            }
            Some(_) => None,
        }
    }
}

fn identity(dir: &Path) -> Option<Identity> {
    let found = std::fs::metadata(dir).ok()?;
    found.is_dir().then(|| (found.dev(), found.ino()))
}

/// Fails at startup, rather than for every upload.
fn check_writable(dir: &Path) -> anyhow::Result<()> {
    let shown = dir.display();
    rustix::fs::access(dir, Access::WRITE_OK | Access::EXEC_OK).with_context(|| {
        format!("cannot write to the upload directory {shown}; check its owner and permissions")
    })
}
