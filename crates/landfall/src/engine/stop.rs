//! Stopping an upload on behalf of a hook or the application.

use std::sync::Arc;

use tokio::runtime::Handle;

use super::{Engine, Error, RequestContext};
use crate::{event::TerminationReason, hook::ClientResponse, store::StoreError, upload::UploadId};

impl Engine {
    /// Stops an upload whose bytes are coming in, and removes it. Says whether there was one.
    pub(crate) fn stop(&self, id: &UploadId, reply: ClientResponse) -> bool {
        let live = self.live.get(id);
        if let Some(live) = &live {
            live.stop(reply);
        }
        live.is_some()
    }

    /// Stops an unfinished upload. If no request takes in its bytes at this moment, the upload is
    /// removed all the same: a client that sends in chunks has no request open most of the time.
    pub(super) fn stop_or_remove(
        self: &Arc<Self>,
        runtime: &Handle,
        caller: &RequestContext,
        id: &UploadId,
        reply: ClientResponse,
    ) {
        let (engine, caller, id) = (self.clone(), caller.clone(), id.clone());
        let stopped = self.try_detach(runtime, async move {
            if let Err(error) = engine.remove_stopped(&caller, &id, reply).await {
                tracing::warn!(%id, %error, "failed to remove an upload that a hook stopped");
            }
        });
        if !stopped {
            tracing::warn!("failed to stop an upload: too many effects are running");
        }
    }

    async fn remove_stopped(
        self: &Arc<Self>,
        caller: &RequestContext,
        id: &UploadId,
        reply: ClientResponse,
    ) -> Result<(), Error> {
        if let Some(live) = self.live.get(id) {
            live.stop(reply);
            // A request that has received its whole body no longer hears it.
            live.wait_end().await;
        }
        let lease = self.lease(id).await?;
        let snapshot = match self.parts.get_store().load(id).await {
            Err(StoreError::NotFound(_)) => return Ok(()),
            loaded => loaded?,
        };
        // A stop that comes after the last byte changes nothing.
        if snapshot.is_complete() {
            return Ok(());
        }
        let (upload, offset) = (&snapshot.upload, snapshot.offset);
        self.remove(caller, upload, offset, &lease, TerminationReason::Hook)
            .await
    }
}
