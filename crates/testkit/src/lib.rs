//! Proves parts of Landfall: conformance suites for stores, lockers and sinks, and faults to inject.
//!
//! A store or locker written elsewhere is proven by a test such as this one, on a runtime with several
//! threads. The last suite runs both behind a [`Handler`](landfall::Handler), as clients use them.
//!
//! ```
//! # tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(async {
//! use landfall::{Composer, Config, lease::MemoryLocker, store::MemoryStore};
//!
//! let report = landfall_testkit::store::conformance(async || MemoryStore::new()).await;
//! report.assert_complete();
//! landfall_testkit::locker::conformance(async || MemoryLocker::new()).await;
//! let make = async || {
//!     Config::new(Composer::join(MemoryStore::new()).with_locker(MemoryLocker::new()))
//! };
//! landfall_testkit::engine::conformance(make).await.assert_complete();
//! # });
//! ```
//!
//! A store whose descriptions can be damaged from outside (files, objects, rows) also runs
//! [`store::damaged::conformance`], with a function that damages one upload:
//!
//! ```
//! # tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(async {
//! use std::sync::Arc;
//! use landfall::{store::file::FileStore, upload::Upload};
//! use landfall_testkit::store::damaged::{self, Subject};
//!
//! let root = tempfile::tempdir().unwrap();
//! let make = async || {
//!     let dir = tempfile::tempdir_in(root.path()).unwrap().keep();
//!     let store = Arc::new(FileStore::new(&dir).unwrap());
//!     let damage = move |upload: Arc<Upload>| {
//!         std::fs::write(dir.join(format!("{}.info", upload.id)), "nonsense").unwrap();
//!         Box::pin(std::future::ready(())) as _
//!     };
//!     Subject { store, damage: Box::new(damage) }
//! };
//! damaged::conformance(make).await.assert_complete();
//! # });
//! ```

// Assertions are what these suites are made of.
#![allow(clippy::unwrap_used)]

mod check;
pub mod engine;
pub mod fault;
pub mod locker;
pub mod record;
pub mod sink;
pub mod store;
pub mod test_data;

pub use self::check::{Check, Report};
