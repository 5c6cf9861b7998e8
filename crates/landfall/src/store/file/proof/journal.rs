//! What the file store did to the disk, in order.
//!
//! A [`Recording`] of a directory collects every change below it, and what was told to the client
//! meanwhile.

use std::{
    collections::{HashMap, HashSet},
    os::fd::{AsFd, AsRawFd, BorrowedFd},
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use rustix::fs;

use super::Told;

/// A change on the disk. Files and directories go by their inodes.
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
    /// The file was filled within the kernel: this is all of it now.
    Fill {
        ino: u64,
        bytes: Vec<u8>,
    },
    /// Not a change: this was told to the client.
    Told(Told),
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

    /// The directory or file that is changed.
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
            Self::Told(_) => None,
        }
    }
}

fn ino(file: BorrowedFd<'_>) -> u64 {
    fs::fstat(file).unwrap().st_ino
}

/// The recordings that run.
static RUNNING: Mutex<Vec<Running>> = Mutex::new(Vec::new());

struct Running {
    root: u64,
    /// The directories and files made below the root, and the root: others aren't recorded.
    inodes: HashSet<u64>,
    names: HashMap<(u64, String), u64>,
    ops: Vec<Op>,
    /// After how many more changes the process kills itself.
    lives: Option<u64>,
}

impl Running {
    fn record(&mut self, op: &Op) {
        if !op.subject().is_some_and(|ino| self.inodes.contains(&ino)) {
            return;
        }
        let gone = match op {
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
        // Its number may be given to somebody else's file.
        gone.map(|ino| self.inodes.remove(&ino));
        self.ops.push(op.clone());
        if let Some(lives) = &mut self.lives {
            if *lives == 0 {
                nix::sys::signal::raise(nix::sys::signal::Signal::SIGKILL).unwrap();
            }
            *lives -= 1;
        }
    }
}

fn running() -> MutexGuard<'static, Vec<Running>> {
    RUNNING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Takes note of a change.
pub(in crate::store::file) fn record(op: Op) {
    for running in running().iter_mut() {
        running.record(&op);
    }
}

/// Takes note of a file that was filled within the kernel.
pub(in crate::store::file) fn record_fill(target: BorrowedFd<'_>) {
    let ino = ino(target);
    if running()
        .iter()
        .any(|running| running.inodes.contains(&ino))
    {
        let path = format!("/proc/self/fd/{}", target.as_raw_fd());
        record(Op::Fill {
            ino,
            bytes: std::fs::read(path).unwrap(),
        });
    }
}

/// Collects what happens below a directory, until dropped.
#[derive(Debug)]
pub(super) struct Recording {
    pub(super) root: u64,
}

impl Recording {
    /// Records everything made below `dir` from now on; kills the process after `lives` changes.
    pub(super) fn of(dir: &Path, lives: Option<u64>) -> Self {
        let root = ino(std::fs::File::open(dir).unwrap().as_fd());
        running().push(Running {
            root,
            inodes: HashSet::from([root]),
            names: HashMap::new(),
            ops: Vec::new(),
            lives,
        });
        Self { root }
    }

    /// Notes what was told to the client.
    pub(super) fn tell(&self, told: Told) {
        let mut all = running();
        let this = all
            .iter_mut()
            .find(|running| running.root == self.root)
            .unwrap();
        this.ops.push(Op::Told(told));
    }

    /// What happened so far.
    pub(super) fn ops(&self) -> Vec<Op> {
        running()
            .iter()
            .find(|running| running.root == self.root)
            .unwrap()
            .ops
            .clone()
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        running().retain(|running| running.root != self.root);
    }
}
