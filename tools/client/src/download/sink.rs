//! The file or writer that receives a download.
//!
//! A file next to the target receives the bytes, and another one has the state. Both are opened only if they are those
//! of an earlier download to the target, and else created with a name that no file has. No file of another program is
//! written, followed or removed, except the target itself if the caller named it.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::{Duration, Instant, SystemTime},
};

use bytes::{Bytes, BytesMut};
use landfall_protocol::{Algorithm, Checksum, Hasher};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncWrite, AsyncWriteExt as _};

use crate::{Error, source::blocking};

/// The bytes that are written at a time.
pub(super) const WRITE_BYTES: usize = 512 * 1024;
/// Bytes and time after which the state is stored, so that another run can continue there.
const STATE_BYTES: u64 = 16 * 1024 * 1024;
const STATE_INTERVAL: Duration = Duration::from_secs(2);
/// The state has two places in its file, which are written in turn: one is valid at any time.
const STATE_SLOT_BYTES: usize = 32 * 1024;
const STATE_SLOTS: u64 = 2;
/// Says that a file is a state of this version.
const STATE_FORMAT: &str = "landfall download 1";
/// The names that are tried for the file that receives the bytes.
const MAX_NAMES: u32 = 100;
const MAX_NAME_BYTES: usize = 255;
/// An earlier download of this process may still be ending.
const LOCK_TIMEOUT: Duration = Duration::from_secs(5);
const LOCK_RETRY_DELAY: Duration = Duration::from_millis(20);

/// The state of a running download, as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct State {
    pub(super) url: String,
    /// The value of `If-Range`.
    pub(super) validator: String,
    pub(super) length: u64,
    /// The missing bytes: first and end of each range.
    pub(super) missing: Vec<(u64, u64)>,
}

/// The content of a state file: the owner of the file that receives the bytes, and its progress.
#[derive(Debug, Serialize, Deserialize)]
struct StoredState {
    format: String,
    /// The name of the target.
    target: String,
    /// The number of the file with the bytes, where files have one. Numbers are used again.
    inode: Option<u64>,
    /// The nanoseconds from 1970 to its creation, where file systems know it.
    created: Option<u64>,
    /// The later one of two counts.
    sequence: u64,
    /// `None` if the download cannot be resumed.
    download: Option<State>,
}

/// A file that receives ranges.
#[derive(Debug)]
pub(super) struct FileSink {
    files: Arc<PartFiles>,
    target: PathBuf,
    replaces: bool,
    /// `None` if the download cannot be resumed.
    state: Mutex<Option<State>>,
    stored: Mutex<(Instant, u64)>,
}

/// The file with the bytes and that with the state, which is locked while it is open.
#[derive(Debug)]
struct PartFiles {
    part: fs::File,
    part_path: PathBuf,
    state: fs::File,
    state_path: PathBuf,
    target_name: String,
    sequence: Mutex<u64>,
}

impl FileSink {
    /// Opens the file of an earlier download of this URL, if there is one, or a new one.
    pub(super) async fn open(
        target: PathBuf,
        replaces: bool,
        url: &str,
        restart: bool,
    ) -> Result<Self, Error> {
        let url = url.to_owned();
        let opened = blocking(move || {
            expect_usable(&target, replaces)?;
            let (files, state) = PartFiles::open(&target)?;
            Ok(Self {
                files: Arc::new(files),
                target,
                replaces,
                state: Mutex::new(state.filter(|state| !restart && state.url == url)),
                stored: Mutex::new((Instant::now(), 0)),
            })
        });
        opened.await.map_err(Error::Target)
    }

    pub(super) fn state(&self) -> Option<State> {
        self.state.lock().clone()
    }

    /// Forgets all received bytes.
    pub(super) fn restart(&self) {
        *self.state.lock() = None;
    }

    /// Starts a download of a known length.
    pub(super) async fn start(&self, state: Option<State>, length: u64) -> Result<(), Error> {
        let files = self.files.clone();
        // After a power loss, too, the stored state must not describe the bytes of another download.
        let sized = blocking(move || {
            files.store(None)?;
            files.state.sync_data()?;
            files.part.set_len(0)?;
            files.part.set_len(length)
        });
        sized.await.map_err(Error::Target)?;
        *self.state.lock() = state;
        self.store().await
    }

