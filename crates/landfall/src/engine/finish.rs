//! Completion: once per upload.

use std::{sync::Arc, time::SystemTime};

use landfall_protocol::Fault;

use super::{Caller, Engine, Error, add};
use crate::{
    event::EventKind,
    hook::{Answer, Reply},
    lease::{Lease, LeaseError},
    upload::{Kind, Snapshot, Upload, UploadId},
};

impl Engine {
    /// Whether somebody is to be asked or told about completions, so that it must be recorded that
    /// this has happened.
    fn has_finish_audience(&self) -> bool {
        self.asks.before_finish || self.wants.completed
    }

    /// Whether all bytes are there but whoever waits for that hasn't been told.
    pub(super) fn is_finish_pending(&self, snapshot: &Snapshot) -> bool {
        snapshot.is_complete() && !snapshot.upload.finished && self.has_finish_audience()
    }

    /// Completes an upload all of whose bytes are stored: makes it durable, asks, tells, records.
    /// `fresh` = this very request brought the last byte.
    ///
    /// Once somebody is to be asked or told, this goes on even if the request is dropped.
    pub(super) async fn finish(
        self: &Arc<Self>,
        caller: &Caller,
        upload: Arc<Upload>,
        lease: Lease,
        fresh: bool,
    ) -> Result<Reply, Error> {
        let finished = upload.clone();
        let reply = if self.has_finish_audience() && !upload.finished {
            let (engine, caller) = (self.clone(), caller.clone());
            tokio::spawn(async move {
                engine.make_durable(&upload, &lease).await?;
                engine.ask_and_tell_finish(&caller, upload, &lease).await
            })
            .await??
        } else {
            self.make_durable(&upload, &lease).await?;
            Reply::default()
        };
        if fresh {
            add(&self.counters.finished, 1);
            tracing::debug!(id = %finished.id, size = finished.length, "UploadFinished");
        }
        if finished.kind == Kind::Partial {
            self.join_finals_waiting_for(&finished.id);
        }
        Ok(reply)
    }

    async fn make_durable(&self, upload: &Upload, lease: &Lease) -> Result<(), Error> {
        match self.parts.get_finisher() {
            Some(finisher) => Ok(finisher.finish(upload, lease.fence()).await?),
            None => Ok(()),
        }
    }

    async fn ask_and_tell_finish(
        &self,
        caller: &Caller,
        upload: Arc<Upload>,
        lease: &Lease,
    ) -> Result<Reply, Error> {
        let offset = upload.length.unwrap_or_default();
        let mut reply = Reply::default();
        if self.asks.before_finish {
            let snapshot = Snapshot {
                upload: upload.clone(),
                offset,
                modified: SystemTime::now(),
            };
            let nobody = Arc::default();
            let request = caller.as_ref().unwrap_or(&nobody);
            for hook in self.hooks.iter().filter(|hook| hook.asks().before_finish) {
                match hook
                    .before_finish(request, &snapshot)
                    .await
                    .map_err(Error::Hook)?
                {
                    Answer::Allow(more) => reply.merge(more),
                    Answer::Refuse(no) => {
                        self.remove(caller, &upload, offset, lease).await?;
                        return Err(Error::Refused(Fault::Rejected, Box::new(no)));
                    }
                }
            }
        }
        self.tell(EventKind::Completed, &upload, offset, caller)
            .await;
        let mut recorded = (*upload).clone();
        recorded.finished = true;
        self.parts
            .get_store()
            .save(&recorded, lease.fence())
            .await?;
        Ok(reply)
    }

    /// Completes an upload that a crash left complete but untold. If another request has its lease,
    /// that one does it.
    pub(super) async fn finish_left_over(
        self: &Arc<Self>,
        caller: &Caller,
        id: &UploadId,
    ) -> Result<(), Error> {
        let lease = match self.parts.get_locker().try_acquire(id).await {
            Ok(lease) => lease,
            Err(LeaseError::Held) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let snapshot = self.load(id).await?;
        if self.is_finish_pending(&snapshot) {
            self.finish(caller, snapshot.upload, lease, true).await?;
        }
        Ok(())
    }
}
