//! Byte-range locks on one lock file, and the bytes of it that this process holds: a byte for each lease.
//!
//! Decides nothing: `watcher` decides when all bytes are locked. `open` is locked before `held`, and `held` must not be
//! locked during a system call. So [`LockFile::acquire_covered`] and [`LockFile::release`] wait for no slow file
//! system.

use std::{
    collections::{HashMap, hash_map::Entry},
    fs::File,
    io,
    ops::Range,
    os::{
        fd::{AsFd, BorrowedFd},
        unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    },
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    fcntl::{FcntlArg, OFlag, fcntl},
    libc,
};

use parking_lot::Mutex;

use crate::lease::{YieldReason, YieldSignal};

/// The bytes of all leases.
const ALL: Range<u64> = 0..1 << 62;
/// Locked for reading by each process that uses the directory. Versions before it do not know it.
const PRESENCE: Range<u64> = ALL.end..ALL.end + 1;

/// A lock file, and the locks of this process in it.
///
/// Each upload is a byte of the file, which is empty: locks need no bytes. The lock belongs to the
/// open file, so it ends with the process. While no other process uses the directory, one lock covers all
/// bytes, and a lease is only an entry in memory.
#[derive(Debug)]
pub(super) struct LockFile {
    path: PathBuf,
    /// Locked during system calls, which are slow on network file systems. Lock it before `held`.
    open: Mutex<Option<OpenFile>>,
    /// Never locked during I/O.
    held: Mutex<HeldBytes>,
}

#[derive(Debug, Default)]
struct HeldBytes {
    extent: Extent,
    bytes: HashMap<u64, HeldByte>,
}

/// What is locked in the file. Changes only while the file is locked, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Extent {
    /// The held bytes.
    #[default]
    Held,
    /// All bytes.
    All,
    /// At least the held bytes.
    Shrinking,
}

#[derive(Debug)]
struct HeldByte {
    signal: YieldSignal,
    released: bool,
}

#[derive(Debug)]
struct OpenFile {
    file: File,
    device_and_inode: (u64, u64),
    present: bool,
}