    /// Writes bytes of the range with this number at an offset.
    pub(super) async fn write(&self, range: usize, block: Bytes, offset: u64) -> Result<(), Error> {
        let files = self.files.clone();
        let size = block.len() as u64;
        let written = blocking(move || write_all_at(&files.part, &block, offset));
        written.await.map_err(Error::Target)?;
        if let Some(state) = self.state.lock().as_mut()
            && let Some((first, _)) = state.missing.get_mut(range)
        {
            *first = offset + size;
        }
        let is_due = {
            let mut stored = self.stored.lock();
            stored.1 += size;
            let is_due = stored.1 >= STATE_BYTES || stored.0.elapsed() >= STATE_INTERVAL;
            if is_due {
                *stored = (Instant::now(), 0);
            }
            is_due
        };
        match is_due {
            true => self.store().await,
            false => Ok(()),
        }
    }

    /// Stores the state. The bytes are on the disk before, so that also a power loss leaves no gap.
    async fn store(&self) -> Result<(), Error> {
        let Some(state) = self.state() else {
            return Ok(());
        };
        let files = self.files.clone();
        let stored = blocking(move || {
            files.part.sync_data()?;
            files.store(Some(state))
        });
        stored.await.map_err(Error::Target)
    }

    /// Returns the digest of the file.
    pub(super) async fn digest(&self, wanted: &Checksum) -> Result<Vec<u8>, Error> {
        let (files, algorithm, size) = (self.files.clone(), wanted.algorithm, wanted.digest.len());
        let digest = blocking(move || {
            use io::{Read as _, Seek as _};
            let mut hasher = algorithm.hasher();
            let mut file = &files.part;
            file.rewind()?;
            let mut buffer = vec![0; WRITE_BYTES];
            loop {
                match file.read(&mut buffer)? {
                    0 => return Ok(hasher.digest(size)),
                    read => hasher.update(buffer.get(..read).unwrap_or_default()),
                }
            }
        });
        digest.await.map_err(Error::Target)
    }

    /// Gives the file the name of the target. An existing file is replaced only if the caller allows it.
    pub(super) async fn finish(&self) -> Result<(), Error> {
        self.store().await?;
        let (files, target, replaces) = (self.files.clone(), self.target.clone(), self.replaces);
        let finished = blocking(move || {
            files.part.sync_data()?;
            expect_usable(&target, replaces)?;
            if !is_at(&files.part, &files.part_path) {
                let text = format!("{} was replaced meanwhile", files.part_path.display());
                return Err(io::Error::other(text));
            }
            match replaces {
                true => fs::rename(&files.part_path, &target)?,
                false => rename_to_new(&files.part_path, &target)?,
            }
            remove(&files.state, &files.state_path)
        });
        finished.await.map_err(Error::Target)
    }

    /// Removes what was received.
    pub(super) async fn discard(&self) -> Result<(), Error> {
        let files = self.files.clone();
        let removed = blocking(move || {
            remove(&files.part, &files.part_path)?;
            remove(&files.state, &files.state_path)
        });
        removed.await.map_err(Error::Target)
    }
}

