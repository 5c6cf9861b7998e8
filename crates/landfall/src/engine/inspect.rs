//! The state of an upload, as HEAD, GET and the application see it.
//!
//! It waits for no lease: the offset of a running writer is read from memory. An upload whose completion runs is reported
//! as locked, and to HEAD with an [offset](super::live::completing) that is not complete yet. If the lease is free, an
//! interrupted completion is completed first, and an interrupted write, which the store may lose, is repeated.
//!
//! HEAD does not wait for longer than [`ANSWER_TIMEOUT`], whatever the store does: another process may complete the
//! upload, or this one after a crash. A task then asks again, without a limit, and the next HEAD gets the result.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use landfall_protocol::ProblemKind;
use tokio::{
    runtime::Handle,
    time::{Instant, timeout},
};

use super::{Engine, Error, RequestContext, is_missing};
use crate::{
    store::StoreError,
    upload::{Snapshot, Upload, UploadId},
};

/// A store that hangs must not hold HEAD while a writer is in memory.
const STORED_TIMEOUT: Duration = Duration::from_secs(1);

/// Clients ask again if the completion takes longer.
const COMPLETION_TIMEOUT: Duration = Duration::from_millis(250);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);
const MIN_TIMEOUT: Duration = Duration::from_millis(250);

/// The state of an upload, and when it expires.
pub(crate) type Inspected = (Snapshot, Option<SystemTime>);

impl Engine {
    pub(crate) async fn get(self: &Arc<Self>, id: &UploadId) -> Result<Option<Snapshot>, Error> {
        // Not later: it may be a hook that asks.
        if let Some(completing) = self.live.completing(id) {
            return Ok(Some(match completing.upload.completion.is_pending() {
                true => completing.whole(),
                false => completing.tell(),
            }));
        }
        match self.inspect(RequestContext::NONE, id).await {
            Ok((found, _)) if found.upload.is_description_only() => Ok(None),
            Ok((found, _)) => Ok(Some(found)),
            Err(error) => match error.problem().kind {
                ProblemKind::NotFound | ProblemKind::Rejected => Ok(None),
                // Expired, missing a part, or being completed: the upload exists.
                ProblemKind::Gone | ProblemKind::Locked => {
                    let stored = self.stored(id).await?;
                    Ok(stored.filter(|found| !found.upload.is_description_only()))
                }
                _ => Err(error),
            },
        }
    }

    /// Returns whether a request writes the upload, or is about to.
    pub(crate) fn is_being_written(&self, id: &UploadId) -> bool {
        self.live.is_being_written(id)
    }

    /// The offset is then likely still valid when the client resumes: see
    /// [`LiveUploads::wait_until_stable`](super::live::LiveUploads::wait_until_stable).
    pub(crate) async fn wait_for_stable_offset(&self, id: &UploadId) {
        self.live.wait_until_stable(id).await;
    }

    pub(super) async fn stored(&self, id: &UploadId) -> Result<Option<Snapshot>, StoreError> {
        match self.composer.store().load(id).await {
            Err(error) if is_missing(&error) => Ok(None),
            found => found.map(Some),
        }
    }

    pub(super) fn live_snapshot(&self, id: &UploadId) -> Option<Snapshot> {
        self.live.get(id).map(|live| live.snapshot())
    }

    /// The offset of a running writer is read from memory, and from the store if another node may have seen more
    /// there: offsets never fall.
    pub(crate) async fn inspect(
        self: &Arc<Self>,
        context: &RequestContext,
        id: &UploadId,
    ) -> Result<Inspected, Error> {
        if let Some(live) = self.live.get(id) {
            let mut last = live.snapshot();
            if live.can_lag() {
                // Boxed, as below, because it is rare: the largest branch sets the size of every request's future.
                last.offset = last.offset.max(Box::pin(self.stored_offset(id)).await?);
            }
            if !last.is_complete() || last.upload.completion.is_done() {
                live.record_told(last.offset);
                return Ok(self.with_expiry(last));
            }
            // All bytes are received, and the completion is about to begin.
            Box::pin(live.wait_end()).await;
        }
        if let Some(completing) = self.live.completing(id)
            && !Box::pin(completing.ended_within(COMPLETION_TIMEOUT)).await
        {
            return Err(ProblemKind::Locked.into());
        }
        let mut found = self.load_usable(id).await?;
        if !found.0.is_settled {
            found.0 = Box::pin(self.repeat_write(id)).await?;
        }
        if !found.0.upload.is_concatenated() {
            return Box::pin(self.inspect_waiting(context, found.0)).await;
        }
        if self.is_finish_pending(&found.0) {
            // A crash interrupted the completion, or hooks are running.
            Box::pin(self.complete_interrupted(context, id)).await?;
            found = self.load_usable(id).await?;
        }
        Ok(found)
    }

