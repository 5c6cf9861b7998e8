//! Where fingerprints are stored.

use std::{
    collections::HashMap,
    fmt, fs, io,
    path::PathBuf,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use parking_lot::Mutex;

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
/// start anew.
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
}

impl FingerprintStore for FileFingerprints {
    fn get(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        none_if_missing(fs::read(self.directory.join(name)))
    }

    fn set(&self, name: &str, record: &[u8]) -> io::Result<()> {
        static COUNTER: AtomicU64 = AtomicU64::new(0);
        let count = COUNTER.fetch_add(1, Relaxed);
        let target = self.directory.join(name);
        let temporary = target.with_extension(format!("{}-{count}.tmp", std::process::id()));
        if fs::write(&temporary, record).is_err() {
            fs::create_dir_all(&self.directory)?;
            fs::write(&temporary, record)?;
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
