//! The parts of the `landfall` program.
//!
//! A library only for the program's own tests; nothing here is stable. To embed uploads in another
//! server, use the crate `landfall`.
//!
//! - [`settings`] reads flags, variables and files into one [`Settings`](settings::Settings), and checks
//!   them. A flag is declared once, in `settings/sections`: name, default, help, parser.
//! - [`page`] and `admin` are the page at `/` and the dashboard with its API.
//! - [`command`] runs the command of the arguments.
//! - `s3` and [`clouds`] create clients of buckets, and check them with `doctor`.
//! - `tools` starts the program `landfall-cli`, whose commands `landfall` has as well.
//! - `trace` sends spans to an OpenTelemetry collector (feature `full`).
//! - [`app`] connects them: it opens what the settings name, and routes requests. Start reading here.

mod admin;
pub mod app;
pub mod asset;
pub mod clouds;
pub mod command;
mod condition;
mod diagnosis;
mod doctor;
pub mod log;
pub mod page;
pub mod s3;
pub mod settings;
mod tools;
#[cfg(feature = "full")]
mod trace;
