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

#[cfg(feature = "s3")]
use super::bucket::Bucket;
#[cfg(feature = "redis")]
use super::leases::RedisLeases;
use crate::settings::{self, LeaseKind, Settings};

/// The store and the locker, and what the pages for machines ask them.
#[derive(Debug)]
pub(super) struct Storage {
    pub(super) kept: Kept,
    #[cfg(feature = "redis")]
    pub(super) redis: Option<RedisLeases>,
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

impl Storage {
    /// Opens what the settings name, and sees that it can be used.
    ///
    /// # Errors
    /// What is wrong, and what to do about it.
    pub(super) async fn open(settings: &Settings) -> anyhow::Result<(Self, Composer)> {
        #[cfg(feature = "redis")]
        let redis = match &settings.leases.kind {
            LeaseKind::Redis(url) => Some(RedisLeases::open(url, &settings.leases).await?),
            _ => None,
        };
        #[cfg(feature = "s3")]
        let (kept, composer) = if let Some(name) = &settings.s3.bucket {
            let (bucket, composer) = Bucket::open(settings, name).await?;
            (Kept::Bucket(Box::new(bucket)), composer)
        } else {
            let (directory, composer) = Directory::open(settings)?;
            (Kept::Directory(directory), composer)
        };
        #[cfg(not(feature = "s3"))]
        let (kept, composer) = {
            let (directory, composer) = Directory::open(settings)?;
            (Kept::Directory(directory), composer)
        };
        #[cfg(feature = "redis")]
        let composer = match &redis {
            Some(redis) => composer.locker(redis.locker()),
            None => composer,
        };
        let composer = match settings.leases.kind {
            LeaseKind::Memory => composer.locker(MemoryLocker::new()),
            _ => composer,
        };
        let storage = Self {
            kept,
            #[cfg(feature = "redis")]
            redis,
        };
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
        #[cfg(feature = "redis")]
        if let Some(redis) = &self.redis {
            redis.close().await;
        }
    }

    /// What keeps it from taking uploads now, if anything does.
    pub(super) async fn trouble(&self) -> Option<&'static str> {
        #[cfg(feature = "redis")]
        if let Some(redis) = &self.redis
            && !redis.is_reachable().await
        {
            return Some("the leases in Redis can't be reached\n");
        }
        match &self.kept {
            Kept::Directory(directory) => directory.trouble(),
            #[cfg(feature = "s3")]
            Kept::Bucket(bucket) => bucket.trouble().await,
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
        let directory = Self {
            identity: identity(&path),
            path,
        };
        Ok((directory, Composer::join_shared(Arc::new(store))))
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
