//! Uploads.

use std::time::SystemTime;

use http::{HeaderName, HeaderValue};
use landfall_protocol::{Algorithm, Metadata};
use url::Url;

use crate::{Control, Error, Event, UploadLimits};

/// An upload that was not started yet; [`Client::upload`](crate::Client::upload) creates it.
#[derive(Debug)]
#[must_use = "an upload does nothing until it is run"]
pub struct Upload {}

/// The content of one request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ChunkSize {
    /// All bytes in one request, halved when a server or proxy does not accept that many.
    #[default]
    Auto,
    /// At most so many bytes.
    Fixed(u64),
}

/// The transfer mode of direct uploads to S3.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum DirectMode {
    /// One request up to 64 MiB, else a multipart upload.
    #[default]
    Auto,
    /// One presigned request: a form or PUT, as the server chooses.
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
    /// Adds a pair of metadata. The IETF draft has only `filename` and `filetype`.
    pub fn metadata(self, key: impl Into<String>, value: impl Into<Vec<u8>>) -> Self {
        let (_, _): (String, Vec<u8>) = (key.into(), value.into());
        todo!()
    }

    /// Adds a header to each request to the host of the endpoint.
    pub fn header(self, name: HeaderName, value: HeaderValue) -> Self {
        let _ = (name, value);
        todo!()
    }

    /// Sends a checksum with each request (tus `Upload-Checksum`, RFC 9530 `Content-Digest`).
    pub fn checksum(self, algorithm: Algorithm) -> Self {
        let _ = algorithm;
        todo!()
    }

    /// Sends a checksum after each body (tus `checksum-trailer`), else as [`Self::checksum`] does.
    pub fn checksum_trailer(self, algorithm: Algorithm) -> Self {
        let _ = algorithm;
        todo!()
    }

    /// Uploads so many parts at a time (tus `concatenation`), if the server and the source allow it; 1 by default.
    pub fn parallel(self, parts: usize) -> Self {
        let _ = parts;
        todo!()
    }

    /// Sets the content of one request.
    pub fn chunk_size(self, size: ChunkSize) -> Self {
        let _ = size;
        todo!()
    }

    /// Creates the upload without its length (tus `creation-defer-length`), also if it is known.
    pub fn deferred_length(self, deferred: bool) -> Self {
        let _ = deferred;
        todo!()
    }

    /// Sends an upload token of a grant with the creation.
    pub fn token(self, token: impl Into<String>) -> Self {
        let _: String = token.into();
        todo!()
    }

    /// Sends at most so many bytes per second.
    pub fn rate_limit(self, bytes_per_second: u64) -> Self {
        let _ = bytes_per_second;
        todo!()
    }

    /// Sets whether an earlier upload of the same source is resumed; true by default.
    pub fn resume(self, resume: bool) -> Self {
        let _ = resume;
        todo!()
    }

    /// Continues the upload at this URL, in place of creating one. The caller vouches for the source.
    pub fn url(self, url: impl AsRef<str>) -> Self {
        let _ = url.as_ref();
        todo!()
    }

    /// Uploads directly to S3. The endpoint is then the base URL of the direct upload API.
    pub fn direct(self, mode: DirectMode) -> Self {
        let _ = mode;
        todo!()
    }

    /// Sets the callback for events. It must not block.
    pub fn on_event(self, callback: impl Fn(Event) + Send + Sync + 'static) -> Self {
        let _ = callback;
        todo!()
    }

    /// Returns a handle that pauses, resumes or cancels the upload from another task.
    #[must_use]
    pub fn control(&self) -> Control {
        todo!()
    }

    /// Uploads the source.
    ///
    /// # Errors
    /// [`Error`]; [`Error::is_retryable`] says whether a later run may succeed.
    ///
    /// # Cancel safety
    /// Cancel safe: another run resumes, unless the source is a stream.
    pub async fn run(self) -> Result<Completed, Error> {
        todo!()
    }
}
