//! The file or writer that receives a download.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
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

/// A file that receives ranges.
#[derive(Debug)]
pub(super) struct FileSink {
    file: Arc<fs::File>,
    target: PathBuf,
    /// `None` if the download cannot be resumed.
    state: Mutex<Option<State>>,
    stored: Mutex<(Instant, u64)>,
}

impl FileSink {
    /// Opens the file of an earlier download of this URL, if there is one, or a new one.
    pub(super) async fn open(target: PathBuf, url: &str, restart: bool) -> Result<Self, Error> {
        let url = url.to_owned();
        let opened = blocking(move || {
            let part = with_suffix(&target, "part");
            let state = match restart {
                true => None,
                false => read_state(&target).filter(|state| state.url == url),
            };
            let state = state
                .filter(|state| fs::metadata(&part).is_ok_and(|found| found.len() == state.length));
            let mut options = fs::OpenOptions::new();
            options.read(true).write(true).create(true);
            let file = options.truncate(state.is_none()).open(&part)?;
            Ok(Self {
                file: Arc::new(file),
                target,
                state: Mutex::new(state),
                stored: Mutex::new((Instant::now(), 0)),
            })
        });
        opened.await.map_err(Error::Target)
    }

    pub(super) fn state(&self) -> Option<State> {
        self.state.lock().clone()
    }

    /// Starts a download of a known length.
    pub(super) async fn start(&self, state: Option<State>, length: u64) -> Result<(), Error> {
        let file = self.file.clone();
        let sized = blocking(move || {
            file.set_len(0)?;
            file.set_len(length)
        });
        sized.await.map_err(Error::Target)?;
        *self.state.lock() = state;
        self.store().await
    }

    /// Writes bytes of the range with this number at an offset.
    pub(super) async fn write(&self, range: usize, block: Bytes, offset: u64) -> Result<(), Error> {
        let file = self.file.clone();
        let size = block.len() as u64;
        let written = blocking(move || write_all_at(&file, &block, offset));
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
        let (file, target) = (self.file.clone(), self.target.clone());
        let stored = blocking(move || {
            file.sync_data()?;
            let text = serde_json::to_vec(&state)?;
            let temporary = with_suffix(&target, "part-state.tmp");
            fs::write(&temporary, text)?;
            fs::rename(temporary, with_suffix(&target, "part-state"))
        });
        stored.await.map_err(Error::Target)
    }

    /// Returns the digest of the file.
    pub(super) async fn digest(&self, wanted: &Checksum) -> Result<Vec<u8>, Error> {
        let (file, algorithm, size) = (self.file.clone(), wanted.algorithm, wanted.digest.len());
        let digest = blocking(move || {
            use io::{Read as _, Seek as _};
            let mut hasher = algorithm.hasher();
            let mut file = &*file;
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

    /// Replaces the target.
    pub(super) async fn finish(&self) -> Result<(), Error> {
        let (file, target) = (self.file.clone(), self.target.clone());
        let finished = blocking(move || {
            file.sync_data()?;
            fs::rename(with_suffix(&target, "part"), &target)?;
            remove_if_exists(&with_suffix(&target, "part-state"))
        });
        finished.await.map_err(Error::Target)
    }

    /// Removes what was received.
    pub(super) async fn discard(&self) -> Result<(), Error> {
        let target = self.target.clone();
        let removed = blocking(move || {
            remove_if_exists(&with_suffix(&target, "part-state"))?;
            remove_if_exists(&with_suffix(&target, "part"))
        });
        removed.await.map_err(Error::Target)
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

fn read_state(target: &Path) -> Option<State> {
    let text = fs::read(with_suffix(target, "part-state")).ok()?;
    let state: State = serde_json::from_slice(&text).ok()?;
    let is_valid = |(first, end): &(u64, u64)| first <= end && *end <= state.length;
    state.missing.iter().all(is_valid).then_some(state)
}

/// Returns the path with another extension after its own.
fn with_suffix(target: &Path, extension: &str) -> PathBuf {
    let mut name = target.as_os_str().to_owned();
    name.push(".");
    name.push(extension);
    name.into()
}

fn remove_if_exists(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
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
