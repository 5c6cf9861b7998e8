//! Downloads by ranges.

mod range;
mod run;
mod sink;

use std::{fmt, path::PathBuf, sync::Arc};

use futures_util::future::BoxFuture;
use http::{HeaderMap, HeaderName, HeaderValue};
use tokio::io::AsyncWrite;

use crate::{Control, Error, Event, progress::EventCallback, shared::Shared};

/// A download that was not started yet; [`Client::download`](crate::Client::download) creates it.
#[must_use = "a download does nothing until it is run"]
pub struct Download {
    client: Arc<Shared>,
    url: String,
    target: Target,
    headers: HeaderMap,
    parallel: usize,
    restart: bool,
    replaces: bool,
    callback: Option<EventCallback>,
    control: Control,
}

/// The receiver of the bytes.
pub(crate) enum Target {
    File(PathBuf),
    Writer(Box<dyn AsyncWrite + Send + Unpin>),
}

impl fmt::Debug for Download {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Headers may have secrets.
        f.debug_struct("Download")
            .field("url", &self.url)
            .finish_non_exhaustive()
    }
}

/// A finished download.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Downloaded {
    /// The size of the file in bytes.
    pub length: u64,
    /// The bytes received in this run, without those of an earlier one.
    pub bytes_received: u64,
    /// True if the server sent a digest of the whole (`Repr-Digest`), which is that of the file.
    pub verified: bool,
}

impl Download {
    pub(crate) fn new(client: Arc<Shared>, url: &str, target: Target) -> Self {
        Self {
            client,
            url: url.to_owned(),
            target,
            headers: HeaderMap::new(),
            parallel: 1,
            restart: false,
            replaces: true,
            callback: None,
            control: Control::new(),
        }
    }

    /// Adds a header to each request to the host of the URL.
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }

    /// Sets how many ranges are received at a time, if the server has ranges and the target is a file; 1 by default.
    pub fn parallel(mut self, connections: usize) -> Self {
        self.parallel = connections;
        self
    }

    /// Sets whether an earlier download to the same file is resumed; true by default.
    pub fn resume(mut self, resume: bool) -> Self {
        self.restart = !resume;
        self
    }

    /// Sets whether an existing file at the target is replaced; true by default.
    pub fn replace(mut self, replace: bool) -> Self {
        self.replaces = replace;
        self
    }

    /// Sets the callback for events. It must not block.
    pub fn on_event(mut self, callback: impl Fn(Event) + Send + Sync + 'static) -> Self {
        self.callback = Some(Arc::new(callback));
        self
    }

    /// Returns a handle that pauses, resumes or cancels the download from another task.
    #[must_use]
    pub fn control(&self) -> Control {
        self.control.clone()
    }

    /// Downloads the file.
    ///
    /// The bytes are written to a file next to the target (`.part`, or a similar name that no other file has), which
    /// replaces the target when it is complete. No other file is written or removed. A file on the server that
    /// changes meanwhile is received anew (`If-Range`).
    ///
    /// # Errors
    /// [`Error::Gone`] if there is no such file, [`Error::Target`] if it cannot be written, or exists and
    /// [`Self::replace`] is false, [`Error::DigestMismatch`], [`Error::Unsupported`] if the server sends the file
    /// compressed, without any length, or unfinished, and those of connections.
    ///
    /// # Cancel safety
    /// Cancel safe: the next download to the same file resumes.
    pub async fn run(self) -> Result<Downloaded, Error> {
        let run: BoxFuture<'_, _> = Box::pin(run::run(self));
        run.await
    }
}
