//! One at a time: who completes, cancels or expires an upload holds it.

use std::time::Duration;

use landfall::upload::UploadId;
use tokio::time::sleep;

use super::Direct;
use crate::{DirectError, Record};
use landfall_database::RowLease;

/// How often it is asked for while somebody has it.
const TRIES: u32 = 100;
const PAUSE: Duration = Duration::from_millis(100);

impl Direct {
    /// Waits a while until nobody else is at an upload; gives it as it is in the books then.
    ///
    /// # Errors
    /// There is none, or somebody is at it all the time. The books fail.
    pub(super) async fn acquire_lease(
        &self,
        id: &UploadId,
    ) -> Result<(RowLease, Record), DirectError> {
        let books = &self.0.books;
        for left in (0..TRIES).rev() {
            if let Some(hold) = books.hold(id).await? {
                let record = books.get(id).await?;
                return Ok((hold, record.ok_or(DirectError::NotFound)?));
            }
            if books.get(id).await?.is_none() {
                return Err(DirectError::NotFound);
            }
            if left > 0 {
                sleep(PAUSE).await;
            }
        }
        Err(DirectError::Busy)
    }

    /// That it is still held: what takes long may have outlasted that.
    pub(super) fn ensure_leased(hold: &RowLease) -> Result<(), DirectError> {
        match hold.is_held() {
            true => Ok(()),
            false => Err(DirectError::Busy),
        }
    }
}
