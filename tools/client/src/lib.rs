//! A client for resumable uploads.
//!
//! Uploads files, bytes and streams by tus 1.0.0, by the IETF draft "Resumable Uploads for HTTP" or directly to
//! S3, and downloads files. An upload that is interrupted resumes at the offset that the server reports: after a
//! lost connection, a restart of the server, or a restart of the program if it has a [`FingerprintStore`].
//!
//! ```no_run
//! use landfall_client::{Client, FileFingerprints, Source};
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let client = Client::builder()
//!     .fingerprints(FileFingerprints::new("./uploads"))
//!     .build()?;
//! let completed = client
//!     .upload("http://localhost:8080/files/", Source::file("video.mp4"))
//!     .metadata("filename", "video.mp4")
//!     .run()
//!     .await?;
//! println!("{} bytes are at {}", completed.length, completed.url);
//! # Ok(())
//! # }
//! ```
//!
//! # Cancel safety
//!
//! Every future of this crate may be dropped at any time. An upload that was dropped resumes like one that was
//! interrupted, if it is started again with the same source, endpoint and [`FingerprintStore`].
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod capabilities;
mod client;
mod control;
mod direct;
mod discovery;
mod download;
mod error;
mod event;
mod fingerprint;
mod grant;
mod hosts;
mod http;
mod progress;
mod rate;
mod rate_limit;
mod retry;
mod shared;
mod source;
mod upload;
mod waits;

pub use self::{
    capabilities::Capabilities,
    client::{Client, ClientBuilder, HttpVersion},
    control::Control,
    discovery::ServerUrls,
    download::{Download, Downloaded},
    error::{BoxError, Error, Rejection},
    event::{Event, Progress},
    fingerprint::{FileFingerprints, FingerprintStore, MemoryFingerprints, StoredUpload},
    grant::{Grant, GrantRequest},
    rate::Rate,
    retry::RetryPolicy,
    shared::Protocol,
    source::Source,
    upload::{ChunkSize, Completed, DirectMode, Status, Upload},
};
pub use ::http::{HeaderName, HeaderValue};
pub use landfall_protocol::{Algorithm, Metadata, rufh::UploadLimits};
pub use url::Url;
