//! Leases in Redis or Valkey, for several Landfall nodes that write to one store.
//!
//! [`RedisLocker`] implements [`landfall::lease::Locker`]: a node acquires the lease of an upload
//! before it writes, by one call to Redis, and releases it by another. A node can take over an upload
//! from any other. See the type for costs, fencing tokens, and an unavailable Redis.
//!
//! Each change is a Lua script (`scripts/*.lua`), which Redis runs atomically. One thread per locker
//! connects, renews and releases leases (`renewer.rs`); messages of other nodes arrive on the same
//! connection. `redis::aio::ConnectionManager` cannot be used: after it reconnects, a call could
//! reach a server that has lost the leases. `connection.rs` identifies each server before the first
//! call.
//!
//! Limits: one primary, without Cluster and Sentinel, with `maxmemory-policy noeviction`.
//!
//! ```no_run
//! use landfall::{Composer, store::file::FileStore};
//! use landfall_redis::{RedisLocker, RedisSettings};
//!
//! # fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let locker = RedisLocker::new("redis://127.0.0.1:6379/0", RedisSettings::default())?;
//! let composer = Composer::join(FileStore::new("/srv/uploads")?).with_locker(locker);
//! # Ok(()) }
//! ```

mod connection;
mod locker;
mod renewer;
mod scripts;
mod settings;

pub use self::{
    connection::ConnectionError,
    locker::{RedisLocker, ServerInfo},
    settings::{RedisSettings, SettingsError},
};
pub use landfall::lease::remote::LeaseStats;
