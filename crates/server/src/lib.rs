//! The parts of the `landfall` program.
//!
//! A library only for the program's own tests; nothing here is stable. To embed uploads in another
//! server, use the crate `landfall`.

#[cfg(feature = "grants")]
pub mod admin;
pub mod app;
pub mod asset;
mod finding;
pub mod log;
pub mod net;
pub mod page;
#[cfg(feature = "s3")]
pub mod s3;
pub mod settings;
