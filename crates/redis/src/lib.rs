//! A lease backend on Redis or Valkey, for several Landfall nodes that write to one store.
//!
//! [`RedisLocker`] implements [`landfall::lease::Locker`]. A node can take over an upload from any
//! other, with two calls to Redis per request. See the type for costs and for what happens when
//! Redis is unavailable.
//!
//! `redis::aio::ConnectionManager` cannot be used: after it reconnects, a call could reach a server
//! that has lost the leases. `connection.rs` identifies each server before the first call.

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
