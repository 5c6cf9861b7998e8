//! Account and certificate in private files: the store of one machine, or a node's copy of a shared store.
//!
//! A file is written as `….new`, synced and renamed; then the folder is synced. The lease is a lock of the file `lock`,
//! which ends with the process. Challenges are not stored. All file I/O runs on blocking threads.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use landfall_http::CertificateFiles;

use super::{CertificateStore, OrderLease, StoreError, Stored, Value};

const ACCOUNT: &str = "account.json";
const CERTIFICATE: &str = "certificate.pem";
const LOCK: &str = "lock";

/// A folder of one ACME directory, which processes of one machine may share.
///
/// Files are replaced atomically, and only their owner can read them. Chain and key are in one file, so that
/// they always belong together.
#[derive(Clone, Debug)]
pub struct FolderStore {
    dir: PathBuf,
}

impl FolderStore {
    /// Creates a store in a folder, which is created when needed.
    #[must_use]
    pub const fn new(dir: PathBuf) -> Self {
        Self { dir }
    }

    /// Returns the files for a server: key and chain are in the same one.
    #[must_use]
    pub fn certificate_files(&self) -> CertificateFiles {
        let file = self.dir.join(CERTIFICATE);
        CertificateFiles {
            chain: file.clone(),
            key: file,
        }
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Path) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let dir = self.dir.clone();
        let done = tokio::task::spawn_blocking(move || work(&dir)).await;
        done.unwrap_or_else(|error| Err(failed(&self.dir)(io::Error::other(error))))
    }

    /// Challenges are not stored: one process answers them, the one with the port.
    pub(crate) async fn store(&self, value: Value<'_>) -> Result<(), StoreError> {
        let (name, text) = match value {
            Value::Account(text) => (ACCOUNT, text.to_owned()),
            Value::Certificate(text) => (CERTIFICATE, text.to_owned()),
            Value::Challenges(_) => return Ok(()),
        };
        self.blocking(move |dir| replace(dir, name, &text)).await
    }
}

#[async_trait]
impl CertificateStore for FolderStore {
    async fn acquire(&self) -> Result<Option<Box<dyn OrderLease>>, StoreError> {
        let folder = self.clone();
        self.blocking(|dir| {
            create_dir(dir)?;
            let path = dir.join(LOCK);
            let file = private().truncate(false).open(&path);
            let file = file.map_err(failed(&path))?;
            match file.try_lock() {
                Ok(()) => Ok(Some(Box::new(FileLease {
                    folder,
                    _file: file,
                }) as Box<dyn OrderLease>)),
                Err(TryLockError::WouldBlock) => Ok(None),
                Err(TryLockError::Error(error)) => Err(failed(&path)(error)),
            }
        })
        .await
    }

    async fn get(&self) -> Result<Stored, StoreError> {
        self.blocking(|dir| {
            Ok(Stored {
                account: read(&dir.join(ACCOUNT))?,
                certificate: read(&dir.join(CERTIFICATE))?,
                challenges: Vec::new(),
            })
        })
        .await
    }

    fn is_shared(&self) -> bool {
        false
    }
}

/// The lock of the file ends with the process.
#[derive(Debug)]
struct FileLease {
    folder: FolderStore,
    _file: File,
}

#[async_trait]
impl OrderLease for FileLease {
    fn is_held(&self) -> bool {
        true
    }

    async fn store(&self, value: Value<'_>) -> Result<(), StoreError> {
        self.folder.store(value).await
    }
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    let path = path.to_owned();
    |source| StoreError::File { path, source }
}

fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).create(true).mode(0o600);
    options
}

fn create_dir(dir: &Path) -> Result<(), StoreError> {
    let created = DirBuilder::new().recursive(true).mode(0o700).create(dir);
    created.map_err(failed(dir))
}

/// Text that is not UTF-8 is damaged, like other text that cannot be parsed.
fn read(path: &Path) -> Result<Option<String>, StoreError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed(path)(error)),
    }
}

fn replace(dir: &Path, name: &str, text: &str) -> Result<(), StoreError> {
    create_dir(dir)?;
    // One process writes: with a shared store, each has its own folder.
    let (path, new) = (dir.join(name), dir.join(format!("{name}.new")));
    let write = || {
        let mut file = private().truncate(true).open(&new)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&new, &path)?;
        File::open(dir)?.sync_all()
    };
    write().map_err(failed(&path))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[tokio::test]
    async fn values_are_stored_in_private_files() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("state/acme");
        let store = FolderStore::new(folder.clone());
        assert_eq!(store.get().await.unwrap(), Stored::default());
        // A crash left a longer one.
        create_dir(&folder).unwrap();
        fs::write(folder.join("certificate.pem.new"), "damaged, and longer").unwrap();
        store.store(Value::Account("account")).await.unwrap();
        store.store(Value::Certificate("first")).await.unwrap();
        store.store(Value::Certificate("second")).await.unwrap();
        let stored = store.get().await.unwrap();
        assert_eq!(stored.account.as_deref(), Some("account"));
        assert_eq!(stored.certificate.as_deref(), Some("second"));
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&folder), 0o700);
        assert_eq!(mode(&folder.join(ACCOUNT)), 0o600);
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 2);
    }

    #[tokio::test]
    async fn errors_name_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        let error = FolderStore::new(file.clone())
            .store(Value::Account("x"))
            .await;
        let error = error.unwrap_err().to_string();
        assert!(error.starts_with(&file.display().to_string()), "{error}");
    }
}
