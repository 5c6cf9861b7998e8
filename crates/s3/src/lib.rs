//! An S3 store for Landfall uploads, and the small S3 client that it uses.
//!
//! Uploads have tusd's layout. `store/mod.rs`, the place to start reading, has the order of calls
//! that allows the process to die between any two. [`client`] signs and sends the requests; [`lease`]
//! stores leases in the bucket.
//!
//! ```no_run
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! use landfall::{Composer, Config, Handler};
//! use landfall_s3::{S3Options, S3Store, client::{Client, ClientSettings}};
//!
//! let client = Client::new(ClientSettings::default())?;
//! let store = S3Store::new(client, S3Options::new("my-bucket"))?;
//! let handler = Handler::new(Config::new(Composer::join(store)))?;
//! # Ok(()) }
//! ```
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod client;
pub mod lease;
mod options;
mod store;

pub use self::{
    options::{InvalidOptions, MAX_OBJECT, MIN_MEMORY, S3Options, UploadIds},
    store::{Layout, S3Store, StoreStats, user_metadata},
};
