//! Real services for tests.
//!
//! [`Ceph`], [`Garage`], [`Moto`] and [`S3s`] are S3 servers. [`GcsFake`] is a strict fake of Google Cloud
//! Storage, [`GcsEmulator`] an emulator by others, and [`Azurite`] Microsoft's emulator of Azure Blob Storage.
//! [`Nats`], [`PgBouncer`], [`Postgres`], [`RabbitMq`] and [`Redis`] are the real servers; [`Kafka`] is the mock
//! of librdkafka. A [`ReverseProxy`] is nginx or HAProxy. [`Pebble`] is an ACME authority. A [`Proxy`] between a
//! store and a service fails calls, and a [`FaultProxy`] breaks connections. [`http1`] has clients that send
//! exactly the given bytes, [`kill_loop`] kills processes of a test, and [`until`] waits.
//!
//! This is a separate, unpublished crate, because the tests of several crates need it.
//!
//! Each service listens on a free loopback port, keeps its data in a temporary folder, and ends with the
//! process that started it. `shared()` returns one service for all tests of a process, each with its own
//! bucket or database; `start()` returns one that a test may stop.
//!
//! A service that is not installed fails the test with instructions: a skipped test would look like one
//! that passed.

#![allow(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "a test fails by panicking, and so does everything in here"
)]

/// What all S3 services have.
macro_rules! s3_service {
    ($service:ident) => {
        impl $service {
            /// The one that all tests of this process share.
            #[must_use]
            pub fn shared() -> &'static Self {
                static SHARED: std::sync::OnceLock<$service> = std::sync::OnceLock::new();
                SHARED.get_or_init(Self::start)
            }

            /// Its endpoint and key.
            #[must_use]
            pub fn access(&self) -> crate::Access {
                self.access.clone()
            }
        }
    };
}

mod azurite;
mod ceph;
mod faults;
mod folder;
mod garage;
mod gcs;
mod gcs_emulator;
mod grpcio;
pub mod http1;
mod kafka;
pub mod kill_loop;
mod moto;
mod nats;
mod pebble;
mod pgbouncer;
mod plain_http;
mod ports;
mod postgres;
mod process;
pub mod proxy;
mod rabbitmq;
mod redis;
mod reverse_proxy;
mod s3s;
mod wait;

pub use azurite::Azurite;
pub use ceph::Ceph;
pub use faults::{Fault, FaultProxy};
pub use garage::Garage;
pub use gcs::{GcsFake, GcsObject, Refusal as GcsRefusal, SignedRequest, google_sdk};
pub use gcs_emulator::GcsEmulator;
pub use grpcio::Grpcio;
pub use kafka::{Kafka, Record};
pub use moto::Moto;
pub use nats::Nats;
pub use pebble::Pebble;
pub use pgbouncer::PgBouncer;
pub use ports::free_port;
pub use postgres::Postgres;
pub use proxy::Proxy;
pub use rabbitmq::RabbitMq;
pub use redis::Redis;
pub use reverse_proxy::ReverseProxy;
pub use s3s::S3s;
pub use wait::until;

/// The address and credentials of an S3 service.
#[derive(Clone, Debug)]
pub struct Access {
    /// Scheme, host and port, without a slash at the end; buckets are in the path.
    pub endpoint: String,
    /// The region that signatures must name.
    pub region: String,
    /// The key's id.
    pub access_key: String,
    /// The key's secret.
    pub secret_key: String,
}

impl Access {
    /// The same service by way of `proxy`.
    #[must_use]
    pub fn through_proxy(&self, proxy: &Proxy) -> Self {
        Self {
            endpoint: proxy.endpoint(),
            ..self.clone()
        }
    }

    /// The host and port of the endpoint.
    #[must_use]
    pub fn authority(&self) -> &str {
        self.endpoint.trim_start_matches("http://")
    }
}

/// Adds to the kills of processes that `scripts/test` sums up.
///
/// # Panics
///
/// When the file of `KILLS_FILE` cannot be written.
pub fn count_kills(kills: usize) {
    use std::io::Write as _;
    let Some(path) = std::env::var_os("KILLS_FILE") else {
        return;
    };
    let file = std::fs::OpenOptions::new()
        .append(true)
        .create(true)
        .open(path);
    let mut file = file.expect("the file of KILLS_FILE");
    file.write_all(format!("{kills}\n").as_bytes())
        .expect("the file of KILLS_FILE");
}

/// Returns the number of kills in a test: `kills`, or ten times as many if `LANDFALL_LONG=1`.
#[must_use]
pub fn kills(kills: usize) -> usize {
    let is_long = std::env::var("LANDFALL_LONG").is_ok_and(|long| long == "1");
    if is_long { 10 * kills } else { kills }
}

/// A name that is fit for a bucket and that no other call gets.
fn fresh_name(stem: &str) -> String {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(1);
    format!(
        "{stem}-{}-{}",
        std::process::id(),
        NEXT.fetch_add(1, Ordering::Relaxed)
    )
}
