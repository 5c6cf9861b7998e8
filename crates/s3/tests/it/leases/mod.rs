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
use landfall_s3::lease::{BucketLocker, BucketSettings};

use self::bucket::NodeTransport;

const LONG: Duration = Duration::from_secs(30);

/// Short times, for fast tests.
fn quick() -> BucketSettings {
    let mut settings = BucketSettings::default();
    settings.ttl = Duration::from_secs(2);
    settings.renew = Duration::from_millis(200);
    settings.poll = Duration::from_millis(50);
    settings.timeout = Duration::from_secs(1);
    settings
}

fn on(transport: &NodeTransport) -> BucketLocker {
    BucketLocker::new(transport.client(), "b", "up/", quick()).unwrap()
}

async fn acquire(locker: &BucketLocker, id: &UploadId) -> Lease {
    locker.acquire(id, LONG).await.unwrap()
}
