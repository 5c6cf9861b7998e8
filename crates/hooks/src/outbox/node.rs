//! How a process shows that it lives, and knows of another that it doesn't.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use super::settings::OutboxError;

/// This process, in the database and, if there is a folder, by a locked file. The lock ends with the
/// process, however that ends; a time in the database has to run out.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) id: String,
    folder: Option<PathBuf>,
    file: Option<File>,
}

/// What the presence folder says about another process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Presence {
    /// Its file is not locked any more.
    Dead,
    /// Its file is locked.
    Alive,
    /// There is no file of it: it has another folder.
    Unknown,
}

impl Node {
    /// A new name, and a file for it.
    pub(super) fn new(folder: Option<&Path>) -> Result<Self, OutboxError> {
        let id = fresh_id();
        let file = match folder {
            None => None,
            Some(folder) => Some(lock_new(folder, &id).map_err(|source| {
                let folder = folder.to_owned();
                OutboxError::Presence { folder, source }
            })?),
        };
        Ok(Self {
            id,
            folder: folder.map(Path::to_owned),
            file,
        })
    }

    /// The same process under another name.
    pub(super) fn with_new_id(&self) -> Self {
        // Without a file others wait until its time is over.
        Self::new(self.folder.as_deref()).unwrap_or_else(|error| {
            tracing::warn!(%error, "a process can't show by a file that it lives");
            Self {
                id: fresh_id(),
                folder: self.folder.clone(),
                file: None,
            }
        })
    }

    /// Whether others see by a file that it is alive.
    pub(super) const fn is_present(&self) -> bool {
        self.file.is_some()
    }

    /// What the folder says about another process.
    pub(super) fn presence_of(&self, other: &str) -> Presence {
        Self::presence_in(self.folder.as_deref(), other)
    }

    /// What a folder says about a process.
    pub(super) fn presence_in(folder: Option<&Path>, other: &str) -> Presence {
        let Some(folder) = folder else {
            return Presence::Unknown;
        };
        let Ok(file) = File::open(folder.join(other)) else {
            return Presence::Unknown;
        };
        match file.try_lock() {
            Ok(()) => Presence::Dead,
            Err(TryLockError::WouldBlock | TryLockError::Error(_)) => Presence::Alive,
        }
    }

    /// Removes the file of a process that is gone.
    pub(super) fn remove_file(&self, other: &str) {
        if let Some(folder) = &self.folder {
            // If it stays, the next look finds it.
            let _ = std::fs::remove_file(folder.join(other));
        }
    }

    /// Removes this process's own file.
    pub(super) fn leave(&mut self) {
        let id = self.id.clone();
        self.remove_file(&id);
        self.file = None;
    }

    /// Removes files of this age, of processes that are gone and that the database doesn't know. A
    /// younger one may be of a process that the database knows since `known` was read.
    pub(super) fn sweep(&self, known: &[String], age: Duration) {
        let Some(folder) = &self.folder else { return };
        let Ok(entries) = std::fs::read_dir(folder) else {
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

fn fresh_id() -> String {
    format!("{:016x}", rand::random::<u64>())
}

fn lock_new(folder: &Path, name: &str) -> io::Result<File> {
    use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)?;
    let file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(folder.join(name))?;
    // Somebody who looks at it right now has it for a moment.
    file.lock()?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_tells_who_lives() {
        let folder = tempfile::tempdir().unwrap();
        let one = Node::new(Some(folder.path())).unwrap();
        let other = Node::new(Some(folder.path())).unwrap();
        assert_eq!(one.presence_of(&other.id), Presence::Alive);
        let (other_id, path) = (other.id.clone(), folder.path().join(&other.id));
        drop(other);
        assert_eq!(one.presence_of(&other_id), Presence::Dead);
        one.sweep(std::slice::from_ref(&other_id), Duration::ZERO);
        assert!(path.exists(), "the database knows it still");
        one.sweep(&[], Duration::from_secs(60));
        assert!(path.exists(), "the database may know it by now");
        one.sweep(&[], Duration::ZERO);
        assert!(!path.exists());
        assert_eq!(one.presence_of(&other_id), Presence::Unknown);
        assert!(folder.path().join(&one.id).exists());
        let elsewhere = Node::new(None).unwrap();
        assert_eq!(elsewhere.presence_of(&one.id), Presence::Unknown);
    }
}