impl PartFiles {
    /// Opens those of an earlier download to this target, or new ones with names that nothing has.
    fn open(target: &Path) -> io::Result<(Self, Option<State>)> {
        let name = target.file_name().map(|name| name.to_string_lossy());
        let name = name.ok_or_else(|| io::Error::other("the target has no file name"))?;
        for number in 1..=MAX_NAMES {
            let suffix = match number {
                1 => ".part".to_owned(),
                _ => format!(".{number}.part"),
            };
            let max = MAX_NAME_BYTES.saturating_sub(suffix.len() + "-state".len());
            let part = format!(
                "{}{suffix}",
                name.get(..name.floor_char_boundary(max))
                    .unwrap_or_default()
            );
            let state_path = target.with_file_name(format!("{part}-state"));
            let part_path = target.with_file_name(part);
            let opened = match fs::symlink_metadata(&state_path) {
                Ok(_) => Self::reopen(part_path, state_path, &name)?,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    Self::create(part_path, state_path, &name)?.map(|files| (files, None))
                }
                Err(error) => return Err(error),
            };
            if let Some(opened) = opened {
                return Ok(opened);
            }
        }
        Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            "all names for the unfinished file are taken",
        ))
    }

    /// Creates both files; `None` if there is one.
    fn create(part_path: PathBuf, state_path: PathBuf, target: &str) -> io::Result<Option<Self>> {
        let create = |path: &Path| {
            let mut options = fs::OpenOptions::new();
            match options.read(true).write(true).create_new(true).open(path) {
                Ok(file) => Ok(Some(file)),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(None),
                Err(error) => Err(error),
            }
        };
        let Some(part) = create(&part_path)? else {
            return Ok(None);
        };
        let Some(state) = create(&state_path)? else {
            remove(&part, &part_path)?;
            return Ok(None);
        };
        if !lock(&state) {
            return Ok(None);
        }
        let files = Self {
            part,
            part_path,
            state,
            state_path,
            target_name: target.to_owned(),
            sequence: Mutex::new(0),
        };
        files.store(None)?;
        Ok(Some(files))
    }

    /// Opens both files if they are of a download to this target that no program continues now.
    fn reopen(
        part_path: PathBuf,
        state_path: PathBuf,
        target: &str,
    ) -> io::Result<Option<(Self, Option<State>)>> {
        let Some(state) = open_regular(&state_path) else {
            return Ok(None);
        };
        if !lock(&state) || !is_at(&state, &state_path) {
            return Ok(None);
        }
        let Some(stored) = read_state(&state).filter(|stored| stored.target == target) else {
            return Ok(None);
        };
        let Some(part) = open_regular(&part_path) else {
            return Ok(None);
        };
        let length = part.metadata()?.len();
        let agrees = match &stored.download {
            // Without numbers of files, only the length can agree.
            None => stored.inode.is_some(),
            Some(download) => download.length == length,
        };
        if !agrees || (stored.inode, stored.created) != (inode(&part), created(&part)) {
            return Ok(None);
        }
        let files = Self {
            part,
            part_path,
            state,
            state_path,
            target_name: target.to_owned(),
            sequence: Mutex::new(stored.sequence),
        };
        Ok(Some((files, stored.download)))
    }

    fn store(&self, download: Option<State>) -> io::Result<()> {
        let mut sequence = self.sequence.lock();
        let next = *sequence + 1;
        let stored = StoredState {
            format: STATE_FORMAT.into(),
            target: self.target_name.clone(),
            inode: inode(&self.part),
            created: created(&self.part),
            sequence: next,
            download,
        };
        let mut text = serde_json::to_vec(&stored)?;
        if text.len() >= STATE_SLOT_BYTES {
            // An endless URL: the download cannot be resumed.
            return Ok(());
        }
        text.resize(STATE_SLOT_BYTES - 1, b' ');
        text.push(b'\n');
        let slot = next % STATE_SLOTS;
        write_all_at(&self.state, &text, slot * STATE_SLOT_BYTES as u64)?;
        *sequence = next;
        Ok(())
    }
}

/// Returns the later one of the valid states of a file.
fn read_state(file: &fs::File) -> Option<StoredState> {
    use io::Read as _;
    let mut text = Vec::new();
    let limit = STATE_SLOTS * STATE_SLOT_BYTES as u64;
    file.take(limit).read_to_end(&mut text).ok()?;
    let slots = text.chunks(STATE_SLOT_BYTES);
    let stored = slots.filter_map(|slot| serde_json::from_slice::<StoredState>(slot).ok());
    let is_valid = |stored: &StoredState| {
        let mut ranges = stored.download.iter().flat_map(|download| {
            let length = download.length;
            let ranges = download.missing.iter();
            ranges.map(move |(first, end)| first <= end && *end <= length)
        });
        stored.format == STATE_FORMAT && ranges.all(|is_valid| is_valid)
    };
    stored.filter(is_valid).max_by_key(|stored| stored.sequence)
}

/// Opens a file for reading and writing, if the path is that of a regular file and of no link.
fn open_regular(path: &Path) -> Option<fs::File> {
    // A pipe would wait for its other end.
    if !fs::symlink_metadata(path).ok()?.is_file() {
        return None;
    }
    let file = fs::OpenOptions::new().read(true).write(true).open(path);
    file.ok().filter(|file| is_at(file, path))
}

/// Returns whether the path is that of this file itself, and the file has no other path.
fn is_at(file: &fs::File, path: &Path) -> bool {
    let (Ok(open), Ok(found)) = (file.metadata(), fs::symlink_metadata(path)) else {
        return false;
    };
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt as _;
        if (open.dev(), open.ino()) != (found.dev(), found.ino()) || open.nlink() != 1 {
            return false;
        }
    }
    open.is_file() && found.is_file()
}

