//! Files that responses read. A response whose client takes nothing would keep its file open for as long, so only
//! those that were read last stay open; the others are opened again when they continue.

use std::{
    os::fd::{AsFd as _, OwnedFd},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::BytesMut;

use super::{
    Inner,
    failure::failed,
    sys::{self, CachedRead, FileVersion},
};
use crate::{
    store::{RecentlyUsed, Result, StoreError},
    upload::UploadId,
};

/// Besides those that are being read, whose number the pool limits.
const MAX_IDLE: usize = 64;

/// The open files that are not being read.
pub(super) fn idle_files() -> RecentlyUsed<OwnedFd> {
    RecentlyUsed::new(MAX_IDLE, Duration::ZERO)
}

/// The file of one response.
pub(super) struct ReadFile {
    inner: Arc<Inner>,
    id: UploadId,
    path: Arc<str>,
    opened: FileVersion,
    /// The upload was complete: nothing may change any more.
    is_complete: bool,
    /// Of the idle file; 0 for none.
    key: AtomicU64,
}

impl ReadFile {
    pub(super) fn open(inner: Arc<Inner>, id: UploadId, length: Option<u64>) -> Result<Self> {
        let path = inner.data_path(&id)?;
        let opened = inner.open_versioned(&path, sys::open_read);
        let (file, version) = opened.map_err(|error| failed(&id, "opening the data", error))?;
        let key = inner.idle_files.insert(file).into();
        Ok(Self {
            inner,
            id,
            path,
            opened: version,
            is_complete: length == Some(version.size),
            key,
        })
    }

    pub(super) fn id(&self) -> &UploadId {
        &self.id
    }

    /// As it was when it was opened.
    pub(super) fn version(&self) -> &FileVersion {
        &self.opened
    }

    fn keep(&self, file: OwnedFd) {
        self.key.store(self.inner.idle_files.insert(file), Relaxed);
    }

    fn take(&self) -> Option<OwnedFd> {
        self.inner.idle_files.take(self.key.swap(0, Relaxed))
    }

    /// The bytes before may be those of another file.
    fn reopen(&self) -> Result<OwnedFd> {
        let opened = self.inner.open_versioned(&self.path, sys::open_read);
        let (file, version) =
            opened.map_err(|error| failed(&self.id, "opening the data again", error))?;
        if !version.continues(&self.opened, self.is_complete) {
            let what = "its file was replaced or changed while it was read";
            return Err(StoreError::damaged(&self.id, what));
        }
        Ok(file)
    }

    /// Reads from the page cache of a file that is open, and does not block.
    pub(super) fn read_cached(&self, buffer: &mut BytesMut, len: usize, at: u64) -> CachedRead {
        let Some(file) = self.take() else {
            return CachedRead::Unknown;
        };
        let read = sys::read_cached(file.as_fd(), buffer, len, at);
        self.keep(file);
        read
    }

    /// Blocks.
    pub(super) fn read(&self, buffer: &mut BytesMut, len: usize, at: u64) -> Result<()> {
        let file = self.take().map_or_else(|| self.reopen(), Ok)?;
        let read = sys::read_into(file.as_fd(), buffer, len, at);
        self.keep(file);
        read.map_err(|error| failed(&self.id, "reading the data", error))
    }
}

impl Drop for ReadFile {
    fn drop(&mut self) {
        drop(self.take());
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use futures_util::{StreamExt as _, TryStreamExt as _};

    use super::*;
    use crate::{
        lease::Fence,
        store::{
            ByteStream, Read as _, Store as _,
            file::{FileOptions, FileStore},
        },
        upload::Upload,
    };

    const LENGTH: usize = 200_000;

    struct Stored {
        dir: tempfile::TempDir,
        store: FileStore,
        upload: Arc<Upload>,
        bytes: Vec<u8>,
    }

    impl Stored {
        /// An upload with these bytes, of this length.
        async fn new(bytes: usize, length: usize) -> Self {
            let dir = tempfile::tempdir().unwrap();
            let store = FileStore::open(dir.path(), FileOptions::default()).unwrap();
            let bytes: Vec<u8> = (0..bytes).map(|n| (n % 251) as u8).collect();
            let upload = Upload::new(UploadId::random(), Some(length as u64));
            let created = store.create_append(upload, Fence(1)).await.unwrap();
            let (upload, mut append) = created;
            append
                .write(&mut vec![Bytes::from(bytes.clone())])
                .await
                .unwrap();
            append.commit().await.unwrap();
            Self {
                dir,
                store,
                upload,
                bytes,
            }
        }

        fn path(&self) -> std::path::PathBuf {
            self.dir.path().join(self.upload.id.as_str())
        }

        async fn read(&self) -> ByteStream {
            let range = 0..self.bytes.len() as u64;
            self.store.read(&self.upload, range).await.unwrap()
        }

        fn open_files(&self) -> usize {
            let names = std::fs::read_dir("/proc/self/fd").unwrap();
            let links = names.filter_map(|name| std::fs::read_link(name.unwrap().path()).ok());
            links.filter(|link| *link == self.path()).count()
        }

        /// Returns a response that has begun, and whose file is closed.
        async fn begun(&self) -> ByteStream {
            let mut begun = self.read().await;
            begun.next().await.unwrap().unwrap();
            for _ in 0..MAX_IDLE {
                self.store.0.idle_files.insert(self.file());
            }
            begun
        }

        fn file(&self) -> OwnedFd {
            std::fs::File::open(self.path()).unwrap().into()
        }
    }

    async fn rest(stream: ByteStream) -> Result<Vec<u8>> {
        let chunks: Vec<Bytes> = stream.try_collect().await?;
        Ok(chunks.concat())
    }

    #[tokio::test]
    async fn many_waiting_responses_hold_few_files_and_small_chunks() {
        let stored = Stored::new(LENGTH, LENGTH).await;
        let mut reading = Vec::new();
        for _ in 0..5 * MAX_IDLE {
            let mut stream = stored.read().await;
            let first = stream.next().await.unwrap().unwrap();
            assert!(first.len() <= 64 * 1024);
            reading.push((stream, first.to_vec()));
        }
        assert!(stored.open_files() <= MAX_IDLE, "{}", stored.open_files());
        // Each continues where it was.
        while reading[0].1.len() < LENGTH {
            for (stream, bytes) in &mut reading {
                bytes.extend(stream.next().await.unwrap().unwrap());
            }
        }
        for (mut stream, bytes) in reading {
            assert!(stream.next().await.is_none() && bytes == stored.bytes);
        }
        assert_eq!(stored.open_files(), 0);
    }

    #[tokio::test]
    async fn a_replaced_or_changed_file_is_not_mixed_with_the_earlier_one() {
        type Change = fn(&Stored);
        let changes: [Change; 4] = [
            |stored| {
                let other = stored.dir.path().join("other");
                std::fs::write(&other, vec![9; LENGTH]).unwrap();
                std::fs::rename(other, stored.path()).unwrap();
            },
            |stored| std::fs::write(stored.path(), vec![9; LENGTH + 1]).unwrap(),
            |stored| std::fs::write(stored.path(), vec![9; LENGTH - 1]).unwrap(),
            |stored| std::fs::remove_file(stored.path()).unwrap(),
        ];
        for change in changes {
            let stored = Stored::new(LENGTH, LENGTH).await;
            let begun = stored.begun().await;
            change(&stored);
            rest(begun).await.unwrap_err();
        }
    }

    #[tokio::test]
    async fn an_unfinished_file_may_grow() {
        let stored = Stored::new(LENGTH, 2 * LENGTH).await;
        let begun = stored.begun().await;
        let mut longer = std::fs::OpenOptions::new()
            .append(true)
            .open(stored.path())
            .unwrap();
        std::io::Write::write_all(&mut longer, b"more").unwrap();
        let rest = rest(begun).await.unwrap();
        assert_eq!(rest, stored.bytes[LENGTH - rest.len()..]);
        assert!(rest.len() < LENGTH);
    }
}
