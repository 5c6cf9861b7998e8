//! Leases of uploads: one request at a time completes, cancels or expires an upload.

use std::time::Duration;

use landfall::upload::UploadId;
use tokio::time::sleep;

use super::Direct;
use crate::{DirectError, Record};
use landfall_database::RowLease;

const LEASE_ATTEMPTS: u32 = 100;
const POLL_INTERVAL: Duration = Duration::from_millis(100);

impl Direct {
    /// Returns the lease with the current record.
    pub(super) async fn acquire_lease(
        &self,
        id: &UploadId,
    ) -> Result<(RowLease, Record), DirectError> {
        let repository = &self.0.repository;
        for left in (0..LEASE_ATTEMPTS).rev() {
            if let Some(lease) = repository.acquire_lease(id).await? {
                let record = repository.get(id).await?;
                return Ok((lease, record.ok_or(DirectError::NotFound)?));
            }
            if repository.get(id).await?.is_none() {
                return Err(DirectError::NotFound);
            }
            if left > 0 {
                sleep(POLL_INTERVAL).await;
            }
        }
        Err(DirectError::Locked)
    }

    /// A slow operation may have outlasted it.
    pub(super) fn ensure_leased(lease: &RowLease) -> Result<(), DirectError> {
        match lease.is_held() {
            true => Ok(()),
            false => Err(DirectError::Locked),
        }
    }
}