impl LockFile {
    pub(super) fn new(path: PathBuf) -> Self {
        Self {
            path,
            open: Mutex::default(),
            held: Mutex::default(),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Makes no system call: `None` if one is needed, because all bytes are not locked.
    pub(super) fn acquire_covered(&self, byte: u64, signal: &YieldSignal) -> Option<bool> {
        let mut held = self.held.lock();
        (held.extent == Extent::All).then(|| {
            let new = HeldByte::new(signal);
            match held.bytes.entry(byte) {
                Entry::Vacant(vacant) => {
                    vacant.insert(new);
                }
                Entry::Occupied(mut old) if old.get().released => drop(old.insert(new)),
                Entry::Occupied(_) => return false,
            }
            true
        })
    }

    pub(super) fn acquire(&self, byte: u64, signal: &YieldSignal) -> io::Result<bool> {
        let mut open = self.open.lock();
        let file = &open_in(&mut open, &self.path)?.file;
        // The kernel would allow a second lock through the same open file.
        let still_locked = {
            let held = self.held.lock();
            match held.bytes.get(&byte) {
                Some(byte) if !byte.released => return Ok(false),
                byte => byte.is_some() || held.extent == Extent::All,
            }
        };
        let acquired = still_locked || lock(file, &(byte..byte + 1))?;
        if acquired {
            let new = HeldByte::new(signal);
            self.held.lock().bytes.insert(byte, new);
        }
        Ok(acquired)
    }

    /// Locks all bytes, unless another process has one of them. Returns whether they are locked.
    pub(super) fn cover(&self) -> io::Result<bool> {
        let mut open = self.open.lock();
        let file = &open_in(&mut open, &self.path)?.file;
        let is_covered = self.held.lock().extent == Extent::All || lock(file, &ALL)?;
        if is_covered {
            self.held.lock().extent = Extent::All;
        }
        Ok(is_covered)
    }

    /// Returns whether another process has locked a byte together with others, so that it may be free.
    pub(super) fn is_covered_by_another(&self, byte: u64) -> io::Result<bool> {
        let mut open = self.open.lock();
        let file = &open_in(&mut open, &self.path)?.file;
        Ok(conflict(file, &(byte..byte + 1))?.is_some_and(|len| len != 1))
    }

    /// Makes no system call. True if [`LockFile::unlock_released`] must follow, unless the byte is acquired
    /// again before.
    pub(super) fn release(&self, byte: u64) -> bool {
        let mut held = self.held.lock();
        if held.extent == Extent::All {
            held.bytes.remove(&byte);
            return false;
        }
        if let Some(held) = held.bytes.get_mut(&byte) {
            held.released = true;
        }
        true
    }

    pub(super) fn unlock_released(&self, byte: u64) {
        let open = self.open.lock();
        {
            let mut held = self.held.lock();
            if !held.bytes.get(&byte).is_some_and(|held| held.released) {
                return;
            }
            held.bytes.remove(&byte);
            if held.extent == Extent::All {
                return;
            }
        }
        if let Some(open) = &*open
            && let Err(error) = unlock(&open.file, &(byte..byte + 1))
        {
            tracing::error!(path = %self.path.display(), %error, "failed to release a lease");
        }
    }

    /// Unlocks all bytes but those of leases, which stay locked meanwhile.
    pub(super) fn share(&self) -> io::Result<()> {
        let open = self.open.lock();
        let mut bytes: Vec<u64> = {
            let mut held = self.held.lock();
            if held.extent == Extent::Held {
                return Ok(());
            }
            held.extent = Extent::Shrinking;
            held.bytes.keys().copied().collect()
        };
        bytes.sort_unstable();
        if let Some(open) = &*open {
            let mut from = ALL.start;
            for byte in bytes {
                unlock(&open.file, &(from..byte))?;
                from = byte + 1;
            }
            unlock(&open.file, &(from..ALL.end))?;
        }
        self.held.lock().extent = Extent::Held;
        Ok(())
    }

    /// Returns whether another process uses the directory, and shows the others that this one does, until it ends.
    pub(super) fn enter(&self) -> io::Result<bool> {
        let mut open = self.open.lock();
        let open = open_in(&mut open, &self.path)?;
        open.present = open.present || lock_shared(&open.file, &PRESENCE)?;
        Ok(conflict(&open.file, &PRESENCE)?.is_some())
    }

    pub(super) fn holds(&self, byte: u64) -> bool {
        let held = self.held.lock();
        held.bytes.get(&byte).is_some_and(|held| !held.released)
    }

    pub(super) fn raise(&self, byte: u64, reason: YieldReason) {
        if let Some(held) = self.held.lock().bytes.get(&byte) {
            held.signal.set(reason);
        }
    }

    /// Reopens a file that was removed: a lock in a removed file excludes no other process. All locks are then in
    /// the new one, but a byte that another process has locked meanwhile is lost.
    pub(super) fn check(&self) -> io::Result<()> {
        let mut current = self.open.lock();
        let Some(open) = &*current else {
            return Ok(());
        };
        if is_at(open.device_and_inode, &self.path)? {
            return Ok(());
        }
        let covers_all = {
            let mut held = self.held.lock();
            if held.bytes.is_empty() {
                held.extent = Extent::Held;
                *current = None;
                return Ok(());
            }
            held.extent == Extent::All
        };
        let mut new = OpenFile::new(&self.path)?;
        tracing::warn!(path = %self.path.display(), "the lock file was removed; created again");
        if open.present {
            new.present = lock_shared(&new.file, &PRESENCE)?;
        }
        if !(covers_all && lock(&new.file, &ALL)?) {
            let held: Vec<u64> = {
                let mut held = self.held.lock();
                held.extent = Extent::Held;
                held.bytes.keys().copied().collect()
            };
            for byte in held {
                if !lock(&new.file, &(byte..byte + 1))? {
                    self.raise(byte, YieldReason::LeaseLost);
                    // A released one needs no entry any more.
                    let is_kept =
                        |other: &u64, held: &mut HeldByte| *other != byte || !held.released;
                    self.held.lock().bytes.retain(is_kept);
                }
            }
        }
        // Closing the old file releases its locks, so only one that has them replaces it.
        *current = Some(new);
        Ok(())
    }

    #[cfg(test)]
    pub(super) fn covers_all(&self) -> bool {
        self.held.lock().extent == Extent::All
    }

    #[cfg(test)]
    pub(super) fn stall(&self) -> impl Drop + '_ {
        self.open.lock()
    }
}

impl HeldByte {
    fn new(signal: &YieldSignal) -> Self {
        Self {
            signal: signal.clone(),
            released: false,
        }
    }
}

impl OpenFile {
    fn new(path: &Path) -> io::Result<Self> {
        let file = open_or_create(path)?;
        let data = file.metadata()?;
        Ok(Self {
            file,
            device_and_inode: (data.dev(), data.ino()),
            present: false,
        })
    }
}

fn open_in<'a>(open: &'a mut Option<OpenFile>, path: &Path) -> io::Result<&'a mut OpenFile> {
    match open {
        Some(open) => Ok(open),
        closed => Ok(closed.insert(OpenFile::new(path)?)),
    }
}