#[cfg(unix)]
fn inode(file: &fs::File) -> Option<u64> {
    use std::os::unix::fs::MetadataExt as _;
    file.metadata().ok().map(|found| found.ino())
}

#[cfg(not(unix))]
fn inode(_: &fs::File) -> Option<u64> {
    None
}

fn created(file: &fs::File) -> Option<u64> {
    let time = file.metadata().ok()?.created().ok()?;
    let since = time.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    u64::try_from(since.as_nanos()).ok()
}

/// Locks a file while it is open. Returns false if another download has it.
fn lock(file: &fs::File) -> bool {
    let deadline = Instant::now() + LOCK_TIMEOUT;
    loop {
        match file.try_lock() {
            Err(fs::TryLockError::WouldBlock) if Instant::now() < deadline => {
                thread::sleep(LOCK_RETRY_DELAY);
            }
            Err(fs::TryLockError::WouldBlock) => return false,
            // Not all file systems have locks.
            Ok(()) | Err(fs::TryLockError::Error(_)) => return true,
        }
    }
}

/// Fails if the target cannot become the downloaded file.
fn expect_usable(target: &Path, replaces: bool) -> io::Result<()> {
    if !replaces && fs::symlink_metadata(target).is_ok() {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    match fs::metadata(target) {
        Ok(found) if found.is_dir() => Err(io::ErrorKind::IsADirectory.into()),
        // A rename would remove a device or pipe.
        Ok(found) if !found.is_file() => Err(io::Error::other("the target is no regular file")),
        _ => Ok(()),
    }
}

/// Renames a file, and fails if the target exists.
fn rename_to_new(from: &Path, to: &Path) -> io::Result<()> {
    match fs::hard_link(from, to) {
        Ok(()) => fs::remove_file(from),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(error),
        // Not all file systems have hard links: the renamed file replaces one that was made for that.
        Err(_) => {
            fs::OpenOptions::new()
                .write(true)
                .create_new(true)
                .open(to)?;
            fs::rename(from, to)
        }
    }
}

/// Removes a file that is open, unless its path is that of another one.
fn remove(file: &fs::File, path: &Path) -> io::Result<()> {
    match is_at(file, path) {
        true => fs::remove_file(path),
        false => Ok(()),
    }
}

/// A writer that receives all bytes in order.
pub(super) struct WriterSink {
    writer: Box<dyn AsyncWrite + Send + Unpin>,
    hasher: Option<(Algorithm, Hasher)>,
}

impl WriterSink {
    pub(super) fn new(writer: Box<dyn AsyncWrite + Send + Unpin>) -> Self {
        Self {
            writer,
            hasher: None,
        }
    }

    /// Computes a digest from now on.
    pub(super) fn start(&mut self, wanted: Option<&Checksum>) {
        self.hasher = wanted.map(|wanted| (wanted.algorithm, wanted.algorithm.hasher()));
    }

    /// Writes what is in the buffer. Cancel safe: it holds what was not written.
    pub(super) async fn write(
        &mut self,
        buffer: &mut BytesMut,
        written: &mut u64,
    ) -> Result<(), Error> {
        while !buffer.is_empty() {
            let size = self.writer.write(buffer).await.map_err(Error::Target)?;
            if size == 0 {
                return Err(Error::Target(io::ErrorKind::WriteZero.into()));
            }
            let done = buffer.split_to(size);
            if let Some((_, hasher)) = &mut self.hasher {
                hasher.update(&done);
            }
            *written += size as u64;
        }
        Ok(())
    }

    /// Flushes the writer, and returns the digest.
    pub(super) async fn finish(
        &mut self,
        wanted: Option<&Checksum>,
    ) -> Result<Option<Vec<u8>>, Error> {
        self.writer.flush().await.map_err(Error::Target)?;
        let size = wanted.map_or(0, |wanted| wanted.digest.len());
        Ok(self.hasher.take().map(|(_, hasher)| hasher.digest(size)))
    }
}

fn write_all_at(file: &fs::File, block: &[u8], offset: u64) -> io::Result<()> {
    #[cfg(unix)]
    {
        std::os::unix::fs::FileExt::write_all_at(file, block, offset)
    }
    #[cfg(windows)]
    {
        let mut written = 0;
        while written < block.len() {
            let rest = block.get(written..).unwrap_or_default();
            match std::os::windows::fs::FileExt::seek_write(file, rest, offset + written as u64)? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                size => written += size,
            }
        }
        Ok(())
    }
}
