//! Files as sources, and what identifies their content.

use std::{
    fs::{File, Metadata},
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::UNIX_EPOCH,
};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::Error;

/// The first and the last bytes that are part of a sample.
const EDGE_BYTES: u64 = 64 * 1024;
/// The blocks between them.
const INNER_BLOCKS: u64 = 16;
const INNER_BLOCK_BYTES: u64 = 4 * 1024;

/// An opened file.
#[derive(Debug, Clone)]
pub(crate) struct FileContent(Arc<OpenFile>);

#[derive(Debug)]
struct OpenFile {
    file: File,
    path: PathBuf,
    state: FileState,
    /// True on tmpfs, which does not know `RWF_NOWAIT` and does not wait for a disk.
    #[cfg(target_os = "linux")]
    is_in_memory: bool,
}

/// The size and the time of the last change of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FileState {
    pub(crate) length: u64,
    /// Nanoseconds since 1970; 0 where the system has no such time.
    pub(crate) modified: i128,
}

impl FileState {
    fn from_metadata(metadata: &Metadata) -> Self {
        let modified = metadata.modified().map_or(0, |time| {
            let nanoseconds = |duration: std::time::Duration| {
                i128::try_from(duration.as_nanos()).unwrap_or(i128::MAX)
            };
            match time.duration_since(UNIX_EPOCH) {
                Ok(after) => nanoseconds(after),
                Err(before) => -nanoseconds(before.duration()),
            }
        });
        Self {
            length: metadata.len(),
            modified,
        }
    }
}

impl FileContent {
    /// Opens a file. The inner error is the file if it is no regular one.
    pub(crate) async fn open(path: PathBuf) -> io::Result<Result<Self, File>> {
        blocking(move || {
            let file = File::open(&path)?;
            let metadata = file.metadata()?;
            if metadata.is_dir() {
                return Err(io::Error::from(io::ErrorKind::IsADirectory));
            }
            if !metadata.is_file() {
                return Ok(Err(file));
            }
            let path = path.canonicalize()?;
            let state = FileState::from_metadata(&metadata);
            Ok(Ok(Self(Arc::new(OpenFile {
                #[cfg(target_os = "linux")]
                is_in_memory: is_in_memory(&file),
                file,
                path,
                state,
            }))))
        })
        .await
    }

    pub(crate) fn state(&self) -> FileState {
        self.0.state
    }

    /// Returns the absolute path.
    pub(crate) fn path(&self) -> &Path {
        &self.0.path
    }

    /// Fails if the size or the time of the last change differs from that at the start.
    pub(crate) fn check_unchanged(&self) -> Result<(), Error> {
        // Takes less time than a hop to another thread: the metadata of an open file is in memory.
        let metadata = self.0.file.metadata().map_err(Error::Source)?;
        let now = FileState::from_metadata(&metadata);
        let was = self.0.state;
        if now == was {
            return Ok(());
        }
        let path = self.0.path.display();
        Err(Error::SourceChanged(match now.length == was.length {
            true => format!("{path} was written to"),
            false => format!("{path} had {} bytes, and has {}", was.length, now.length),
        }))
    }

    /// Returns a digest of the length and of samples: the first and the last 64 KiB, and 16 blocks of 4 KiB at
    /// equal distances between them.
    pub(crate) async fn sample(&self) -> io::Result<String> {
        let file = self.clone();
        blocking(move || {
            let length = file.state().length;
            let mut hasher = Sha256::new();
            hasher.update(length.to_be_bytes());
            let mut buffer = vec![0; usize::try_from(EDGE_BYTES).unwrap_or(usize::MAX)];
            for (at, size) in samples(length) {
                let block = usize::try_from(size).ok().and_then(|n| buffer.get_mut(..n));
                let Some(block) = block else { continue };
                file.read_exact_at(block, at)?;
                hasher.update(block);
            }
            Ok(hex(&hasher.finalize()))
        })
        .await
    }

    /// Fills the buffer with the bytes at an offset if they are in the page cache; returns whether they were. Does not
    /// wait for the disk.
    pub(crate) fn read_cached(&self, buffer: &mut [u8], offset: u64) -> bool {
        #[cfg(target_os = "linux")]
        {
            use rustix::io::{ReadWriteFlags, preadv2};
            if self.0.is_in_memory {
                return self.read_exact_at(buffer, offset).is_ok();
            }
            let size = buffer.len();
            let buffers = &mut [io::IoSliceMut::new(buffer)];
            preadv2(&self.0.file, buffers, offset, ReadWriteFlags::NOWAIT) == Ok(size)
        }
        #[cfg(not(target_os = "linux"))]
        {
            let _ = (buffer, offset);
            false
        }
    }

    /// Fills the buffer with the bytes at an offset.
    pub(crate) fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let file = &self.0.file;
        #[cfg(unix)]
        {
            std::os::unix::fs::FileExt::read_exact_at(file, buffer, offset)
        }
        #[cfg(windows)]
        {
            let mut filled = 0;
            while filled < buffer.len() {
                let at = offset + filled as u64;
                let rest = buffer.get_mut(filled..).unwrap_or_default();
                match std::os::windows::fs::FileExt::seek_read(file, rest, at)? {
                    0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                    read => filled += read,
                }
            }
            Ok(())
        }
    }
}

#[cfg(target_os = "linux")]
fn is_in_memory(file: &File) -> bool {
    const TMPFS_MAGIC: i128 = 0x0102_1994;
    rustix::fs::fstatfs(file).is_ok_and(|stat| i128::from(stat.f_type) == TMPFS_MAGIC)
}

/// Runs a file operation in the thread pool.
pub(crate) async fn blocking<T: Send + 'static>(
    operation: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let task = tokio::task::spawn_blocking(operation);
    task.await.map_err(io::Error::other).flatten()
}

/// Returns the offsets and sizes of the samples.
fn samples(length: u64) -> Vec<(u64, u64)> {
    if length <= 2 * EDGE_BYTES {
        let first = length.min(EDGE_BYTES);
        return vec![(0, first), (first, length - first)];
    }
    let mut samples = vec![(0, EDGE_BYTES), (length - EDGE_BYTES, EDGE_BYTES)];
    let between = length - 2 * EDGE_BYTES;
    let distance = between / (INNER_BLOCKS + 1);
    samples.extend((1..=INNER_BLOCKS).map(|number| {
        let at = EDGE_BYTES + number * distance;
        (at, INNER_BLOCK_BYTES.min(length - at))
    }));
    samples
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn files_in_memory_are_read_without_another_thread() {
        let file = tempfile::NamedTempFile::new_in("/dev/shm").unwrap();
        std::fs::write(file.path(), b"content").unwrap();
        let opened = FileContent::open(file.path().into()).await.unwrap();
        let mut buffer = [0; 4];
        assert!(opened.unwrap().read_cached(&mut buffer, 3));
        assert_eq!(&buffer, b"tent");
    }

    #[test]
    fn samples_are_inside_the_file_and_have_both_ends() {
        for length in [
            0,
            1,
            65_535,
            65_536,
            65_537,
            131_072,
            131_073,
            150_000,
            1 << 40,
        ] {
            let samples = samples(length);
            assert!(
                samples.iter().all(|(at, size)| at + size <= length),
                "{length}"
            );
            assert!(
                samples.iter().any(|(at, size)| at + size == length),
                "{length}"
            );
            assert!(samples.iter().any(|(at, _)| *at == 0), "{length}");
        }
    }
}
