//! Landfall: an upload server to embed. Files that always arrive.
//!
//! A [`Handler`] is a [`tower_service::Service`] that speaks tus 1.0.0 with every extension. It is put
//! together from parts: a [store](store::Store) for the bytes, a [locker](lease::Locker) that makes
//! sure that one request writes an upload at a time, [hooks](hook::Hook) that are asked before
//! something happens, and [sinks](event::EventSink) that are told afterwards.
//!
//! ```no_run
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use landfall::{Composer, Config, Handler, store::file::FileStore};
//!
//! let handler = Handler::new(Config::new(Composer::join(FileStore::new("./data")?)))?;
//! // Mount it below /files/ in axum, or serve it with hyper: see the examples.
//! # Ok(()) }
//! ```
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod checksum;
mod compose;
mod config;
pub mod direct;
mod engine;
pub mod event;
pub mod hook;
pub mod lease;
pub mod runtime;
pub mod service;
pub mod store;
pub mod upload;

/// Any error, as a source of another.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

pub use self::{
    compose::Composer,
    config::{Config, ConfigError, LocationStyle},
    engine::{Lifetimes, Limits, Resolution, SweepEntry, SweepReason, SweepSummary, Sweeper},
    service::{Handler, Stats},
};
