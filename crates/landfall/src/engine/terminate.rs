//! Removal at a client's or a hook's wish.

use std::sync::Arc;

use landfall_protocol::Fault;

use super::{Caller, Engine, Error, add};
use crate::{
    event::EventKind,
    hook::{Answer, Reply},
    lease::Lease,
    upload::{Upload, UploadId},
};

impl Engine {
    /// DELETE: stops whoever is writing the upload and removes it (T-TRM-2, E-34).
    pub(crate) async fn terminate(
        self: &Arc<Self>,
        caller: &Caller,
        id: &UploadId,
    ) -> Result<Reply, Error> {
        let known = self.load(id).await?;
        let mut reply = Reply::default();
        if self.asks.before_terminate {
            let nobody = Arc::default();
            let request = caller.as_ref().unwrap_or(&nobody);
            for hook in self
                .hooks
                .iter()
                .filter(|hook| hook.asks().before_terminate)
            {
                match hook
                    .before_terminate(request, &known)
                    .await
                    .map_err(Error::Hook)?
                {
                    Answer::Allow(more) => reply.merge(more),
                    Answer::Refuse(no) => {
                        return Err(Error::Refused(Fault::TerminationRejected, Box::new(no)));
                    }
                }
            }
        }
        let lease = self.lease(id).await?;
        let snapshot = self.load(id).await?;
        // What has begun is ended even if the client goes away.
        let (engine, caller) = (self.clone(), caller.clone());
        tokio::spawn(async move {
            engine
                .remove(&caller, &snapshot.upload, snapshot.offset, &lease)
                .await
        })
        .await??;
        Ok(reply)
    }

    /// Removes an upload and tells it.
    pub(super) async fn remove(
        &self,
        caller: &Caller,
        upload: &Arc<Upload>,
        offset: u64,
        lease: &Lease,
    ) -> Result<(), Error> {
        let Some(terminator) = self.parts.get_terminator() else {
            return Err(Fault::NotImplemented.into());
        };
        terminator.terminate(upload, lease.fence()).await?;
        add(&self.counters.terminated, 1);
        tracing::debug!(id = %upload.id, offset, "UploadTerminated");
        self.tell(EventKind::Terminated, upload, offset, caller)
            .await;
        Ok(())
    }
}
