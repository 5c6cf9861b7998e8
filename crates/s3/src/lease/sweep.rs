//! Deletes records of released leases and dead nodes. It deletes none without having its lease.

use std::time::{Duration, SystemTime};

use landfall::{
    lease::{LeaseError, Locker},
    upload::UploadId,
};

use super::{
    BucketLocker,
    records::{LeaseRecord, RecordError},
};

const PAGE: u32 = 1000;

/// The records that [`BucketLocker::sweep`] deleted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LeaseSweepSummary {
    /// Lease records without a holder.
    pub leases: u64,
    /// Heartbeat records of dead nodes.
    pub nodes: u64,
}

impl BucketLocker {
    /// Deletes records of released leases and of dead nodes that have not changed for `age`.
    ///
    /// A day is a good `age`. The next lease of such an upload gets its fence from the clock. A
    /// node is known to be dead after it was observed for the [`ttl`](super::BucketSettings::ttl),
    /// so its record is deleted by the next sweep.
    ///
    /// A sweep costs one ListObjectsV2 per 1,000 objects, and four calls per deleted record.
    ///
    /// # Errors
    /// [`LeaseError::Unavailable`] if the bucket cannot be read or written.
    ///
    /// # Cancel safety
    /// Deleted records stay deleted.
    pub async fn sweep(&self, age: Duration) -> Result<LeaseSweepSummary, LeaseError> {
        let records = &self.0.node.records;
        let mut summary = LeaseSweepSummary::default();
        for prefix in [records.leases(), records.nodes()] {
            let mut after = None;
            loop {
                let (page, next) = self.keys_older_than(&prefix, after, age).await?;
                for key in page {
                    match prefix == records.leases() {
                        true => summary.leases += u64::from(self.sweep_lease(key).await?),
                        false => summary.nodes += u64::from(self.sweep_node(key).await?),
                    }
                }
                after = next;
                if after.is_none() {
                    break;
                }
            }
        }
        Ok(summary)
    }

    /// Learns which nodes are dead, for a process that does not live long enough to see it when it meets
    /// their leases: waits for the [`ttl`](super::BucketSettings::ttl) if a node has written no heartbeat
    /// for that long, by the bucket's clock. At most 1,000 nodes are watched.
    ///
    /// # Errors
    /// [`LeaseError::Unavailable`] if the bucket cannot be read.
    ///
    /// # Cancel safety
    /// May be dropped.
    pub async fn find_dead_nodes(&self) -> Result<(), LeaseError> {
        let node = &self.0.node;
        let (prefix, ttl) = (node.records.nodes(), node.settings.ttl);
        let (silent, _) = self.keys_older_than(&prefix, None, ttl).await?;
        if silent.is_empty() {
            return Ok(());
        }
        for wait in [Duration::ZERO, ttl] {
            tokio::time::sleep(wait).await;
            for owner in silent.iter().filter_map(|key| key.strip_prefix(&prefix)) {
                let probed = node.peers.probe(&node.records, owner, None).await;
                probed.map_err(unavailable)?;
            }
        }
        Ok(())
    }

    async fn keys_older_than(
        &self,
        prefix: &str,
        after: Option<String>,
        age: Duration,
    ) -> Result<(Vec<String>, Option<String>), LeaseError> {
        let records = &self.0.node.records;
        let list = (records.client).list_objects(&records.bucket, prefix, after, PAGE);
        let page = list.await.map_err(unavailable)?;
        let is_old = |at: SystemTime| at.elapsed().is_ok_and(|old| old >= age);
        let objects = page.objects.into_iter();
        let old = objects.filter(|object| object.modified.is_some_and(is_old));
        Ok((old.map(|object| object.key).collect(), page.next))
    }

    async fn sweep_node(&self, key: String) -> Result<bool, LeaseError> {
        let node = &self.0.node;
        let Some(owner) = key.strip_prefix(&node.records.nodes()) else {
            return Ok(false);
        };
        let probed = node.peers.probe(&node.records, owner, None).await;
        probed.map_err(unavailable)?;
        if !node.peers.is_dead(owner) {
            return Ok(false);
        }
        let object_ref = node.records.node(owner);
        let removed = node.records.client.delete_object(&object_ref).await;
        removed.map(|()| true).map_err(unavailable)
    }

    async fn sweep_lease(&self, key: String) -> Result<bool, LeaseError> {
        let records = &self.0.node.records;
        let object_ref = records.object_ref(key);
        let read = records.read::<LeaseRecord>(&object_ref);
        let id = match read.await {
            Ok(Some((lease, _))) => UploadId::new(&lease.id).ok(),
            Ok(None) | Err(RecordError::Malformed { .. }) => None,
            Err(error) => return Err(unavailable(error)),
        };
        let Some(id) = id.filter(|id| records.lease(id) == object_ref) else {
            return Ok(false);
        };
        // Hold the lease, so that no node acquires it while its record is deleted.
        let lease = match self.try_acquire(&id).await {
            Ok(lease) => lease,
            Err(LeaseError::Locked) => return Ok(false),
            Err(error) => return Err(error),
        };
        let removed = records.client.delete_object(&object_ref).await;
        // If the deletion failed, the lease is released like any other.
        if removed.is_ok() {
            self.0.node.written.remove(&id);
        }
        drop(lease);
        removed.map(|()| true).map_err(unavailable)
    }
}

fn unavailable(error: impl Into<landfall::BoxError>) -> LeaseError {
    LeaseError::Unavailable(error.into())
}
