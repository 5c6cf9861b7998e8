//! The locker conformance suites.
//!
//! All checks run on a bucket in memory. On moto, whose calls take milliseconds, only the checks
//! run that can pass within their time limits.

use std::{sync::Arc, time::Duration};

use landfall_s3::lease::{BucketLocker, LeaseSettings, S3Leases};
use landfall_test_services::Moto;
use landfall_testkit::locker::{self, Pair};

use super::{bucket::NodeTransport, quick, with};
use crate::support::client;

/// Maximum duration of a takeover.
const TAKEOVER: Duration = Duration::from_secs(1);

/// Checks with hundreds of sequential leases, or with a time limit of a few calls.
const MANY: &[&str] = &[
    "a_dropped_lease_is_free",
    "a_newcomer_takes_over_at_once",
    "one_upload_has_one_holder_under_pressure",
    "a_thousand_uploads_at_once",
];

fn slow_settings() -> LeaseSettings {
    let mut settings = quick();
    settings.ttl = Duration::from_secs(15);
    settings.timeout = Duration::from_secs(30);
    settings
}

fn locker_with_slow_settings(transport: &NodeTransport) -> BucketLocker {
    with(transport, slow_settings())
}

fn on_moto(bucket: &str) -> BucketLocker {
    let client = client(&Moto::shared().access());
    BucketLocker::new(S3Leases::new(client, bucket, "up/"), slow_settings()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn within_one_node() {
    locker::conformance(async || locker_with_slow_settings(&NodeTransport::new())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn between_two_nodes() {
    let transport = NodeTransport::new();
    let make = async || {
        (
            locker_with_slow_settings(&transport),
            locker_with_slow_settings(&transport.another()),
        )
    };
    locker::conformance_between(make, TAKEOVER).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn within_one_node_on_moto() {
    let bucket = Moto::shared().bucket("leases");
    let checks = locker::all();
    for name in MANY {
        assert!(checks.iter().any(|check| check.name() == *name), "{name}");
    }
    for check in checks.iter().filter(|check| !MANY.contains(&check.name())) {
        check.run(&(Arc::new(on_moto(&bucket)) as _)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn between_two_nodes_on_moto() {
    let bucket = Moto::shared().bucket("leases");
    for check in locker::all_between() {
        let pair = Pair {
            one: Arc::new(on_moto(&bucket)),
            other: Arc::new(on_moto(&bucket)),
            takeover: 2 * TAKEOVER,
        };
        check.run(&pair).await;
    }
}
