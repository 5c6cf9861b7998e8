//! Byte-range locks in a few files.

use std::{
    collections::HashMap,
    fs::File,
    io,
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    fcntl::{FcntlArg, OFlag, fcntl},
    libc,
};

use crate::lease::{Asked, YieldSignal};

/// How long a lock file is trusted to be the one its path leads to.
const TRUST: Duration = Duration::from_secs(1);

/// One lock file and what this process holds in it.
///
/// Each upload is a byte of the file, which has none: locks need no bytes. The lock belongs to the
/// open file, so it goes when the process dies, however it dies. The mutex is held for single system
/// calls that don't wait.
#[derive(Debug)]
pub(super) struct LockFile {
    path: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    open: Option<Open>,
    held: HashMap<u64, YieldSignal>,
}

#[derive(Debug)]
struct Open {
    file: File,
    device_and_inode: (u64, u64),
    checked: Instant,
}

impl LockFile {
    pub(super) fn new(path: PathBuf) -> Self {
        Self {
            path,
            state: Mutex::default(),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Locks `place` for the lease with `signal`, unless somebody has it.
    pub(super) fn take(&self, place: u64, signal: &YieldSignal) -> io::Result<bool> {
        let mut state = self.state();
        // The kernel wouldn't refuse a second lock through the same open file.
        if state.held.contains_key(&place) {
            return Ok(false);
        }
        let taken = lock(state.file(&self.path)?, place)?;
        if taken {
            state.held.insert(place, signal.clone());
        }
        Ok(taken)
    }

    pub(super) fn release(&self, place: u64) {
        let mut state = self.state();
        state.held.remove(&place);
        if let Some(open) = &state.open
            && let Err(error) = unlock(&open.file, place)
        {
            tracing::error!(path = %self.path.display(), %error, "a lease could not be released");
        }
    }

    /// Whether this process holds `place`.
    pub(super) fn holds(&self, place: u64) -> bool {
        self.state().held.contains_key(&place)
    }

    /// Raises the signal of the lease at `place`, if this process holds it.
    pub(super) fn raise(&self, place: u64, asked: Asked) {
        if let Some(signal) = self.state().held.get(&place) {
            signal.raise(asked);
        }
    }

    /// Checks that what is held is held where others look for it.
    pub(super) fn check(&self) -> io::Result<()> {
        let mut state = self.state();
        if !state.held.is_empty() {
            state.file(&self.path)?;
        }
        Ok(())
    }

    /// A panic under this lock leaves the map whole, so poisoning says nothing.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// The lock file, opened if it isn't, and opened anew if somebody has removed it meanwhile: a
    /// lock in a file that nobody else can open keeps nobody out.
    fn file(&mut self, path: &Path) -> io::Result<&File> {
        let open = match self.open.take() {
            None => Open::new(path)?,
            Some(mut open) => match self.replace(&mut open, path) {
                Ok(None) => open,
                Ok(Some(new)) => new,
                Err(error) => {
                    // Closing the file would let go of all that is held.
                    self.open = Some(open);
                    return Err(error);
                }
            },
        };
        Ok(&self.open.insert(open).file)
    }

    /// A new file for one that is no longer at its path, with everything held in there too. What
    /// another process has taken there already is lost.
    fn replace(&self, open: &mut Open, path: &Path) -> io::Result<Option<Open>> {
        if open.checked.elapsed() < TRUST {
            return Ok(None);
        }
        if is_at(open.device_and_inode, path)? {
            open.checked = Instant::now();
            return Ok(None);
        }
        let new = Open::new(path)?;
        tracing::warn!(path = %path.display(), "the lock file was removed; made again");
        for (&place, signal) in &self.held {
            if !lock(&new.file, place)? {
                signal.raise(Asked::Lost);
            }
        }
        Ok(Some(new))
    }
}

impl Open {
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

/// Makes a directory, unless it is there.
pub(super) fn make_dir(dir: &Path) -> io::Result<()> {
    match std::fs::create_dir(dir) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

/// Locks one byte unless somebody has it.
pub(super) fn lock(file: &File, place: u64) -> io::Result<bool> {
    match set(file, &range(place, libc::F_WRLCK)) {
        Ok(()) => Ok(true),
        Err(Errno::EAGAIN | Errno::EACCES) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

fn unlock(file: &File, place: u64) -> io::Result<()> {
    Ok(set(file, &range(place, libc::F_UNLCK))?)
}

/// Whether somebody else has locked the byte.
#[allow(
    clippy::unnecessary_cast,
    reason = "these types differ between systems"
)]
pub(super) fn is_locked(file: &File, place: u64) -> io::Result<bool> {
    let mut range = range(place, libc::F_WRLCK);
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
fn range(place: u64, kind: libc::c_int) -> libc::flock {
    libc::flock {
        l_type: kind as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: place as libc::off_t,
        l_len: 1,
        l_pid: 0,
    }
}