fn is_at(device_and_inode: (u64, u64), path: &Path) -> io::Result<bool> {
    match path.symlink_metadata() {
        Ok(data) => Ok((data.dev(), data.ino()) == device_and_inode),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

pub(super) fn open_or_create(path: &Path) -> io::Result<File> {
    let open = || {
        File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .custom_flags(OFlag::O_NOFOLLOW.bits())
            .open(path)
    };
    match (open(), path.parent()) {
        (Err(error), Some(dir)) if error.kind() == io::ErrorKind::NotFound => {
            make_dir(dir)?;
            open()
        }
        (result, _) => result,
    }
}

pub(super) fn make_dir(dir: &Path) -> io::Result<()> {
    match std::fs::DirBuilder::new().mode(0o755).create(dir) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

/// Returns whether the bytes are locked, that is, whether no other process had one of them.
pub(crate) fn lock(file: impl AsFd, bytes: &Range<u64>) -> io::Result<bool> {
    try_set(file, bytes, libc::F_WRLCK)
}

fn lock_shared(file: impl AsFd, bytes: &Range<u64>) -> io::Result<bool> {
    try_set(file, bytes, libc::F_RDLCK)
}

fn try_set(file: impl AsFd, bytes: &Range<u64>, kind: libc::c_int) -> io::Result<bool> {
    match set(file.as_fd(), &range(bytes, kind)) {
        Ok(()) => Ok(true),
        Err(Errno::EAGAIN | Errno::EACCES) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

pub(crate) fn unlock(file: impl AsFd, bytes: &Range<u64>) -> io::Result<()> {
    // A length of 0 would be that of all bytes.
    match bytes.is_empty() {
        true => Ok(()),
        false => Ok(set(file.as_fd(), &range(bytes, libc::F_UNLCK))?),
    }
}

/// Returns the length of a lock of another process that keeps this one from locking the bytes.
#[allow(clippy::unnecessary_cast, reason = "types differ by system")]
pub(super) fn conflict(file: &File, bytes: &Range<u64>) -> io::Result<Option<u64>> {
    let mut range = range(bytes, libc::F_WRLCK);
    #[cfg(any(target_os = "linux", target_os = "android"))]
    fcntl(file, FcntlArg::F_OFD_GETLK(&mut range))?;
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    fcntl(file, FcntlArg::F_GETLK(&mut range))?;
    let is_free = range.l_type == libc::F_UNLCK as libc::c_short;
    Ok((!is_free).then_some(range.l_len as u64))
}

fn set(file: BorrowedFd<'_>, range: &libc::flock) -> nix::Result<()> {
    loop {
        // Elsewhere locks belong to the process. That is equivalent while a process has only one
        // locker for a directory.
        #[cfg(any(target_os = "linux", target_os = "android"))]
        let result = fcntl(file, FcntlArg::F_OFD_SETLK(range));
        #[cfg(not(any(target_os = "linux", target_os = "android")))]
        let result = fcntl(file, FcntlArg::F_SETLK(range));
        match result {
            Err(Errno::EINTR) => {}
            other => return other.map(drop),
        }
    }
}

#[allow(clippy::unnecessary_cast, reason = "types differ by system")]
fn range(bytes: &Range<u64>, kind: libc::c_int) -> libc::flock {
    libc::flock {
        l_type: kind as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: bytes.start as libc::off_t,
        l_len: (bytes.end - bytes.start) as libc::off_t,
        l_pid: 0,
    }
}
