//! Presence of nodes: live nodes lock a file.

use std::{
    fs::{File, OpenOptions},
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use super::settings::OutboxError;

/// The lock of the file ends with the process, however that ends, while a lease in the database has to
/// expire.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) id: String,
    dir: Option<PathBuf>,
    file: Option<File>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Presence {
    Dead,
    Alive,
    /// The node has no file here; it may use another directory.
    Unknown,
}

impl Presence {
    /// The lease decides without a file.
    pub(super) const fn is_dead(self, is_expired: bool) -> bool {
        match self {
            Self::Dead => true,
            Self::Alive => false,
            Self::Unknown => is_expired,
        }
    }
}

impl Node {
    pub(super) fn new(dir: Option<&Path>) -> Result<Self, OutboxError> {
        let id = random_id();
        let file = match dir {
            None => None,
            Some(dir) => Some(lock_new(dir, &id).map_err(|source| {
                let dir = dir.to_owned();
                OutboxError::Presence { dir, source }
            })?),
        };
        Ok(Self {
            id,
            dir: dir.map(Path::to_owned),
            file,
        })
    }

    pub(super) fn with_new_id(&self) -> Self {
        // Without a file, other nodes wait until its lease expires.
        Self::new(self.dir.as_deref()).unwrap_or_else(|error| {
            tracing::warn!(%error, "failed to create a presence file");
            Self {
                id: random_id(),
                dir: self.dir.clone(),
                file: None,
            }
        })
    }

    pub(super) const fn is_present(&self) -> bool {
        self.file.is_some()
    }

    pub(super) fn presence_of(&self, other: &str) -> Presence {
        Self::presence_in(self.dir.as_deref(), other)
    }

    pub(super) fn presence_in(dir: Option<&Path>, other: &str) -> Presence {
        match dir.map(|dir| File::open(dir.join(other))) {
            None | Some(Err(_)) => Presence::Unknown,
            Some(Ok(file)) if file.try_lock().is_ok() => Presence::Dead,
            Some(Ok(_)) => Presence::Alive,
        }
    }

    pub(super) fn remove_file(&self, other: &str) {
        if let Some(dir) = &self.dir {
            // If this fails, a later sweep removes it.
            let _ = std::fs::remove_file(dir.join(other));
        }
    }

    pub(super) fn remove_own_file(&mut self) {
        let id = self.id.clone();
        self.remove_file(&id);
        self.file = None;
    }

    /// The database does not know these nodes. A younger file may belong to a node that registered after
    /// `known` was read.
    pub(super) fn sweep(&self, known: &[String], age: Duration) {
        let Some(dir) = &self.dir else { return };
        let Ok(entries) = std::fs::read_dir(dir) else {
            return;
        };
        for entry in entries.flatten() {
            let created = entry.metadata().and_then(|data| data.modified());
            let is_old = created.is_ok_and(|at| at.elapsed().is_ok_and(|is| is >= age));
            let name = entry.file_name();
            if let Some(name) = name.to_str()
                && is_old
                && name != self.id
                && !known.iter().any(|node| node == name)
                && self.presence_of(name) == Presence::Dead
            {
                self.remove_file(name);
            }
        }
    }
}

fn random_id() -> String {
    format!("{:016x}", rand::random::<u64>())
}

fn lock_new(dir: &Path, name: &str) -> io::Result<File> {
    use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true).mode(0o700).create(dir)?;
    let mut options = OpenOptions::new();
    let options = options.write(true).create_new(true).mode(0o600);
    let file = options.open(dir.join(name))?;
    // Waits for nodes that are checking the file.
    file.lock()?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn presence_follows_the_file_lock() {
        let dir = tempfile::tempdir().unwrap();
        let one = Node::new(Some(dir.path())).unwrap();
        let other = Node::new(Some(dir.path())).unwrap();
        assert_eq!(one.presence_of(&other.id), Presence::Alive);
        let (other_id, path) = (other.id.clone(), dir.path().join(&other.id));
        drop(other);
        assert_eq!(one.presence_of(&other_id), Presence::Dead);
        one.sweep(std::slice::from_ref(&other_id), Duration::ZERO);
        assert!(path.exists(), "the database still knows it");
        one.sweep(&[], Duration::from_secs(60));
        assert!(path.exists(), "the database may know it by now");
        one.sweep(&[], Duration::ZERO);
        assert!(!path.exists());
        assert_eq!(one.presence_of(&other_id), Presence::Unknown);
        assert!(dir.path().join(&one.id).exists());
        let elsewhere = Node::new(None).unwrap();
        assert_eq!(elsewhere.presence_of(&one.id), Presence::Unknown);
    }
}
