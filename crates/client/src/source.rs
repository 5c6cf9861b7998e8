//! Sources of uploads.

use std::path::PathBuf;

use bytes::Bytes;
use tokio::io::AsyncRead;

/// The bytes of an upload.
#[derive(Debug)]
pub struct Source {}

impl Source {
    /// A file. It must not change during the upload.
    pub fn file(path: impl Into<PathBuf>) -> Self {
        let _: PathBuf = path.into();
        todo!()
    }

    /// Bytes in memory.
    pub fn bytes(bytes: impl Into<Bytes>) -> Self {
        let _: Bytes = bytes.into();
        todo!()
    }

    /// A stream, of this length if it is known.
    ///
    /// At most two chunks are held in memory. An upload of a stream cannot be resumed by another run.
    pub fn stream(reader: impl AsyncRead + Send + Unpin + 'static, length: Option<u64>) -> Self {
        let _ = (reader, length);
        todo!()
    }

    /// The standard input, as a stream of unknown length.
    #[must_use]
    pub fn stdin() -> Self {
        Self::stream(tokio::io::stdin(), None)
    }
}
