//! Uploads: in memory, or each in its own file.

use std::{
    collections::HashMap,
    fs::{self, File},
    io::{self, ErrorKind},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

/// The uploads of a server.
#[derive(Debug)]
pub(crate) struct Store {
    next: AtomicU64,
    place: Place,
}

#[derive(Debug)]
enum Place {
    Memory(Mutex<HashMap<String, Vec<u8>>>),
    Folder(PathBuf),
}

/// An upload that receives a body.
#[derive(Debug)]
pub(crate) struct Append {
    id: String,
    offset: u64,
    target: Target,
}

#[derive(Debug)]
enum Target {
    Memory(Vec<u8>),
    File(File),
}

impl Append {
    /// Writes at the current offset.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.target {
            Target::Memory(body) => body.extend_from_slice(bytes),
            Target::File(file) => file.write_all_at(bytes, self.offset)?,
        }
        self.offset += bytes.len() as u64;
        Ok(())
    }
}

impl Store {
    /// Stores in memory.
    pub(crate) fn memory() -> Self {
        Self {
            next: AtomicU64::new(1),
            place: Place::Memory(Mutex::default()),
        }
    }

    /// Stores in files of `folder`, which is created.
    pub(crate) fn folder(folder: &Path) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        Ok(Self {
            next: AtomicU64::new(1),
            place: Place::Folder(folder.into()),
        })
    }

    /// Creates an upload.
    pub(crate) fn create(&self) -> io::Result<Append> {
        let id = self.next.fetch_add(1, Relaxed).to_string();
        let target = match &self.place {
            Place::Memory(_) => Target::Memory(Vec::new()),
            Place::Folder(folder) => Target::File(File::create_new(folder.join(&id))?),
        };
        Ok(Append {
            id,
            offset: 0,
            target,
        })
    }

    /// Continues an upload at `offset`.
    pub(crate) fn append(&self, id: &str, offset: u64) -> io::Result<Append> {
        let target = match &self.place {
            Place::Memory(uploads) => {
                let body = lock(uploads).remove(id);
                Target::Memory(body.ok_or(ErrorKind::NotFound)?)
            }
            Place::Folder(folder) => {
                Target::File(File::options().write(true).open(folder.join(id))?)
            }
        };
        Ok(Append {
            id: id.into(),
            offset,
            target,
        })
    }

    /// Ends an append; returns the id and the offset.
    pub(crate) fn end(&self, append: Append) -> (String, u64) {
        if let (Place::Memory(uploads), Target::Memory(body)) = (&self.place, append.target) {
            lock(uploads).insert(append.id.clone(), body);
        }
        (append.id, append.offset)
    }

    /// Returns the length of what is stored.
    pub(crate) fn offset(&self, id: &str) -> io::Result<u64> {
        match &self.place {
            Place::Memory(uploads) => match lock(uploads).get(id) {
                Some(body) => Ok(body.len() as u64),
                None => Err(ErrorKind::NotFound.into()),
            },
            Place::Folder(folder) => Ok(fs::symlink_metadata(folder.join(id))?.len()),
        }
    }

    /// Returns the content.
    pub(crate) fn read(&self, id: &str) -> io::Result<Vec<u8>> {
        match &self.place {
            Place::Memory(uploads) => {
                let body = lock(uploads).get(id).cloned();
                body.ok_or_else(|| ErrorKind::NotFound.into())
            }
            Place::Folder(folder) => fs::read(folder.join(id)),
        }
    }
}

fn lock(uploads: &Mutex<HashMap<String, Vec<u8>>>) -> MutexGuard<'_, HashMap<String, Vec<u8>>> {
    uploads.lock().unwrap_or_else(PoisonError::into_inner)
}
