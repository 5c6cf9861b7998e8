//! An S3 store for Landfall uploads, and the small S3 client that it uses.
//!
//! The store is that of `landfall-objects`, for all clouds. [`client`] signs and sends the requests; [`lease`]
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
mod probe;

pub use landfall_objects::{
    InvalidOptions, Layout, MAX_OBJECT, MIN_MEMORY, StoreOptions as S3Options, StoreStats,
    UploadIds, user_metadata,
};

/// A store of uploads in a bucket of S3, in tusd's layout.
pub type S3Store = landfall_objects::ObjectStore<client::Client>;
