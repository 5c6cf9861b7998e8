//! What the file store did to the disk, in order; for tests only.
//!
//! A [`Recording`] of a directory collects every change below it. The durability tests rebuild from
//! it what a power cut at any moment may leave; the crash tests kill the process at the n-th change.

use std::{
    collections::HashMap,
    os::fd::{AsFd, BorrowedFd},
    sync::{Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use rustix::fs;

/// A change on the disk. Files and directories go by their inodes.
#[derive(Debug, Clone)]
pub(super) enum Op {
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
    /// The file's content was made by other means: this is all of it.
    Content {
        ino: u64,
        bytes: Vec<u8>,
    },
    /// Not a change: the test notes what was acknowledged.
    Acknowledged {
        offset: u64,
    },
}

impl Op {
    pub(super) fn make_dir(dir: BorrowedFd<'_>, name: &str) -> Self {
        let made = fs::statat(dir, name, fs::AtFlags::SYMLINK_NOFOLLOW).unwrap();
        Self::MakeDir {
            dir: ino(dir),
            name: name.into(),
            ino: made.st_ino,
        }
    }

    pub(super) fn create(dir: BorrowedFd<'_>, name: &str, file: BorrowedFd<'_>) -> Self {
        Self::Create {
            dir: ino(dir),
            name: name.into(),
            ino: ino(file),
        }
    }

    pub(super) fn write(
        file: BorrowedFd<'_>,
        offset: u64,
        chunks: &[Bytes],
        skip: usize,
        count: usize,
    ) -> Self {
        let bytes = chunks.concat()[skip..skip + count].to_vec();
        Self::Write {
            ino: ino(file),
            offset,
            bytes,
        }
    }

    pub(super) fn write_plain(file: BorrowedFd<'_>, offset: u64, bytes: &[u8]) -> Self {
        Self::Write {
            ino: ino(file),
            offset,
            bytes: bytes.to_vec(),
        }
    }

    pub(super) fn truncate(file: BorrowedFd<'_>, len: u64) -> Self {
        Self::Truncate {
            ino: ino(file),
            len,
        }
    }

    pub(super) fn sync_file(file: BorrowedFd<'_>) -> Self {
        Self::SyncFile { ino: ino(file) }
    }

    pub(super) fn sync_dir(dir: BorrowedFd<'_>) -> Self {
        Self::SyncDir { ino: ino(dir) }
    }

    pub(super) fn rename(dir: BorrowedFd<'_>, from: &str, to: &str) -> Self {
        Self::Rename {
            dir: ino(dir),
            from: from.into(),
            to: to.into(),
        }
    }

    pub(super) fn unlink(dir: BorrowedFd<'_>, name: &str) -> Self {
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
            | Self::Content { ino, .. } => Some(*ino),
            Self::Acknowledged { .. } => None,
        }
    }
}

fn ino(file: BorrowedFd<'_>) -> u64 {
    fs::fstat(file).unwrap().st_ino
}

/// The recordings that run, each with what its directory holds.
static RUNNING: Mutex<Vec<Running>> = Mutex::new(Vec::new());

struct Running {
    key: u64,
    /// Inodes of the files and directories made below the directory, and its own.
    inside: HashMap<u64, ()>,
    ops: Vec<Op>,
    /// After how many more changes the process kills itself.
    lives: Option<u64>,
}

fn running() -> MutexGuard<'static, Vec<Running>> {
    RUNNING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Takes note of a change.
pub(super) fn record(op: Op) {
    for running in running().iter_mut() {
        if !op
            .subject()
            .is_some_and(|ino| running.inside.contains_key(&ino))
        {
            continue;
        }
        match &op {
            Op::MakeDir { ino, .. } | Op::Create { ino, .. } => {
                running.inside.insert(*ino, ());
            }
            _ => {}
        }
        running.ops.push(op.clone());
        if let Some(lives) = &mut running.lives {
            if *lives == 0 {
                nix::sys::signal::raise(nix::sys::signal::Signal::SIGKILL).unwrap();
                loop {
                    std::thread::park();
                }
            }
            *lives -= 1;
        }
    }
}

/// Takes note of a file whose content came from another file.
pub(super) fn record_copy(target: BorrowedFd<'_>, _source: BorrowedFd<'_>) {
    let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&target));
    let bytes = std::fs::read(path).unwrap();
    record(Op::Content {
        ino: ino(target),
        bytes,
    });
}

/// Collects what happens below a directory, until dropped.
#[derive(Debug)]
pub(super) struct Recording {
    pub(super) root: u64,
}

impl Recording {
    /// Records everything made below `dir` from now on. `lives`: kill the process after so many
    /// changes.
    pub(super) fn of(dir: &std::path::Path, lives: Option<u64>) -> Self {
        let root = ino(std::fs::File::open(dir).unwrap().as_fd());
        let inside = HashMap::from([(root, ())]);
        running().push(Running {
            key: root,
            inside,
            ops: Vec::new(),
            lives,
        });
        Self { root }
    }

    /// Notes that the client was told of so many bytes.
    pub(super) fn acknowledge(&self, offset: u64) {
        let mut all = running();
        let this = all
            .iter_mut()
            .find(|running| running.key == self.root)
            .unwrap();
        this.ops.push(Op::Acknowledged { offset });
    }

    /// What happened so far.
    pub(super) fn ops(&self) -> Vec<Op> {
        running()
            .iter()
            .find(|running| running.key == self.root)
            .unwrap()
            .ops
            .clone()
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        running().retain(|running| running.key != self.root);
    }
}
