//! Leases in the bucket.

mod bucket;
mod conformance;
mod faults;
mod lifecycle;

use std::time::Duration;

use landfall::{
    lease::{Lease, Locker},
    upload::UploadId,
};
use landfall_s3::lease::{BucketLocker, LeaseSettings, S3Leases};

use self::bucket::NodeTransport;

const LONG: Duration = Duration::from_secs(30);

/// Short times, for fast tests.
fn quick() -> LeaseSettings {
    let mut settings = LeaseSettings::bucket();
    settings.ttl = Duration::from_secs(2);
    settings.heartbeat = Duration::from_millis(200);
    settings.poll_interval = Duration::from_millis(50);
    settings.timeout = Duration::from_secs(1);
    settings
}

fn on(transport: &NodeTransport) -> BucketLocker {
    with(transport, quick())
}

fn with(transport: &NodeTransport, settings: LeaseSettings) -> BucketLocker {
    BucketLocker::new(S3Leases::new(transport.client(), "b", "up/"), settings).unwrap()
}

async fn acquire(locker: &BucketLocker, id: &UploadId) -> Lease {
    locker.acquire(id, LONG).await.unwrap()
}
