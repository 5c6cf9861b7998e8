//! What S3 has so far, and what clients say of it.

use std::{fmt, sync::Arc, time::Duration};

use landfall::upload::{Upload, UploadId};
use landfall_s3::client::Part;
use moka::future::Cache;

use super::{
    COMPLETES, Direct, MAX_ATTEMPTS, schedule,
    sign::{multipart, must_be_open},
};
use crate::{DirectError, Record};

/// What clients say is passed on at most this often for each upload.
const TOLD: Duration = Duration::from_secs(1);
/// Uploads of which it is remembered that it was told.
const REMEMBERED: u64 = 10_000;
/// A client that is heard of so seldom is noted in the books again.
const NOTED: Duration = Duration::from_secs(30);

/// Uploads whose progress was emitted within the last second.
pub(super) struct ProgressThrottle(Cache<UploadId, ()>);

impl Default for ProgressThrottle {
    fn default() -> Self {
        let cache = Cache::builder().max_capacity(REMEMBERED).time_to_live(TOLD);
        Self(cache.build())
    }
}

impl fmt::Debug for ProgressThrottle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ProgressThrottle(..)")
    }
}

impl Direct {
    /// The parts that S3 has, ten thousand at most.
    ///
    /// # Errors
    /// It isn't made of parts, or isn't open; S3 fails.
    ///
    /// # Cancel safety
    /// May be dropped.
    pub async fn parts(&self, record: &Record) -> Result<Vec<Part>, DirectError> {
        self.list(record, multipart(record)?).await
    }

    /// What its client says of how far it got: shown, never believed. Passed on once a second at most,
    /// and only where it is known how far there is to go.
    ///
    /// # Errors
    /// It isn't open. The books fail.
    ///
    /// # Cancel safety
    /// May be dropped.
    pub async fn progress(&self, record: &Record, sent: u64) -> Result<(), DirectError> {
        must_be_open(record)?;
        let id = record.id();
        if self.0.throttle.0.contains_key(id) {
            return Ok(());
        }
        self.0.throttle.0.insert(id.clone(), ()).await;
        if let Some(length) = record.upload.length {
            // Whether all of it has arrived is found out by a look at S3.
            self.audience()?
                .emit_progress(&record.upload, sent.min(length));
        }
        self.touch(record).await
    }

    /// Records that its client is active.
    async fn touch(&self, record: &Record) -> Result<(), DirectError> {
        let now = self.queue().now();
        let silent = now.duration_since(record.active_at).unwrap_or_default();
        if silent < NOTED {
            return Ok(());
        }
        let later = now + self.settings().interval;
        self.0.books.touch(record.id(), now, later).await?;
        self.forget(record).await;
        Ok(())
    }

    /// Records that the client of an upload completes it in S3, and has the sweeper check it soon.
    pub(super) async fn expect_completion(&self, record: &Record) -> Result<(), DirectError> {
        for _ in 0..MAX_ATTEMPTS {
            let now = self.0.books.get(record.id()).await?;
            let mut record = now.ok_or(DirectError::NotFound)?;
            must_be_open(&record)?;
            let mut upload = Upload::clone(&record.upload);
            upload.storage.insert(COMPLETES.into(), "1".into());
            record.upload = Arc::new(upload);
            record.active_at = self.queue().now();
            record.looks = 0;
            let soon = schedule::first_delay(self.settings());
            record.check_at = Some(record.active_at + soon);
            if self.change(&mut record).await? {
                return Ok(());
            }
        }
        Err(DirectError::Busy)
    }
}
