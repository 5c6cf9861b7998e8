//! A lease backend on Redis or Valkey, for several Landfall nodes that write to one store.
//!
//! [`RedisLocker`] implements [`landfall::lease::Locker`]. A node can take over an upload from any
//! other, with two calls to Redis per request. See the type for costs and for what happens when
//! Redis is unavailable.
//!
//! `redis::aio::ConnectionManager` cannot replace `connection.rs`: it reconnects between two calls, so
//! the second one could reach a restarted or promoted server, which may have lost the leases. Here
//! each connection first identifies its server, and each call names the server that it expects.

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
