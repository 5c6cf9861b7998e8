//! Releases leases, by conditional writes of their records. It stops no holder.

use std::time::Duration;

use futures_util::{StreamExt as _, future::ready, stream};
use landfall::upload::UploadId;

use super::{
    BucketLeases,
    records::{BucketLeaseError, LeaseRecord, LeaseRecords},
    written::{CachedRecord, OwnedRecord},
};
use crate::table::QueuedRelease;

const MAX_CONCURRENT_RELEASES: usize = 32;
const HANDOFF_WINDOW: Duration = Duration::from_millis(100);

impl<R: LeaseRecords> BucketLeases<R> {
    pub(super) async fn release_all(
        &self,
        leases: &[QueuedRelease],
    ) -> Result<(), BucketLeaseError> {
        stream::iter(leases.to_vec())
            .map(|release| self.release_one(release))
            .buffer_unordered(MAX_CONCURRENT_RELEASES)
            .fold(Ok(()), |all, released| ready(all.and(released)))
            .await
    }

    async fn release_one(&self, release: QueuedRelease) -> Result<(), BucketLeaseError> {
        let QueuedRelease { id, number, .. } = &release;
        if release.is_requested && !self.written.is_wanted(id, *number) {
            // A request of this node waits, and no other node: it takes the record over.
            let until = release.since + HANDOFF_WINDOW;
            tokio::time::sleep_until(until).await;
        }
        let Some(record) = self.written.start_release(id, *number) else {
            return Ok(());
        };
        let released = self.in_time(self.write_release(id, &record)).await;
        let (released, result) = match released {
            Ok(released) => (Some(released), Ok(())),
            // Given up: it is written when another node requests the lease.
            Err(_) if release.since.elapsed() >= self.settings.ttl => (Some(None), Ok(())),
            Err(error) => (None, Err(error)),
        };
        self.written.end_release(id, released);
        result
    }

    async fn write_release(
        &self,
        id: &UploadId,
        record: &OwnedRecord,
    ) -> Result<Option<CachedRecord>, BucketLeaseError> {
        let key = LeaseRecord::key(id);
        let (fence, version) = match &record.written {
            Some(cached) => (cached.fence, cached.version.clone()),
            None => match self.records.read::<LeaseRecord>(&key).await? {
                Some((lease, version)) if *lease.owner == *record.owner && !lease.released => {
                    (lease.fence, version)
                }
                _ => return Ok(None),
            },
        };
        let lease = LeaseRecord::new(id, fence, &record.owner, true);
        let written = self.records.write(&key, &lease, Some(version)).await?;
        Ok(written.map(|version| CachedRecord {
            fence,
            reserved: fence,
            version,
            owner: None,
        }))
    }
}
