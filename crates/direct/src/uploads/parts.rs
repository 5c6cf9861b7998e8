//! Received parts, and progress reported by clients.

use std::{sync::Arc, time::Duration};

use landfall::upload::Upload;
use landfall_s3::client::Part;

use super::{
    COMPLETES, Direct, MAX_ATTEMPTS, schedule,
    sign::{multipart_id, require_open},
};
use crate::{DirectError, Record};

const TOUCH_INTERVAL: Duration = Duration::from_secs(30);

impl Direct {
    /// Lists the parts in S3, at most 10,000.
    ///
    /// # Errors
    /// The upload is not a multipart upload or not open, or S3 failed.
    pub async fn parts(&self, record: &Record) -> Result<Vec<Part>, DirectError> {
        self.list_parts(record, multipart_id(record)?).await
    }

    /// Emits progress reported by the client, at most once a second, if the length is known; for display only.
    ///
    /// # Errors
    /// The upload is not open, or the database failed.
    pub async fn progress(&self, record: &Record, sent: u64) -> Result<(), DirectError> {
        require_open(record)?;
        let id = record.id();
        if self.0.throttle.contains_key(id) {
            return Ok(());
        }
        self.0.throttle.insert(id.clone(), ()).await;
        if let Some(length) = record.upload.length {
            // The size is verified against S3 on completion.
            self.dispatcher()?
                .emit_progress(&record.upload, sent.min(length));
        }
        self.touch(record).await
    }

    async fn touch(&self, record: &Record) -> Result<(), DirectError> {
        let now = self.queue().now();
        let silent = now.duration_since(record.active_at).unwrap_or_default();
        if silent < TOUCH_INTERVAL {
            return Ok(());
        }
        let later = now + self.settings().check_interval;
        self.0.repository.touch(record.id(), now, later).await?;
        self.invalidate(record).await;
        Ok(())
    }

    /// The client completes the upload in S3: schedules a check soon.
    pub(super) async fn expect_completion(&self, record: &Record) -> Result<(), DirectError> {
        for _ in 0..MAX_ATTEMPTS {
            let now = self.0.repository.get(record.id()).await?;
            let mut record = now.ok_or(DirectError::NotFound)?;
            require_open(&record)?;
            let mut upload = Upload::clone(&record.upload);
            upload.storage.insert(COMPLETES.into(), "1".into());
            record.upload = Arc::new(upload);
            record.active_at = self.queue().now();
            record.check_count = 0;
            let soon = schedule::first_delay(self.settings());
            record.next_check_at = Some(record.active_at + soon);
            if self.update(&mut record).await? {
                return Ok(());
            }
        }
        Err(DirectError::Locked)
    }
}
