//! Deletes records of released leases and dead nodes. It deletes none without having its lease.

use std::time::Duration;

use landfall::{
    lease::{LeaseError, Locker},
    upload::UploadId,
};

use super::{
    BucketLocker,
    records::{BucketLeaseError, LEASES, LeaseRecord, LeaseRecords, NODES, NodeRecord},
};

/// The records that [`BucketLocker::sweep`] deleted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LeaseSweepSummary {
    /// Lease records without a holder.
    pub leases: u64,
    /// Heartbeat records of dead nodes.
    pub nodes: u64,
}

impl<R: LeaseRecords> BucketLocker<R> {
    /// Deletes records of released leases and of dead nodes that have not changed for `age`.
    ///
    /// A day is a good `age`. The next lease of such an upload gets its fence from the clock. A
    /// node is known to be dead after it was observed for the [`ttl`](crate::LeaseSettings::ttl),
    /// so its record is deleted by the next sweep.
    ///
    /// A sweep costs one listing per 1,000 objects, and four calls per deleted record.
    ///
    /// # Errors
    /// [`LeaseError::Unavailable`] if the bucket cannot be read or written.
    ///
    /// # Cancel safety
    /// Deleted records stay deleted.
    pub async fn sweep(&self, age: Duration) -> Result<LeaseSweepSummary, LeaseError> {
        let mut summary = LeaseSweepSummary::default();
        for prefix in [LEASES, NODES] {
            let mut next = None;
            loop {
                let keys;
                (keys, next) = self.keys_older_than(prefix, next, age).await?;
                for key in keys {
                    match prefix {
                        LEASES => summary.leases += u64::from(self.sweep_lease(&key).await?),
                        _ => summary.nodes += u64::from(self.sweep_node(&key).await?),
                    }
                }
                if next.is_none() {
                    break;
                }
            }
        }
        Ok(summary)
    }

    /// Learns which nodes are dead, for a process that does not live long enough to see it when it meets
    /// their leases: waits for the [`ttl`](crate::LeaseSettings::ttl) if a node has written no heartbeat
    /// for that long, by the bucket's clock. At most 1,000 nodes are watched.
    ///
    /// # Errors
    /// [`LeaseError::Unavailable`] if the bucket cannot be read.
    ///
    /// # Cancel safety
    /// May be dropped.
    pub async fn find_dead_nodes(&self) -> Result<(), LeaseError> {
        let ttl = self.service().settings.ttl;
        let (silent, _) = self.keys_older_than(NODES, None, ttl).await?;
        if silent.is_empty() {
            return Ok(());
        }
        for wait in [Duration::ZERO, ttl] {
            tokio::time::sleep(wait).await;
            for owner in silent.iter().filter_map(|key| key.strip_prefix(NODES)) {
                self.is_dead(owner).await?;
            }
        }
        Ok(())
    }

    async fn keys_older_than(
        &self,
        prefix: &str,
        next: Option<String>,
        age: Duration,
    ) -> Result<(Vec<String>, Option<String>), LeaseError> {
        let page = self.service().records.0.list(prefix, next).await;
        let page = page.map_err(unavailable)?;
        let records = page.records.into_iter();
        let old = records.filter(|record| record.age.is_some_and(|old| old >= age));
        Ok((old.map(|record| record.key).collect(), page.next))
    }

    async fn is_dead(&self, owner: &str) -> Result<bool, LeaseError> {
        let service = self.service();
        let probed = service.peers.probe(&service.records, owner, None).await;
        probed.map_err(unavailable)?;
        Ok(service.peers.is_dead(owner))
    }

    async fn sweep_node(&self, key: &str) -> Result<bool, LeaseError> {
        let Some(owner) = key.strip_prefix(NODES) else {
            return Ok(false);
        };
        if !self.is_dead(owner).await? {
            return Ok(false);
        }
        let removed = self.service().records.delete(&NodeRecord::key(owner)).await;
        removed.map(|()| true).map_err(unavailable)
    }

    async fn sweep_lease(&self, key: &str) -> Result<bool, LeaseError> {
        let records = &self.service().records;
        let id = match records.read::<LeaseRecord>(key).await {
            Ok(Some((lease, _))) => UploadId::new(&lease.id).ok(),
            Ok(None) | Err(BucketLeaseError::Malformed { .. }) => None,
            Err(error) => return Err(unavailable(error)),
        };
        let Some(id) = id.filter(|id| LeaseRecord::key(id) == key) else {
            return Ok(false);
        };
        // Hold the lease, so that no node acquires it while its record is deleted.
        let lease = match self.try_acquire(&id).await {
            Ok(lease) => lease,
            Err(LeaseError::Locked) => return Ok(false),
            Err(error) => return Err(error),
        };
        let removed = records.delete(key).await;
        // If the deletion failed, the lease is released like any other.
        if removed.is_ok() {
            self.service().written.remove(&id);
        }
        drop(lease);
        removed.map(|()| true).map_err(unavailable)
    }
}

fn unavailable(error: impl Into<landfall::BoxError>) -> LeaseError {
    LeaseError::Unavailable(error.into())
}
