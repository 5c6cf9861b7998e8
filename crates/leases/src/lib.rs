//! Leases in PostgreSQL, Redis or Valkey, or a bucket, for several Landfall nodes that write to one store.
//!
//! `PostgresLocker`, `RedisLocker` and `BucketLocker` implement [`landfall::lease::Locker`]: a node acquires the lease
//! of an upload before it writes, by one call to the service, and releases it by another. A node can
//! take over an upload from any other. See the types for costs, fencing tokens, and what happens while
//! the service is unavailable.
//!
//! `locker.rs` is the frame: it asks for leases, renews and releases them, in one thread per locker. A
//! backend is a [`LeaseService`]: the calls, the connection and the messages of other nodes. The crate
//! decides nothing about uploads, and a backend keeps no leases: those of the node are in
//! [`LeaseTable`].

mod attempt;
#[cfg(feature = "bucket")]
mod bucket;
mod locker;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "redis")]
mod redis;
mod service;
mod settings;
mod table;
mod thread;

#[cfg(feature = "postgres")]
pub use landfall_state::sql::DatabaseError;

#[cfg(feature = "bucket")]
pub use self::bucket::{
    BucketLeaseError, BucketLeases, BucketLocker, LeaseRecords, LeaseSweepSummary, ListedRecord,
    RecordPage,
};
#[cfg(feature = "postgres")]
pub use self::postgres::PostgresLocker;
#[cfg(feature = "redis")]
pub use self::redis::{ConnectionError, RedisLocker, ServerInfo};
pub use self::{
    locker::RemoteLocker,
    service::LeaseService,
    settings::{LeaseSettings, SettingsError},
    table::{LeaseStats, LeaseTable},
};
