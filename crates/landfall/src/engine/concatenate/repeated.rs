//! Final uploads whose creation is repeated by a client that got no response, for example because a proxy
//! waits for less time than the concatenation takes.
//!
//! The first part names the final upload, so that a repetition is recognized after a restart, too. An
//! application may have taken the file away meanwhile: a bounded number of those is remembered in memory.

use std::{sync::Arc, time::Duration};

use landfall_protocol::ProblemKind;
use tokio::time::{Instant, sleep};

use crate::{
    engine::{Engine, Error, Inspected, RequestContext},
    hook::Intent,
    lease::Lease,
    upload::{Snapshot, Upload, UploadId},
};

const MIN_INTERVAL: Duration = Duration::from_millis(20);
const MAX_INTERVAL: Duration = Duration::from_secs(1);

pub(super) enum Repeated {
    Answered(Inspected),
    New(FirstPart),
}

/// The first part of a final upload that is being created. No other one is created from it meanwhile.
pub(super) struct FirstPart {
    upload: Arc<Upload>,
    lease: Lease,
}

impl FirstPart {
    pub(super) fn is_moved(&self) -> bool {
        self.upload.moved_to.is_some()
    }
}

impl Engine {
    /// The parts are complete.
    pub(super) async fn find_repeated(
        self: &Arc<Self>,
        context: &RequestContext,
        wanted: &Upload,
    ) -> Result<Repeated, Error> {
        let Some(first) = wanted.parts().first() else {
            return Err(ProblemKind::InvalidConcat.into());
        };
        let lease = self.lease(first).await?;
        let upload = self.load(first).await?.upload;
        if let Some(earlier) = upload.final_upload() {
            if let Some(finished) = self.final_uploads.finished(earlier)
                && self.is_repetition(context, wanted, &finished).await?
            {
                return Ok(Repeated::Answered(self.inspected_final(finished)));
            }
            let stored = self.stored(earlier).await?;
            if let Some(stored) = stored.map(|found| found.upload)
                && self.is_repetition(context, wanted, &stored).await?
            {
                drop(lease);
                let found = self.wait_for_completion(context, stored).await?;
                return Ok(Repeated::Answered(found));
            }
        }
        Ok(Repeated::New(FirstPart { upload, lease }))
    }

    /// Before the final upload exists: if its creation fails, no upload has this id.
    pub(super) async fn record_final(&self, first: &FirstPart, id: &UploadId) -> Result<(), Error> {
        let mut part = (*first.upload).clone();
        part.repetition.get_or_insert_default().final_upload = Some(id.clone());
        let store = self.composer.store();
        Self::while_held(&first.lease, store.save(&part, first.lease.fence())).await
    }

    /// Finds an equal final upload that waits for the same part.
    pub(super) async fn find_waiting(
        self: &Arc<Self>,
        context: &RequestContext,
        wanted: &Upload,
        missing: &UploadId,
    ) -> Result<Option<Inspected>, Error> {
        for id in self
            .final_uploads
            .waiting_with(missing, wanted.creation_digest())
        {
            if let Some(found) = self.stored(&id).await?
                && self.is_repetition(context, wanted, &found.upload).await?
            {
                return Ok(Some(self.inspect_soon(context, &id, Instant::now()).await?));
            }
        }
        Ok(None)
    }

    /// The response names the final upload, so the client must have access to it.
    async fn is_repetition(
        self: &Arc<Self>,
        context: &RequestContext,
        wanted: &Upload,
        existing: &Upload,
    ) -> Result<bool, Error> {
        if existing.creation_digest().is_none()
            || existing.creation_digest() != wanted.creation_digest()
            || existing.completion.is_denied()
        {
            return Ok(false);
        }
        let id = Some(&existing.id);
        match self.check_access(context, Intent::Inspect, id).await {
            Ok(()) => Ok(true),
            Err(Error::Rejected(ProblemKind::Forbidden, _)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// A response means that the file is complete: clients ask for nothing after it.
    pub(super) async fn wait_for_completion(
        self: &Arc<Self>,
        context: &RequestContext,
        upload: Arc<Upload>,
    ) -> Result<Inspected, Error> {
        let id = &upload.id;
        let deadline = Instant::now() + self.config.lease_wait;
        let mut interval = MIN_INTERVAL;
        loop {
            match self.inspect(context, id).await {
                Ok(found) if found.0.shown_offset().is_some() => return Ok(found),
                Ok(_) => {}
                Err(error) => match error.problem().kind {
                    ProblemKind::Locked => {}
                    ProblemKind::NotFound => {
                        // Taken away by the application; otherwise its creation has failed.
                        let finished = self.final_uploads.finished(id);
                        let finished = finished.ok_or(ProblemKind::Locked)?;
                        return Ok(self.inspected_final(finished));
                    }
                    _ => return Err(error),
                },
            }
            if Instant::now() >= deadline {
                return Err(ProblemKind::Locked.into());
            }
            sleep(interval).await;
            interval = (interval * 2).min(MAX_INTERVAL);
        }
    }

    fn inspected_final(&self, upload: Arc<Upload>) -> Inspected {
        let offset = upload.length.unwrap_or_default();
        self.with_expiry(Snapshot::new(upload, offset, std::time::SystemTime::now()))
    }
}
