//! Where uploads are kept, and by what servers agree on who writes them.

use std::{
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::Context as _;
use landfall::{
    Composer,
    lease::{Intervals, MemoryLocker},
    store::file::{Durability, FileOptions, FileStore},
};
use rustix::fs::Access;
#[cfg(feature = "grants")]
use rustix::fs::StatVfs;

#[cfg(feature = "s3")]
use super::bucket::Bucket;
#[cfg(any(feature = "s3", feature = "redis", feature = "postgres"))]
use super::leases::SharedLeases;
#[cfg(feature = "grants")]
use crate::admin::Room;
use crate::settings::{self, LeaseKind, Settings};

/// The store and the locker, and what the pages for machines ask them.
#[derive(Debug)]
pub(super) struct Storage {
    pub(super) kept: Kept,
    /// Whether leases are in the memory of this process.
    #[cfg(feature = "grants")]
    is_alone: bool,
    /// The leases, if other servers share them.
    #[cfg(any(feature = "s3", feature = "redis", feature = "postgres"))]
    pub(super) leases: Option<Arc<SharedLeases>>,
}

/// Where uploads are kept.
#[derive(Debug)]
pub(super) enum Kept {
    /// In a directory of this machine.
    Directory(Directory),
    /// In a bucket.
    #[cfg(feature = "s3")]
    Bucket(Box<Bucket>),
}

impl Kept {
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
    /// Opens what the settings name, and sees that it can be used.
    ///
    /// # Errors
    /// What is wrong, and what to do about it.
    pub(super) async fn open(settings: &Settings) -> anyhow::Result<(Self, Composer)> {
        let (kept, composer) = Kept::open(settings).await?;
        #[cfg(feature = "grants")]
        let is_alone = settings.leases.kind == LeaseKind::Memory;
        let composer = match settings.leases.kind {
            LeaseKind::Memory => composer.with_locker(MemoryLocker::new()),
            _ => composer,
        };
        #[cfg(any(feature = "s3", feature = "redis", feature = "postgres"))]
        {
            let leases = match (&settings.leases.kind, &kept) {
                #[cfg(feature = "redis")]
                (LeaseKind::Redis(url), _) => {
                    Some(SharedLeases::redis(url.reveal(), &settings.leases).await?)
                }
                #[cfg(feature = "postgres")]
                (LeaseKind::Postgres(url), _) => {
                    Some(SharedLeases::postgres(url.reveal(), &settings.leases).await?)
                }
                #[cfg(feature = "s3")]
                (LeaseKind::Store, Kept::Bucket(bucket)) => Some(bucket.leases(settings).await?),
                _ => None,
            };
            let composer = match &leases {
                Some(leases) => leases.join(composer),
                None => composer,
            };
            let leases = leases.map(Arc::new);
            let storage = Self {
                kept,
                #[cfg(feature = "grants")]
                is_alone,
                leases,
            };
            Ok((storage, composer))
        }
        #[cfg(not(any(feature = "s3", feature = "redis", feature = "postgres")))]
        let storage = Self {
            kept,
            #[cfg(feature = "grants")]
            is_alone,
        };
        #[cfg(not(any(feature = "s3", feature = "redis", feature = "postgres")))]
        Ok((storage, composer))
    }

    /// The start-up line about it.
    pub(super) fn line(&self) -> String {
        match &self.kept {
            Kept::Directory(directory) => {
                format!("Using '{}' as directory storage.", directory.path.display())
            }
            #[cfg(feature = "s3")]
            Kept::Bucket(bucket) => bucket.line(),
        }
    }

    /// What people call it.
    pub(super) fn name(&self) -> String {
        match &self.kept {
            Kept::Directory(_) => "the upload directory".to_owned(),
            #[cfg(feature = "s3")]
            Kept::Bucket(bucket) => format!("the bucket {}", bucket.name),
        }
    }

    /// At the end of the program: lets other servers have at once what this one leaves.
    pub(super) async fn close(&self) {
        #[cfg(any(feature = "s3", feature = "redis", feature = "postgres"))]
        if let Some(leases) = &self.leases {
            leases.close().await;
        }
    }

    /// What keeps it from taking uploads now, if anything does.
    pub(super) async fn trouble(&self) -> Option<&'static str> {
        match self.lease_trouble().await {
            None => self.store_trouble().await,
            some => some,
        }
    }

    /// What keeps leases from being had.
    pub(super) async fn lease_trouble(&self) -> Option<&'static str> {
        #[cfg(any(feature = "s3", feature = "redis", feature = "postgres"))]
        if let Some(leases) = &self.leases {
            return leases.trouble().await;
        }
        None
    }

    /// What keeps uploads from being kept.
    pub(super) async fn store_trouble(&self) -> Option<&'static str> {
        match &self.kept {
            Kept::Directory(directory) => directory.trouble(),
            #[cfg(feature = "s3")]
            Kept::Bucket(bucket) => bucket.trouble().await,
        }
    }

    /// Where uploads are, and how much room there is.
    #[cfg(feature = "grants")]
    pub(super) fn room(&self) -> Room {
        match &self.kept {
            Kept::Directory(directory) => directory.room(),
            #[cfg(feature = "s3")]
            Kept::Bucket(bucket) => Room {
                place: format!("bucket {}", bucket.name),
                capacity: None,
                free: None,
            },
        }
    }

    /// What people call that which decides who writes, and how it is while all is well.
    #[cfg(feature = "grants")]
    pub(super) fn lease_words(&self) -> (&'static str, String) {
        #[cfg(any(feature = "s3", feature = "redis", feature = "postgres"))]
        if let Some(leases) = &self.leases {
            let stats = leases.stats();
            let (held, taken, lost) = (stats.held, stats.taken_over, stats.lost);
            let words = format!("{held} held here, {taken} taken over, {lost} lost.");
            return (leases.name(), words);
        }
        match self.is_alone {
            true => ("memory", "Only this process writes.".into()),
            false => (
                "files",
                "The processes of this machine lock their files.".into(),
            ),
        }
    }
}

