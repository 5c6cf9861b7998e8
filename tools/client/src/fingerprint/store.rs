//! Stores of fingerprints.

use std::{
    collections::HashMap,
    fmt, fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use parking_lot::Mutex;

use super::{Record, StoredUpload};

/// The number of stored records after which old ones are removed.
const CLEANUP_INTERVAL: u64 = 1000;
/// For how long it is remembered that a file was uploaded.
const FINISHED_LIFETIME: Duration = Duration::from_secs(30 * 24 * 3600);

/// A store of fingerprints. Each is a small record under a short name of hexadecimal digits.
///
/// Calls may block for the time of a small file operation. Threads may call concurrently.
pub trait FingerprintStore: fmt::Debug + Send + Sync {
    /// Returns a record.
    ///
    /// # Errors
    /// If the store cannot be read.
    fn get(&self, name: &str) -> io::Result<Option<Vec<u8>>>;

    /// Stores a record atomically: after a crash of the program there is the old or the new one.
    ///
    /// # Errors
    /// If the store cannot be written.
    fn set(&self, name: &str, record: &[u8]) -> io::Result<()>;

    /// Removes a record, if there is one.
    ///
    /// # Errors
    /// If the store cannot be written.
    fn remove(&self, name: &str) -> io::Result<()>;
}

/// Fingerprints as files of one directory, which is created when needed.
///
/// Several programs may use the same directory. Records are not synced to the disk: after a power loss an upload may
/// start again.
#[derive(Debug, Clone)]
pub struct FileFingerprints {
    directory: PathBuf,
}

/// Fingerprints in memory, for tests and programs that resume only while they run.
#[derive(Debug, Default)]
pub struct MemoryFingerprints(Mutex<HashMap<String, Vec<u8>>>);

impl FileFingerprints {
    /// Creates a store in this directory.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self {
            directory: directory.into(),
        }
    }

    /// Creates a store in the user's directory for state: `$XDG_STATE_HOME/landfall/uploads`, by default
    /// `~/.local/state/landfall/uploads`. `None` without a home directory.
    #[must_use]
    pub fn in_state_directory() -> Option<Self> {
        let state = std::env::var_os("XDG_STATE_HOME").map(PathBuf::from);
        let state = state.filter(|path| path.is_absolute());
        let state = state.or_else(|| Some(std::env::home_dir()?.join(".local/state")))?;
        Some(Self::new(state.join("landfall/uploads")))
    }

    /// Removes records of uploads that finished long ago.
    fn remove_old(&self) -> io::Result<()> {
        let Some(entries) = none_if_missing(fs::read_dir(&self.directory))? else {
            return Ok(());
        };
        for entry in entries {
            let path = entry?.path();
            let modified = fs::metadata(&path).and_then(|metadata| metadata.modified());
            let age = modified.ok().and_then(|at| at.elapsed().ok());
            if age.is_some_and(|age| age > FINISHED_LIFETIME)
                && let Some(record) = none_if_missing(fs::read(&path))?
                && Record::decode(&record).is_some_and(|record| record.finished)
            {
                none_if_missing(fs::remove_file(&path))?;
            }
        }
        Ok(())
    }

    /// Returns the unfinished uploads, the oldest first. Damaged records are skipped.
    ///
    /// # Errors
    /// If the directory cannot be read.
    pub fn list(&self) -> io::Result<Vec<StoredUpload>> {
        let Some(entries) = none_if_missing(fs::read_dir(&self.directory))? else {
            return Ok(Vec::new());
        };
        let mut uploads = Vec::new();
        for entry in entries {
            let name = entry?.file_name();
            let Some(name) = name.to_str().filter(|name| !name.ends_with(".tmp")) else {
                continue;
            };
            if let Some(record) = self.get(name)? {
                uploads.extend(StoredUpload::decode(name.to_owned(), &record));
            }
        }
        uploads.sort_by_key(|upload| upload.created);
        Ok(uploads)
    }
}

impl FingerprintStore for FileFingerprints {
    fn get(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        none_if_missing(fs::read(self.directory.join(name)))
    }

    fn set(&self, name: &str, record: &[u8]) -> io::Result<()> {
        static COUNTER: AtomicU64 = AtomicU64::new(0);
        let count = COUNTER.fetch_add(1, Relaxed);
        if count.is_multiple_of(CLEANUP_INTERVAL) {
            self.remove_old()?;
        }
        let target = self.directory.join(name);
        let temporary = target.with_extension(format!("{}-{count}.tmp", std::process::id()));
        if write_private(&temporary, record).is_err() {
            create_private(&self.directory)?;
            write_private(&temporary, record)?;
        }
        fs::rename(&temporary, &target).inspect_err(|_| {
            // The first error is the one to report.
            let _ = fs::remove_file(&temporary);
        })
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        none_if_missing(fs::remove_file(self.directory.join(name))).map(|_| ())
    }
}

/// Creates a file that only the user can read: the URL of an upload is a secret.
fn write_private(path: &Path, text: &[u8]) -> io::Result<()> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)?.write_all(text)
}

fn create_private(path: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

fn none_if_missing<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        other => other.map(Some),
    }
}

impl FingerprintStore for MemoryFingerprints {
    fn get(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        Ok(self.0.lock().get(name).cloned())
    }

    fn set(&self, name: &str, record: &[u8]) -> io::Result<()> {
        self.0.lock().insert(name.to_owned(), record.to_owned());
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.0.lock().remove(name);
        Ok(())
    }
}

impl<S: FingerprintStore + ?Sized> FingerprintStore for std::sync::Arc<S> {
    fn get(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        (**self).get(name)
    }

    fn set(&self, name: &str, record: &[u8]) -> io::Result<()> {
        (**self).set(name, record)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        (**self).remove(name)
    }
}
