//! Removing what is left of leases and nodes.

use std::time::{Duration, SystemTime};

use landfall::{
    lease::{LeaseError, Locker},
    upload::UploadId,
};

use super::{
    BucketLocker,
    records::{LeaseRecord, RecordError},
};
use crate::client::Listed;

/// How many objects are listed at once.
const PAGE: u32 = 1000;

/// What [`BucketLocker::sweep`] removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Swept {
    /// Leases that nobody holds.
    pub leases: u64,
    /// Signs of life of nodes that are gone.
    pub nodes: u64,
}

impl BucketLocker {
    /// Removes leases that nobody holds, and the signs of life of nodes that ended without a word,
    /// which nobody has written for `age`; a day does well. The next lease of such an upload counts
    /// from the clock.
    ///
    /// A node is only known to be gone once nothing was seen of it for the
    /// [`ttl`](super::BucketSettings::ttl), so what it left goes with the next sweep.
    ///
    /// Costs a ListObjectsV2 for every thousand objects, and four calls for each that is removed.
    ///
    /// # Errors
    /// [`LeaseError::Unavailable`] if the bucket can't be read or written.
    ///
    /// # Cancel safety
    /// What was removed stays removed.
    pub async fn sweep(&self, age: Duration) -> Result<Swept, LeaseError> {
        let records = &self.0.node.records;
        let mut swept = Swept::default();
        let mut after = None;
        loop {
            let (page, next) = self.old(records.leases(), after, age).await?;
            for key in page {
                swept.leases += u64::from(self.sweep_lease(key).await?);
            }
            after = next;
            if after.is_none() {
                break;
            }
        }
        loop {
            let (page, next) = self.old(records.nodes(), after, age).await?;
            for key in page {
                swept.nodes += u64::from(self.sweep_node(key).await?);
            }
            after = next;
            if after.is_none() {
                return Ok(swept);
            }
        }
    }

    /// The keys of one page of objects that are old enough.
    async fn old(
        &self,
        prefix: String,
        after: Option<String>,
        age: Duration,
    ) -> Result<(Vec<String>, Option<String>), LeaseError> {
        let records = &self.0.node.records;
        let list = records
            .client
            .list_objects(&records.bucket, &prefix, after, PAGE);
        let page = list.await.map_err(unavailable)?;
        let is_old = |object: &Listed| {
            let modified = object.modified?;
            SystemTime::now().duration_since(modified).ok()
        };
        let objects = page.objects.into_iter();
        let old = objects.filter(|object| is_old(object).is_some_and(|old| old >= age));
        Ok((old.map(|object| object.key).collect(), page.next))
    }

    async fn sweep_node(&self, key: String) -> Result<bool, LeaseError> {
        let node = &self.0.node;
        let Some(owner) = key.strip_prefix(&node.records.nodes()) else {
            return Ok(false);
        };
        let looked = node.peers.look(&node.records, owner, None).await;
        looked.map_err(unavailable)?;
        if !node.peers.are_over(owner) {
            return Ok(false);
        }
        let place = node.records.node(owner);
        let removed = node.records.client.delete_object(&place).await;
        removed.map(|()| true).map_err(unavailable)
    }

    async fn sweep_lease(&self, key: String) -> Result<bool, LeaseError> {
        let records = &self.0.node.records;
        let place = records.place(key);
        let read = records.read::<LeaseRecord>(&place);
        let id = match read.await {
            Ok(Some((lease, _))) => UploadId::new(&lease.id).ok(),
            Ok(None) | Err(RecordError::Garbled { .. }) => None,
            Err(error) => return Err(unavailable(error)),
        };
        let Some(id) = id.filter(|id| records.lease(id) == place) else {
            return Ok(false);
        };
        // Under the lease: nobody may take it while its object goes.
        let lease = match self.try_acquire(&id).await {
            Ok(lease) => lease,
            Err(LeaseError::Locked) => return Ok(false),
            Err(error) => return Err(error),
        };
        let removed = records.client.delete_object(&place).await;
        // Held until here; and if it wasn't removed, it is given up as any other.
        if removed.is_ok() {
            self.0.node.table.forget(&id);
        }
        drop(lease);
        removed.map(|()| true).map_err(unavailable)
    }
}

fn unavailable(error: impl Into<landfall::BoxError>) -> LeaseError {
    LeaseError::Unavailable(error.into())
}
