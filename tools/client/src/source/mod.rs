//! Sources of uploads.

mod blocks;
mod file;
mod stream;

use std::{collections::VecDeque, convert::Infallible, fmt, path::PathBuf};

use bytes::Bytes;
use tokio::io::AsyncRead;

pub(crate) use self::{
    blocks::BlockReader,
    file::{FileContent, FileState, blocking, hex},
    stream::StreamContent,
};
use crate::Error;

/// The bytes of an upload.
pub struct Source(SourceKind);

enum SourceKind {
    File(PathBuf),
    Bytes(Bytes),
    Stream(Box<dyn AsyncRead + Send + Unpin>, Option<u64>),
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            SourceKind::File(path) => f.debug_tuple("File").field(path).finish(),
            SourceKind::Bytes(bytes) => write!(f, "Bytes({} bytes)", bytes.len()),
            SourceKind::Stream(_, length) => write!(f, "Stream({length:?})"),
        }
    }
}

impl Source {
    /// A regular file. It must not change during the upload. What is no regular file (a pipe or device) is read
    /// as a stream.
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Self(SourceKind::File(path.into()))
    }

    /// Bytes in memory. An upload of bytes cannot be resumed by another run.
    pub fn bytes(bytes: impl Into<Bytes>) -> Self {
        Self(SourceKind::Bytes(bytes.into()))
    }

    /// A stream, of this length if it is known.
    ///
    /// At most two chunks are held in memory. An upload of a stream cannot be resumed by another run.
    pub fn stream(reader: impl AsyncRead + Send + Unpin + 'static, length: Option<u64>) -> Self {
        Self(SourceKind::Stream(Box::new(reader), length))
    }

    /// The standard input, as a stream of unknown length.
    #[must_use]
    pub fn stdin() -> Self {
        Self::stream(tokio::io::stdin(), None)
    }

    /// Opens the source.
    pub(crate) async fn open(self) -> Result<Content, Error> {
        Ok(match self.0 {
            SourceKind::Bytes(bytes) => Content::Bytes(bytes),
            SourceKind::Stream(reader, length) => {
                Content::Stream(Box::new(StreamContent::new(reader, length)))
            }
            SourceKind::File(path) => {
                let opened = FileContent::open(path).await.map_err(Error::Source)?;
                match opened {
                    Ok(file) => Content::File(file),
                    Err(pipe) => {
                        let reader = tokio::fs::File::from_std(pipe);
                        Content::Stream(Box::new(StreamContent::new(Box::new(reader), None)))
                    }
                }
            }
        })
    }
}

/// An opened source.
#[derive(Debug)]
pub(crate) enum Content {
    Bytes(Bytes),
    File(FileContent),
    Stream(Box<StreamContent>),
}

/// The next bytes of a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Chunk {
    pub(crate) length: u64,
    /// True if they end the source.
    pub(crate) is_last: bool,
}

impl Content {
    pub(crate) fn length(&self) -> Option<u64> {
        match self {
            Self::Bytes(bytes) => Some(bytes.len() as u64),
            Self::File(file) => Some(file.state().length),
            Self::Stream(stream) => stream.length(),
        }
    }

    /// Returns another handle of the same bytes; `None` of a stream.
    pub(crate) fn try_clone(&self) -> Option<Self> {
        match self {
            Self::Bytes(bytes) => Some(Self::Bytes(bytes.clone())),
            Self::File(file) => Some(Self::File(file.clone())),
            Self::Stream(_) => None,
        }
    }

    /// Makes bytes at an offset ready to be sent, at most `max` up to `end`.
    ///
    /// # Errors
    /// [`Error::OffsetMismatch`] if a stream no longer has these bytes, and errors of the source.
    ///
    /// # Cancel safety
    /// Cancel safe: no byte of a stream is lost.
    pub(crate) async fn prepare(
        &mut self,
        offset: u64,
        end: Option<u64>,
        max: u64,
    ) -> Result<Chunk, Error> {
        match self {
            Self::Stream(stream) => stream.prepare(offset, max).await,
            Self::Bytes(_) | Self::File(_) => {
                if let Self::File(file) = self {
                    file.check_unchanged()?;
                }
                let end = end.or_else(|| self.length()).unwrap_or(offset);
                let rest = end.saturating_sub(offset);
                Ok(Chunk {
                    length: rest.min(max),
                    is_last: rest <= max,
                })
            }
        }
    }

    /// Returns prepared bytes, which can be read repeatedly while the source is read ahead.
    pub(crate) fn range(&self, offset: u64, length: u64) -> ContentRange {
        match self {
            Self::Bytes(bytes) => ContentRange::Blocks(blocks::split(bytes, offset, length)),
            Self::File(file) => ContentRange::File(file.clone(), offset, length),
            Self::Stream(stream) => ContentRange::Blocks(stream.blocks(offset, length)),
        }
    }

    /// Reads ahead, and then waits forever; at most `max` bytes of a stream are held.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub(crate) async fn read_ahead(&mut self, max: u64) -> Infallible {
        if let Self::Stream(stream) = self {
            stream.read_ahead(max).await;
        }
        std::future::pending().await
    }
}

/// Prepared bytes of a source.
#[derive(Debug)]
pub(crate) enum ContentRange {
    Blocks(VecDeque<Bytes>),
    File(FileContent, u64, u64),
}

impl ContentRange {
    pub(crate) fn reader(&self) -> BlockReader {
        match self {
            Self::Blocks(blocks) => BlockReader::from_blocks(blocks.clone()),
            Self::File(file, offset, length) => {
                BlockReader::from_file(file.clone(), *offset, *length)
            }
        }
    }
}
