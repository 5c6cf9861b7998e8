//! Leases in an S3 bucket, and probes of the service that has it. `landfall_leases` decides about them.

pub use landfall_leases::{LeaseSettings, LeaseSweepSummary, SettingsError};

pub use crate::probe::{ConditionalWrites, keeps_prefix, probe_conditional_writes};

/// Lease records below `PREFIX.landfall/` in a bucket.
pub type S3Leases = landfall_objects::ObjectLeases<crate::client::Client>;

/// A locker with leases in an S3 bucket, whose service must honor conditional writes:
/// [`probe_conditional_writes`] checks this.
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use std::time::Duration;
/// use landfall::{lease::Locker, upload::UploadId};
/// use landfall_s3::client::{Client, ClientSettings};
/// use landfall_s3::lease::{BucketLocker, LeaseSettings, S3Leases, probe_conditional_writes};
///
/// let client = Client::new(ClientSettings::default())?;
/// assert!(probe_conditional_writes(&client, "my-bucket", "").await?.all());
/// let leases = S3Leases::new(client, "my-bucket", "");
/// let locker = BucketLocker::new(leases, LeaseSettings::bucket())?;
/// let lease = locker.acquire(&UploadId::random(), Duration::from_secs(20)).await?;
/// drop(lease);
/// locker.close().await;
/// # Ok(()) }
/// ```
pub type BucketLocker = landfall_leases::BucketLocker<S3Leases>;
