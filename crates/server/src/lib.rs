//! The parts of the `landfall` program.
//!
//! A library only so that the program's own tests can reach them: nothing here is stable. Those
//! who embed uploads in their own server use the crate `landfall`.

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
