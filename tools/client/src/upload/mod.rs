//! Uploads.

mod chunk;
mod dialect;
mod opened;
mod parallel;
mod recover;
mod run;
mod transfer;

use std::{fmt, sync::Arc, time::SystemTime};

use futures_util::future::BoxFuture;
use http::{HeaderMap, HeaderName, HeaderValue};
use landfall_protocol::{Algorithm, Metadata, rufh::UploadLimits};
use url::Url;

pub(crate) use self::{
    chunk::ChunkSender,
    dialect::Dialect,
    opened::{OpenedUpload, open_record},
};
use crate::{Control, Error, Event, Source, progress::EventCallback, shared::Shared};

const UPLOAD_TOKEN: HeaderName = HeaderName::from_static("upload-token");

/// An upload that was not started yet; [`Client::upload`](crate::Client::upload) creates it.
#[must_use = "an upload does nothing until it is run"]
pub struct Upload {
    pub(crate) client: Arc<Shared>,
    pub(crate) endpoint: String,
    pub(crate) source: Source,
    pub(crate) settings: UploadSettings,
    pub(crate) callback: Option<EventCallback>,
    pub(crate) control: Control,
}

/// The settings of one upload.
#[derive(Default)]
pub(crate) struct UploadSettings {
    pub(crate) metadata: Vec<(String, Vec<u8>)>,
    pub(crate) headers: HeaderMap,
    pub(crate) checksum: Option<Algorithm>,
    pub(crate) uses_trailer: bool,
    pub(crate) parallel: usize,
    pub(crate) chunk_size: ChunkSize,
    pub(crate) deferred: bool,
    pub(crate) token: Option<String>,
    pub(crate) rate_limit: Option<u64>,
    pub(crate) restart: bool,
    pub(crate) url: Option<String>,
    pub(crate) direct: Option<DirectMode>,
    pub(crate) creates_only: bool,
    /// The first invalid setting.
    pub(crate) invalid: Option<String>,
}

impl fmt::Debug for Upload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Headers, token and metadata may be secret.
        f.debug_struct("Upload")
            .field("endpoint", &self.endpoint)
            .field("source", &self.source)
            .finish_non_exhaustive()
    }
}

/// The content of one request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ChunkSize {
    /// All bytes in one request, halved when a server or proxy does not accept that many. Requests with a checksum
    /// and those of streams have 8 MiB: the one cannot be resumed, the other is held in memory.
    #[default]
    Auto,
    /// At most this number of bytes.
    Fixed(u64),
}

/// The transfer mode of direct uploads to S3.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum DirectMode {
    /// One request up to 64 MiB, else a multipart upload.
    #[default]
    Auto,
    /// One presigned PUT.
    Single,
    /// A multipart upload, which can be resumed.
    Multipart,
}

/// A finished upload.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Completed {
    /// The URL of the upload; of the object, if it was uploaded directly to S3.
    pub url: Url,
    /// Its length in bytes.
    pub length: u64,
    /// The bytes sent in this run, with those sent again.
    pub bytes_sent: u64,
    /// The number of requests of this run.
    pub requests: u64,
    /// The bytes that an earlier run had uploaded.
    pub resumed_from: u64,
    /// The body of the last response, up to 64 KiB; empty in most cases.
    pub response: Vec<u8>,
}

/// The state of an upload.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Status {
    /// The bytes that the server has.
    pub offset: u64,
    /// The bytes in all, if that is known.
    pub length: Option<u64>,
    /// True if the upload is complete.
    pub complete: bool,
    /// The time at which the server removes the unfinished upload.
    pub expires: Option<SystemTime>,
    /// The metadata.
    pub metadata: Metadata,
    /// The limits of the upload, of the IETF draft.
    pub limits: UploadLimits,
}

impl Upload {
    pub(crate) fn new(client: Arc<Shared>, endpoint: &str, source: Source) -> Self {
        Self {
            client,
            endpoint: endpoint.to_owned(),
            source,
            settings: UploadSettings::default(),
            callback: None,
            control: Control::new(),
        }
    }

    /// Adds a pair of metadata. The IETF draft has only `filename` and `filetype`.
    ///
    /// Keys are visible ASCII without commas, and unique.
    pub fn metadata(mut self, key: impl Into<String>, value: impl Into<Vec<u8>>) -> Self {
        let key = key.into();
        let is_valid = !key.is_empty() && key.bytes().all(|b| b.is_ascii_graphic() && b != b',');
        if !is_valid
            || self
                .settings
                .metadata
                .iter()
                .any(|(other, _)| *other == key)
        {
            let reason = format!("the metadata key {key:?} is invalid or repeated");
            self.settings.invalid.get_or_insert(reason);
        }
        self.settings.metadata.push((key, value.into()));
        self
    }

