//! `PostgresLocker` with a real PostgreSQL, which must be installed.
#![allow(clippy::unwrap_used)]
// The futures of sqlx are deep.
#![recursion_limit = "256"]

mod conformance;
mod fences;
mod load;
mod outage;

use std::time::Duration;

use landfall::{
    lease::{Lease, Locker as _},
    upload::UploadId,
};
use landfall_leases::{LeaseSettings, PostgresLocker};
use landfall_test_services::Postgres;

pub(crate) const LONG: Duration = Duration::from_secs(30);

/// Returns settings that keep tests short.
pub(crate) fn quick() -> LeaseSettings {
    let mut settings = LeaseSettings::postgres();
    settings.ttl = Duration::from_secs(2);
    settings.timeout = Duration::from_secs(1);
    settings
}

/// Creates an empty database.
pub(crate) fn database() -> String {
    Postgres::shared().database("leases")
}

/// Creates a node and waits until it is connected.
pub(crate) async fn node(url: &str, settings: &LeaseSettings) -> PostgresLocker {
    let locker = PostgresLocker::new(url, settings.clone()).unwrap();
    locker.check().await.unwrap();
    let deadline = tokio::time::Instant::now() + LONG;
    while !locker.stats().connected {
        assert!(tokio::time::Instant::now() < deadline, "not connected");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    locker
}

pub(crate) async fn acquire(locker: &PostgresLocker, id: &UploadId) -> Lease {
    locker.acquire(id, LONG).await.unwrap()
}
