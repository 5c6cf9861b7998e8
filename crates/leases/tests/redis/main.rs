//! `RedisLocker` with a real redis-server, which must be installed.
#![allow(clippy::unwrap_used)]

mod conformance;
mod failover;
mod faults;
mod fences;
mod load;
mod messages;
mod network_faults;
mod outage;
mod server;
mod tls;
