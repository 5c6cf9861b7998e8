use std::{
    collections::HashMap,
    fs::File,
    io,
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    fcntl::{FcntlArg, OFlag, fcntl},
    libc,
};

use parking_lot::Mutex;

use crate::lease::{YieldReason, YieldSignal};

const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// A lock file, and the locks of this process in it.
///
/// Each upload is a byte of the file, which is empty: locks need no bytes. The lock belongs to the
/// open file, so it ends with the process.
#[derive(Debug)]
pub(super) struct LockFile {
    path: PathBuf,
    /// Locked during system calls, which are slow on network file systems. Lock it before `held`.
    open: Mutex<Option<OpenFile>>,
    /// Never locked during I/O.
    held: Mutex<HashMap<u64, HeldByte>>,
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

    pub(super) fn acquire(&self, byte: u64, signal: &YieldSignal) -> io::Result<bool> {
        let mut open = self.open.lock();
        let file = self.current(&mut open)?;
        // The kernel would allow a second lock through the same open file.
        let still_locked = match self.held.lock().get(&byte) {
            Some(held) if !held.released => return Ok(false),
            held => held.is_some(),
        };
        let acquired = still_locked || lock(file, byte)?;
        if acquired {
            let signal = signal.clone();
            let released = false;
            self.held.lock().insert(byte, HeldByte { signal, released });
        }
        Ok(acquired)
    }

    /// Makes no system call. [`LockFile::unlock_released`] must follow, unless the byte is acquired again
    /// before.
    pub(super) fn release(&self, byte: u64) {
        if let Some(held) = self.held.lock().get_mut(&byte) {
            held.released = true;
        }
    }

    pub(super) fn unlock_released(&self, byte: u64) {
        let open = self.open.lock();
        {
            let mut held = self.held.lock();
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

    pub(super) fn holds(&self, byte: u64) -> bool {
        self.held
            .lock()
            .get(&byte)
            .is_some_and(|held| !held.released)
    }

    pub(super) fn raise(&self, byte: u64, reason: YieldReason) {
        if let Some(held) = self.held.lock().get(&byte) {
            held.signal.set(reason);
        }
    }

    pub(super) fn check(&self) -> io::Result<()> {
        if self.held.lock().is_empty() {
            return Ok(());
        }
        self.current(&mut self.open.lock()).map(drop)
    }

    /// Reopens a file that was removed: a lock in a removed file excludes no other process.
    fn current<'a>(&self, current: &'a mut Option<OpenFile>) -> io::Result<&'a File> {
        // Closing the old file releases its locks, so only one that has them replaces it.
        let new = match current {
            None => Some(OpenFile::new(&self.path)?),
            Some(open) => self.replacement(open)?,
        };
        *current = new.or(current.take());
        let open = current.as_ref();
        open.map(|open| &open.file)
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// A new file, with all locks in it, if the old one is no longer at its path. A byte that another
    /// process has locked meanwhile is lost.
    fn replacement(&self, open: &mut OpenFile) -> io::Result<Option<OpenFile>> {
        if open.checked.elapsed() < CHECK_INTERVAL {
            return Ok(None);
        }
        if is_at(open.device_and_inode, &self.path)? {
            open.checked = Instant::now();
            return Ok(None);
        }
        let new = OpenFile::new(&self.path)?;
        tracing::warn!(path = %self.path.display(), "the lock file was removed; created again");
        let held: Vec<u64> = self.held.lock().keys().copied().collect();
        for byte in held {
            if !lock(&new.file, byte)? {
                self.raise(byte, YieldReason::LeaseLost);
                // A released one needs no entry any more.
                self.held
                    .lock()
                    .retain(|&other, held| other != byte || !held.released);
            }
        }
        Ok(Some(new))
    }

    #[cfg(test)]
    pub(super) fn stall(&self) -> impl Drop + '_ {
        self.open.lock()
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

#[allow(clippy::unnecessary_cast, reason = "types differ by system")]
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
fn range(byte: u64, kind: libc::c_int) -> libc::flock {
    libc::flock {
        l_type: kind as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: byte as libc::off_t,
        l_len: 1,
        l_pid: 0,
    }
}
