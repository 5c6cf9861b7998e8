//! Leases in Redis or Valkey: for several Landfall nodes that write to one store.
//!
//! [`RedisLocker`] implements [`landfall::lease::Locker`]. Any node can take any upload over from any
//! other, with two calls to Redis for each request. See the type for what it costs, and for what
//! happens when Redis is away.

mod keeper;
mod link;
mod locker;
mod scripts;
mod settings;

pub use self::{
    link::LinkError,
    locker::{RedisLocker, Server},
    settings::{RedisSettings, SettingsError},
};
pub use landfall::lease::remote::LeaseStats;
