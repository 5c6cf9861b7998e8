//! Landfall: an embeddable resumable upload server.
//!
//! A [`Handler`] is a [`tower_service::Service`] that implements tus 1.0.0 with every extension. It
//! consists of a [store](store::Store) for the bytes, a [locker](lease::Locker) that allows one writer
//! per upload, [hooks](hook::Hook) that are called before an operation and can deny it, and
//! [sinks](event::EventSink) that receive events afterwards.
//!
//! ```no_run
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use landfall::{Config, Handler, store::file::FileStore};
//!
//! let handler = Handler::new(Config::new(FileStore::new("./data")?))?;
//! // A service for hyper or tower; for axum, `Router::new().merge(handler.router())`.
//! # Ok(()) }
//! ```
//!
//! [The guide](https://github.com/landfall-rs/landfall/blob/main/docs/embedding.md) covers mounting,
//! authentication, finished files, S3, logging, layers of tower and shutdown, and lists complete examples.
//!
//! Settings are public fields with defaults ([`Config`], [`Limits`]); parts of a program, such as
//! [hooks](Config::hook) and [sinks](Config::sink), are added with methods. Types that will grow are
//! `#[non_exhaustive]`. Modules and methods that only Landfall's own crates use are hidden from this documentation.
//!
//! Features:
//!
//! | feature | default | adds |
//! |---|---|---|
//! | `axum` | no | `Handler::router`; reads the client's address and the original URI |
//! | `checksums` | yes | the algorithms of `Upload-Checksum` other than SHA-1 |
//! | `file-store` | yes | [`FileStore`](store::file::FileStore) and [`FileLocker`](lease::FileLocker) |
#![cfg_attr(docsrs, feature(doc_cfg))]
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod compose;
mod config;
mod engine;
mod error;
pub mod event;
mod eviction;
#[doc(hidden)]
pub mod external;
pub mod hook;
pub mod lease;
pub mod removal;
mod request_body;
pub mod service;
pub mod store;
pub mod upload;

/// The target of the log events of requests, which have tusd's names and fields: `RequestIncoming`,
/// `UploadCreated`, `ChunkWriteStart`, `ResponseOutgoing` and so on, at level DEBUG.
pub const REQUEST_LOG: &str = "landfall::request";

/// A boxed error.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

#[doc(no_inline)]
pub use {async_trait::async_trait, bytes, http};

#[doc(no_inline)]
pub use landfall_protocol::rufh::{InteropVersion, InteropVersions, InvalidInteropVersion};

#[doc(hidden)]
pub use self::eviction::Idleness;
#[doc(inline)]
pub use self::service::{Handler, Stats};
pub use self::{
    compose::Composer,
    config::{Config, ConfigError, InterimResponses, Limits, LocationStyle},
    engine::{Resolution, SweepEntry, SweepReason, SweepSummary, Sweeper},
    error::HandlerError,
    removal::Lifetimes,
};
