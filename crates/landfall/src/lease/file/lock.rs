//! Byte-range locks in a few files.

use std::{
    collections::HashMap,
    fs::File,
    io,
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    fcntl::{FcntlArg, OFlag, fcntl},
    libc,
};

use crate::lease::{YieldReason, YieldSignal};

/// How long a lock file is trusted to be the one its path leads to.
const TRUSTED_FOR: Duration = Duration::from_secs(1);

/// One lock file and what this process holds in it.
///
/// Each upload is a byte of the file, which has none: locks need no bytes. The lock belongs to the
/// open file, so it goes when the process dies, however it dies.
#[derive(Debug)]
pub(super) struct LockFile {
    path: PathBuf,
    /// Locked during system calls, which take long on a network file system. Locked before `held`.
    open: Mutex<Option<OpenFile>>,
    /// Locked for moments only.
    held: Mutex<HashMap<u64, HeldByte>>,
}

#[derive(Debug)]
struct HeldByte {
    signal: YieldSignal,
    /// Nobody has the lease any more, but the byte is still locked.
    released: bool,
}

#[derive(Debug)]
struct OpenFile {
    file: File,
    device_and_inode: (u64, u64),
    checked: Instant,
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

    /// Locks a byte for the lease with `signal`, unless somebody has it.
    pub(super) fn take(&self, byte: u64, signal: &YieldSignal) -> io::Result<bool> {
        let mut open = self.open();
        let file = self.current(&mut open)?;
        // The kernel wouldn't refuse a second lock through the same open file.
        let still_locked = match self.held().get(&byte) {
            Some(held) if !held.released => return Ok(false),
            held => held.is_some(),
        };
        let taken = still_locked || lock(file, byte)?;
        if taken {
            let signal = signal.clone();
            let released = false;
            self.held().insert(byte, HeldByte { signal, released });
        }
        Ok(taken)
    }

    /// Gives up a byte, without a system call: [`LockFile::unlock_released`] has to follow, unless the
    /// byte is taken again before.
    pub(super) fn release(&self, byte: u64) {
        if let Some(held) = self.held().get_mut(&byte) {
            held.released = true;
        }
    }

    /// Unlocks a byte if it has been given up.
    pub(super) fn unlock_released(&self, byte: u64) {
        let open = self.open();
        {
            let mut held = self.held();
            if !held.get(&byte).is_some_and(|held| held.released) {
                return;
            }
            held.remove(&byte);
        }
        if let Some(open) = &*open
            && let Err(error) = unlock(&open.file, byte)
        {
            tracing::error!(path = %self.path.display(), %error, "failed to release a lease");
        }
    }

    /// Whether this process holds a byte.
    pub(super) fn holds(&self, byte: u64) -> bool {
        self.held().get(&byte).is_some_and(|held| !held.released)
    }

    /// Raises the signal of the lease at a byte, if this process holds it.
    pub(super) fn raise(&self, byte: u64, asked: YieldReason) {
        if let Some(held) = self.held().get(&byte) {
            held.signal.set(asked);
        }
    }

    /// Checks that what is held is held where others look for it.
    pub(super) fn check(&self) -> io::Result<()> {
        if self.held().is_empty() {
            return Ok(());
        }
        self.current(&mut self.open()).map(drop)
    }

    /// The lock file, opened if it isn't, and opened anew if somebody has removed it meanwhile: a
    /// lock in a file that nobody else can open keeps nobody out.
    fn current<'a>(&self, slot: &'a mut Option<OpenFile>) -> io::Result<&'a File> {
        let open = match slot.take() {
            None => OpenFile::new(&self.path)?,
            Some(mut open) => match self.replacement(&mut open) {
                Ok(None) => open,
                Ok(Some(new)) => new,
                Err(error) => {
                    // Closing the file would let go of all that is held.
                    *slot = Some(open);
                    return Err(error);
                }
            },
        };
        Ok(&slot.insert(open).file)
    }

    /// A new file for one that is no longer at its path, with everything held in there too. What
    /// another process has taken there already is lost.
    fn replacement(&self, open: &mut OpenFile) -> io::Result<Option<OpenFile>> {
        if open.checked.elapsed() < TRUSTED_FOR {
            return Ok(None);
        }
        if is_at(open.device_and_inode, &self.path)? {
            open.checked = Instant::now();
            return Ok(None);
        }
        let new = OpenFile::new(&self.path)?;
        tracing::warn!(path = %self.path.display(), "the lock file was removed; created again");
        let held: Vec<u64> = self.held().keys().copied().collect();
        for byte in held {
            if !lock(&new.file, byte)? {
                self.raise(byte, YieldReason::LeaseLost);
                // Of one that was given up nothing is left.
                self.held()
                    .retain(|&other, held| other != byte || !held.released);
            }
        }
        Ok(Some(new))
    }

    /// For tests that need a system call to take long.
    #[cfg(test)]
    pub(super) fn stall(&self) -> impl Drop + '_ {
        self.open()
    }

    /// A panic under these locks leaves what they protect whole, so poisoning says nothing.
    fn open(&self) -> MutexGuard<'_, Option<OpenFile>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn held(&self) -> MutexGuard<'_, HashMap<u64, HeldByte>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl OpenFile {
    fn new(path: &Path) -> io::Result<Self> {
        let file = open_or_create(path)?;
        let data = file.metadata()?;
        Ok(Self {
            file,
            device_and_inode: (data.dev(), data.ino()),
            checked: Instant::now(),
        })
    }
}

fn is_at(device_and_inode: (u64, u64), path: &Path) -> io::Result<bool> {
    match path.symlink_metadata() {
        Ok(data) => Ok((data.dev(), data.ino()) == device_and_inode),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Opens a file for locking, making it and its directory (not the directory above) where missing.
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

/// Makes a directory that only this user may change, unless it is there.
pub(super) fn make_dir(dir: &Path) -> io::Result<()> {
    match std::fs::DirBuilder::new().mode(0o755).create(dir) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

/// Locks one byte unless somebody has it.
pub(super) fn lock(file: &File, byte: u64) -> io::Result<bool> {
    match set(file, &range(byte, libc::F_WRLCK)) {
        Ok(()) => Ok(true),
        Err(Errno::EAGAIN | Errno::EACCES) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

fn unlock(file: &File, byte: u64) -> io::Result<()> {
    Ok(set(file, &range(byte, libc::F_UNLCK))?)
}

/// Whether somebody else has locked the byte.
#[allow(
    clippy::unnecessary_cast,
    reason = "these types differ between systems"
)]
pub(super) fn is_locked(file: &File, byte: u64) -> io::Result<bool> {
    let mut range = range(byte, libc::F_WRLCK);
    #[cfg(any(target_os = "linux", target_os = "android"))]
    fcntl(file, FcntlArg::F_OFD_GETLK(&mut range))?;
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    fcntl(file, FcntlArg::F_GETLK(&mut range))?;
    Ok(range.l_type != libc::F_UNLCK as libc::c_short)
}

fn set(file: &File, range: &libc::flock) -> nix::Result<()> {
    loop {
        // Where locks can't belong to an open file they belong to the process. That does as well, as
        // long as there is one locker for a directory in a process.
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

#[allow(
    clippy::unnecessary_cast,
    reason = "these types differ between systems"
)]
fn range(byte: u64, kind: libc::c_int) -> libc::flock {
    libc::flock {
        l_type: kind as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: byte as libc::off_t,
        l_len: 1,
        l_pid: 0,
    }
}