    /// [Inspects](Self::inspect) for a client that resumes at the offset, or asks again soon. `since` is when it began to
    /// wait.
    pub(crate) async fn inspect_soon(
        self: &Arc<Self>,
        context: &RequestContext,
        id: &UploadId,
        since: Instant,
    ) -> Result<Inspected, Error> {
        match self.live.take_late(id) {
            Ok(None) => {}
            Ok(Some(found)) => return found,
            Err(()) => return self.tell(id),
        }
        let limit = ANSWER_TIMEOUT.saturating_sub(since.elapsed());
        match timeout(limit.max(MIN_TIMEOUT), self.inspect(context, id)).await {
            Ok(Err(error)) if error.problem().kind == ProblemKind::Locked => self.tell(id),
            Ok(found) => found,
            Err(_) => {
                self.inspect_late(context, id);
                self.tell(id)
            }
        }
    }

    /// Begins anew, so that requests that are answered in time need no task and no allocation.
    fn inspect_late(self: &Arc<Self>, context: &RequestContext, id: &UploadId) {
        // Otherwise a completion runs by itself.
        if self.live.completing(id).is_some() || !self.live.begin_late(id) {
            return;
        }
        let (engine, context, name) = (self.clone(), context.clone(), id.clone());
        let late = async move {
            let found = engine.inspect(&context, &name).await;
            engine.live.end_late(&name, Some(found));
        };
        if !self.try_detach(&Handle::current(), late) {
            self.live.end_late(id, None);
        }
    }

    /// The state of an upload whose completion runs. [`ProblemKind::Locked`] if only the store can tell.
    fn tell(&self, id: &UploadId) -> Result<Inspected, Error> {
        let completing = self.live.completing(id);
        let is_known = |upload: &Upload| !upload.is_final() || !upload.is_concatenated();
        match completing.filter(|completing| is_known(&completing.upload)) {
            Some(completing) => Ok(self.with_expiry(completing.tell())),
            None => Err(ProblemKind::Locked.into()),
        }
    }

    /// Returns the offset that other nodes see. A store that does not answer is an error: they may have seen more
    /// than is in memory, and offsets never fall.
    async fn stored_offset(&self, id: &UploadId) -> Result<u64, Error> {
        let found = timeout(STORED_TIMEOUT, self.stored(id)).await;
        let found = found.map_err(|_| Error::from(ProblemKind::Unavailable))??;
        match found {
            // Its writer is about to write the same again.
            Some(found) if !found.is_settled => Err(ProblemKind::Unavailable.into()),
            found => Ok(found.map_or(0, |found| found.stated_offset())),
        }
    }

    /// Resumes an upload after an interrupted write: the store then has the bytes that count for good. An offset that
    /// clients have seen must not fall.
    async fn repeat_write(&self, id: &UploadId) -> Result<Snapshot, Error> {
        let Some(lease) = self.free_lease(id).await? else {
            return Err(ProblemKind::Locked.into());
        };
        let resumed = self.composer.store().resume(id, lease.fence());
        let (snapshot, _) = Self::while_held(&lease, resumed).await?;
        Ok(snapshot)
    }

    pub(super) fn with_expiry(&self, found: Snapshot) -> Inspected {
        let expires = self.expiry_of(&found);
        (found, expires)
    }
}