/// A directory, as it was when it was opened.
#[derive(Debug)]
pub(super) struct Directory {
    path: PathBuf,
    identity: Option<Identity>,
}

/// Device and inode of a directory.
type Identity = (u64, u64);

impl Directory {
    fn open(settings: &Settings) -> anyhow::Result<(Self, Composer)> {
        let storage = &settings.storage;
        let mut options = FileOptions::default();
        options.durability = match storage.durability {
            settings::Durability::None => Durability::None,
            settings::Durability::Complete => Durability::Complete,
            settings::Durability::Every => Durability::Every,
        };
        options.dir_mode = storage.dir_perms;
        options.file_mode = storage.file_perms;
        options.preallocate = storage.preallocate;
        options.orphan_age = options.orphan_age.min(settings.expiry.orphan_age());
        options.lease_intervals = Intervals {
            holder: storage.lease_holder_poll,
            waiter: storage.lease_acquirer_poll,
        };
        let store = FileStore::open(&storage.upload_dir, options).with_context(|| {
            format!(
                "the upload directory {} can't be used",
                storage.upload_dir.display()
            )
        })?;
        let path = store.dir().to_owned();
        check_writable(&path)?;
        settings::refuse_link(&settings.own_dir()).map_err(anyhow::Error::msg)?;
        let directory = Self {
            identity: identity(&path),
            path,
        };
        Ok((directory, Composer::join_shared(Arc::new(store))))
    }

    #[cfg(feature = "grants")]
    fn room(&self) -> Room {
        let system = rustix::fs::statvfs(&self.path).ok();
        let bytes = |blocks: fn(&StatVfs) -> u64| {
            system
                .as_ref()
                .map(|system| blocks(system).saturating_mul(system.f_frsize))
        };
        Room {
            place: self.path.display().to_string(),
            // What only root may fill is no room.
            capacity: bytes(|system| system.f_blocks - system.f_bfree + system.f_bavail),
            free: bytes(|system| system.f_bavail),
        }
    }

    /// Whether the directory is missing or another one: when another disk is mounted there, or none
    /// any more, uploads go on in the old place, where nobody looks for them.
    fn trouble(&self) -> Option<&'static str> {
        match identity(&self.path) {
            None => Some("the upload directory is missing\n"),
            found if found != self.identity => Some(
                "another directory is where the upload directory was: put it back, or restart\n",
            ),
            Some(_) => None,
        }
    }
}

fn identity(dir: &Path) -> Option<Identity> {
    let found = std::fs::metadata(dir)
        .ok()
        .filter(std::fs::Metadata::is_dir)?;
    Some((found.dev(), found.ino()))
}

/// What every upload would run into is told at the start.
fn check_writable(dir: &Path) -> anyhow::Result<()> {
    rustix::fs::access(dir, Access::WRITE_OK | Access::EXEC_OK).with_context(|| {
        format!(
            "the upload directory {} can't be written, see its owner and permissions",
            dir.display()
        )
    })
}