    /// Adds a header to each request to the host of the endpoint.
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.settings.headers.insert(name, value);
        self
    }

    /// Sends a checksum with each request: `Upload-Checksum` of tus, `Content-Digest` (RFC 9530, SHA-256 and SHA-512
    /// only) in the IETF draft.
    ///
    /// Each request reads its bytes twice: before it, and while it is sent.
    pub fn checksum(mut self, algorithm: Algorithm) -> Self {
        self.settings.checksum = Some(algorithm);
        self.settings.uses_trailer = false;
        self
    }

    /// Sends a checksum after each body (tus `checksum-trailer`), else as [`Self::checksum`] does.
    ///
    /// Bytes are read once. Not all proxies forward trailers.
    pub fn checksum_trailer(mut self, algorithm: Algorithm) -> Self {
        self.settings.checksum = Some(algorithm);
        self.settings.uses_trailer = true;
        self
    }

    /// Uploads this number of parts at a time: partial uploads of tus (`concatenation`) if the server has them and the
    /// source is no stream, or parts of a multipart upload; 1 by default.
    ///
    /// A part has at least 1 MiB.
    pub fn parallel(mut self, parts: usize) -> Self {
        self.settings.parallel = parts;
        self
    }

    /// Sets the content of one request.
    pub fn chunk_size(mut self, size: ChunkSize) -> Self {
        self.settings.chunk_size = size;
        self
    }

    /// Creates the upload without its length (tus `creation-defer-length`), also if it is known.
    pub fn deferred_length(mut self, deferred: bool) -> Self {
        self.settings.deferred = deferred;
        self
    }

    /// Sends an upload token of a grant with the creation.
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.settings.token = Some(token.into());
        self
    }

    /// Limits the rate, in bytes per second.
    pub fn rate_limit(mut self, bytes_per_second: u64) -> Self {
        self.settings.rate_limit = Some(bytes_per_second);
        self
    }

    /// Sets whether an earlier upload of the same file is resumed; true by default.
    pub fn resume(mut self, resume: bool) -> Self {
        self.settings.restart = !resume;
        self
    }

    /// Continues the upload at this URL, in place of creating one.
    ///
    /// Its bytes are not compared with those of the source. It is never started again.
    pub fn url(mut self, url: impl AsRef<str>) -> Self {
        self.settings.url = Some(url.as_ref().to_owned());
        self
    }

    /// Uploads directly to S3. The endpoint is then the base URL of the direct upload API.
    pub fn direct(mut self, mode: DirectMode) -> Self {
        self.settings.direct = Some(mode);
        self
    }

    /// Sets the callback for events. It must not block.
    pub fn on_event(mut self, callback: impl Fn(Event) + Send + Sync + 'static) -> Self {
        self.callback = Some(Arc::new(callback));
        self
    }

    /// Returns a handle that pauses, resumes or cancels the upload from another task.
    #[must_use]
    pub fn control(&self) -> Control {
        self.control.clone()
    }

    /// Creates the upload, or finds the one of an earlier run, and sends no byte. A later [`Self::run`] with the same
    /// file, endpoint and fingerprints continues it.
    ///
    /// # Errors
    /// [`Error`]; [`Error::Unsupported`] for direct uploads.
    ///
    /// # Cancel safety
    /// Cancel safe; an upload whose creation was interrupted may stay on the server until it expires.
    pub async fn create(mut self) -> Result<Url, Error> {
        if self.settings.direct.is_some() {
            return Err(Error::Unsupported("creating a direct upload alone".into()));
        }
        self.settings.creates_only = true;
        self.run().await.map(|created| created.url)
    }

    /// Uploads the source.
    ///
    /// # Errors
    /// [`Error`]; [`Error::is_retryable`] says whether a later run may succeed.
    ///
    /// # Cancel safety
    /// Cancel safe: another run resumes, if the source is a file and the client has a store of fingerprints.
    pub async fn run(self) -> Result<Completed, Error> {
        let run: BoxFuture<'_, _> = Box::pin(run::run(self));
        run.await
    }
}

impl UploadSettings {
    /// Returns a value of the metadata as text.
    pub(crate) fn metadata_text(&self, key: &str) -> Option<&str> {
        let (_, value) = self.metadata.iter().find(|(other, _)| other == key)?;
        std::str::from_utf8(value).ok()
    }

    /// Returns the headers of all requests: those set, and the upload token.
    pub(crate) fn all_headers(&self) -> Result<HeaderMap, Error> {
        let mut headers = self.headers.clone();
        if let Some(token) = &self.token {
            let mut value = HeaderValue::try_from(token)
                .map_err(|_| Error::Configuration("the upload token is invalid".into()))?;
            value.set_sensitive(true);
            headers.insert(UPLOAD_TOKEN, value);
        }
        Ok(headers)
    }
}
