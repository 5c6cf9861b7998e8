//! `RedisLocker` with a real redis-server, which must be installed.
#![allow(clippy::unwrap_used)]

mod cables;
mod conformance;
mod failover;
mod faults;
mod fences;
mod outage;
mod pressure;
mod server;
#[cfg(feature = "tls")]
mod tls;
