use std::sync::Arc;

use tokio::runtime::Handle;

use super::{Engine, Error, RequestContext};
use crate::{event::TerminationReason, hook::ClientResponse, store::StoreError, upload::UploadId};

impl Engine {
    pub(crate) fn stop(&self, id: &UploadId, reply: ClientResponse) -> bool {
        let live = self.live.get(id);
        if let Some(live) = &live {
            live.stop(reply);
        }
        live.is_some()
    }

    /// An upload without a running request is removed directly: a client that sends in chunks has no request
    /// open most of the time.
    pub(super) fn stop_or_remove(
        self: &Arc<Self>,
        runtime: &Handle,
        context: &RequestContext,
        id: &UploadId,
        reply: ClientResponse,
    ) {
        let (engine, context, id) = (self.clone(), context.clone(), id.clone());
        let stopped = self.try_detach(runtime, async move {
            if let Err(error) = engine.remove_stopped(&context, &id, reply).await {
                tracing::warn!(%id, %error, "failed to remove stopped upload");
            }
        });
        if !stopped {
            tracing::warn!("failed to stop upload: too many effects are running");
        }
    }

    async fn remove_stopped(
        self: &Arc<Self>,
        context: &RequestContext,
        id: &UploadId,
        reply: ClientResponse,
    ) -> Result<(), Error> {
        if let Some(live) = self.live.get(id) {
            live.stop(reply);
            // A request that has received its whole body ignores the stop.
            live.wait_end().await;
        }
        let lease = self.lease(id).await?;
        let snapshot = match self.composer.store().load(id).await {
            Err(StoreError::NotFound(_)) => return Ok(()),
            loaded => loaded?,
        };
        // A stop after the last byte has no effect.
        if snapshot.is_complete() {
            return Ok(());
        }
        let (upload, offset) = (&snapshot.upload, snapshot.offset);
        self.remove(context, upload, offset, &lease, TerminationReason::Hook)
            .await
    }
}
