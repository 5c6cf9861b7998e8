//! What proves a part of Landfall: conformance suites for stores, lockers and sinks, faults to
//! inject, and a reference model.
//!
//! A store or locker written elsewhere is proven by one test:
//!
//! ```
//! # tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(async {
//! use landfall::{lease::MemoryLocker, store::MemoryStore};
//!
//! landfall_testkit::store::conformance(async || MemoryStore::new()).await;
//! landfall_testkit::locker::conformance(async || MemoryLocker::new()).await;
//! # });
//! ```
//!
//! | module | holds |
//! |---|---|
//! | [`store`] | the suite for [`Store`](landfall::store::Store) and its capabilities |
//! | [`locker`] | the suites for [`Locker`](landfall::lease::Locker), in one process and between several |
//! | [`sink`] | the suite for [`EventSink`](landfall::event::EventSink) |
//! | [`fault`] | a store around another that fails, stalls, or loses what wasn't committed |
//! | [`model`] | what an upload server must do, in a few lines, to compare with |
//! | [`pattern`] | bytes that tell where they belong |
//! | [`record`] | a sink for events that remembers them |

// Assertions are what these suites are made of.
#![allow(clippy::unwrap_used)]

mod check;
pub mod fault;
pub mod locker;
pub mod model;
pub mod pattern;
pub mod record;
pub mod sink;
pub mod store;

pub use self::check::{Check, Report};
