//! Leases in the bucket, on moto, which keeps conditions on writes.

mod bucket;
mod conformance;
mod faults;
mod life;

use std::time::Duration;

use landfall::{
    lease::{Lease, Locker},
    upload::UploadId,
};
use landfall_s3::lease::{BucketLocker, BucketSettings};
use landfall_test_services::{Access, Moto};

use crate::support::client;

pub(crate) const LONG: Duration = Duration::from_secs(30);

/// Settings under which tests don't take long.
fn quick() -> BucketSettings {
    let mut settings = BucketSettings::default();
    settings.ttl = Duration::from_secs(3);
    settings.renew = Duration::from_millis(200);
    settings.poll = Duration::from_millis(50);
    settings.patience = Duration::from_secs(2);
    settings
}

fn locker_on(access: &Access, bucket: &str) -> BucketLocker {
    BucketLocker::new(client(access), bucket, "up/", quick()).unwrap()
}

fn locker(bucket: &str) -> BucketLocker {
    locker_on(&Moto::shared().access(), bucket)
}

async fn acquire(locker: &BucketLocker, id: &UploadId) -> Lease {
    locker.acquire(id, LONG).await.unwrap()
}
