//! A journal of the changes that the file store makes on the disk.
//!
//! A [`Recording`] collects all changes below a directory, and the acknowledgements in between.

use std::{
    collections::{HashMap, HashSet},
    os::fd::{AsFd, AsRawFd, BorrowedFd},
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use rustix::fs;

use super::Acknowledged;

/// A change on the disk. Files and directories are identified by their inodes.
#[derive(Debug, Clone)]
pub(in crate::store::file) enum Op {
    MakeDir {
        dir: u64,
        name: String,
        ino: u64,
    },
    Create {
        dir: u64,
        name: String,
        ino: u64,
    },
    Write {
        ino: u64,
        offset: u64,
        bytes: Vec<u8>,
    },
    Truncate {
        ino: u64,
        len: u64,
    },
    SyncFile {
        ino: u64,
    },
    SyncDir {
        ino: u64,
    },
    Rename {
        dir: u64,
        from: String,
        to: String,
    },
    Unlink {
        dir: u64,
        name: String,
    },
    /// The file was filled within the kernel; `bytes` is its whole content.
    Fill {
        ino: u64,
        bytes: Vec<u8>,
    },
    /// Not a change: an acknowledgement to the client.
    Acknowledged(Acknowledged),
}

impl Op {
    pub(in crate::store::file) fn make_dir(dir: BorrowedFd<'_>, name: &str) -> Self {
        let made = fs::statat(dir, name, fs::AtFlags::SYMLINK_NOFOLLOW).unwrap();
        Self::MakeDir {
            dir: ino(dir),
            name: name.into(),
            ino: made.st_ino,
        }
    }

    pub(in crate::store::file) fn create(
        dir: BorrowedFd<'_>,
        name: &str,
        file: BorrowedFd<'_>,
    ) -> Self {
        Self::Create {
            dir: ino(dir),
            name: name.into(),
            ino: ino(file),
        }
    }

    pub(in crate::store::file) fn write(
        file: BorrowedFd<'_>,
        offset: u64,
        chunks: &[Bytes],
        skip: usize,
        count: usize,
    ) -> Self {
        Self::write_plain(file, offset, &chunks.concat()[skip..skip + count])
    }

    pub(in crate::store::file) fn write_plain(
        file: BorrowedFd<'_>,
        offset: u64,
        bytes: &[u8],
    ) -> Self {
        Self::Write {
            ino: ino(file),
            offset,
            bytes: bytes.to_vec(),
        }
    }

    pub(in crate::store::file) fn truncate(file: BorrowedFd<'_>, len: u64) -> Self {
        Self::Truncate {
            ino: ino(file),
            len,
        }
    }

    pub(in crate::store::file) fn sync_file(file: BorrowedFd<'_>) -> Self {
        Self::SyncFile { ino: ino(file) }
    }

    pub(in crate::store::file) fn sync_dir(dir: BorrowedFd<'_>) -> Self {
        Self::SyncDir { ino: ino(dir) }
    }

    pub(in crate::store::file) fn rename(dir: BorrowedFd<'_>, from: &str, to: &str) -> Self {
        Self::Rename {
            dir: ino(dir),
            from: from.into(),
            to: to.into(),
        }
    }

    pub(in crate::store::file) fn unlink(dir: BorrowedFd<'_>, name: &str) -> Self {
        Self::Unlink {
            dir: ino(dir),
            name: name.into(),
        }
    }

    /// Returns the inode of the directory or file that is changed.
    fn subject(&self) -> Option<u64> {
        match self {
            Self::MakeDir { dir, .. }
            | Self::Create { dir, .. }
            | Self::Rename { dir, .. }
            | Self::Unlink { dir, .. } => Some(*dir),
            Self::Write { ino, .. }
            | Self::Truncate { ino, .. }
            | Self::SyncFile { ino }
            | Self::SyncDir { ino }
            | Self::Fill { ino, .. } => Some(*ino),
            Self::Acknowledged(_) => None,
        }
    }
}

fn ino(file: BorrowedFd<'_>) -> u64 {
    fs::fstat(file).unwrap().st_ino
}

static ACTIVE: Mutex<Vec<ActiveRecording>> = Mutex::new(Vec::new());

struct ActiveRecording {
    root: u64,
    /// Inodes of the root and of all directories and files created below it. Others are not
    /// recorded.
    inodes: HashSet<u64>,
    names: HashMap<(u64, String), u64>,
    ops: Vec<Op>,
    /// The number of changes left before the process kills itself.
    kill_after: Option<u64>,
}

impl ActiveRecording {
    fn record(&mut self, op: &Op) {
        if !op.subject().is_some_and(|ino| self.inodes.contains(&ino)) {
            return;
        }
        let unlinked = match op {
            Op::MakeDir { dir, name, ino } | Op::Create { dir, name, ino } => {
                self.inodes.insert(*ino);
                self.names.insert((*dir, name.clone()), *ino)
            }
            Op::Rename { dir, from, to } => {
                let ino = self.names.remove(&(*dir, from.clone())).unwrap();
                self.names.insert((*dir, to.clone()), ino)
            }
            Op::Unlink { dir, name } => self.names.remove(&(*dir, name.clone())),
            _ => None,
        };
        // The inode number may be reused by an unrelated file.
        unlinked.map(|ino| self.inodes.remove(&ino));
        self.ops.push(op.clone());
        if let Some(kill_after) = &mut self.kill_after {
            if *kill_after == 0 {
                nix::sys::signal::raise(nix::sys::signal::Signal::SIGKILL).unwrap();
            }
            *kill_after -= 1;
        }
    }
}

fn active() -> MutexGuard<'static, Vec<ActiveRecording>> {
    ACTIVE.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(in crate::store::file) fn record(op: Op) {
    for recording in active().iter_mut() {
        recording.record(&op);
    }
}

/// Records the content of a file that was filled within the kernel.
pub(in crate::store::file) fn record_fill(target: BorrowedFd<'_>) {
    let ino = ino(target);
    if active()
        .iter()
        .any(|recording| recording.inodes.contains(&ino))
    {
        let path = format!("/proc/self/fd/{}", target.as_raw_fd());
        record(Op::Fill {
            ino,
            bytes: std::fs::read(path).unwrap(),
        });
    }
}

/// Records the changes below a directory until dropped.
#[derive(Debug)]
pub(super) struct Recording {
    pub(super) root: u64,
}

impl Recording {
    /// Starts to record changes below `dir`; kills the process after `kill_after` changes.
    pub(super) fn of(dir: &Path, kill_after: Option<u64>) -> Self {
        let root = ino(std::fs::File::open(dir).unwrap().as_fd());
        active().push(ActiveRecording {
            root,
            inodes: HashSet::from([root]),
            names: HashMap::new(),
            ops: Vec::new(),
            kill_after,
        });
        Self { root }
    }

    pub(super) fn ack(&self, acknowledged: Acknowledged) {
        let mut all = active();
        let this = all
            .iter_mut()
            .find(|recording| recording.root == self.root)
            .unwrap();
        this.ops.push(Op::Acknowledged(acknowledged));
    }

    pub(super) fn ops(&self) -> Vec<Op> {
        active()
            .iter()
            .find(|recording| recording.root == self.root)
            .unwrap()
            .ops
            .clone()
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        active().retain(|recording| recording.root != self.root);
    }
}
