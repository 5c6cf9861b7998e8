//! Concatenates final uploads whose last part is completed after their creation.
//!
//! A completed part, a HEAD and the sweeper start it. `FinalUploads::admit` bounds how many run, and delays those that
//! failed. The parts are checked before the lease is requested, and again under it.

use std::sync::Arc;

use landfall_protocol::ProblemKind;
use tracing::Instrument as _;

use super::state::Admission;
use crate::{
    engine::{Engine, Error, Inspected, RequestContext, finishing::Finishing},
    event::EventKind,
    upload::{Snapshot, Upload, UploadId},
};

impl Engine {
    /// The snapshot has no offset: no bytes of it count. Starts the concatenation if the parts are complete.
    pub(in crate::engine) async fn inspect_waiting(
        self: &Arc<Self>,
        context: &RequestContext,
        mut snapshot: Snapshot,
    ) -> Result<Inspected, Error> {
        let upload = snapshot.upload.clone();
        let parts = upload.parts();
        if upload.length.is_none() || !self.final_uploads.is_busy(&upload.id) {
            let known = self.check_parts(&upload).await?;
            if upload.length.is_none()
                && let Some(sum) = known.sum_of(parts, None)?
            {
                snapshot.upload = self.record_sum(&upload, sum).await?;
            }
            if known.complete == parts.len() {
                self.start_concatenations(context.clone(), vec![upload.id.clone()]);
            }
        }
        snapshot.offset = 0;
        Ok(self.with_expiry(snapshot))
    }

    /// Stores a final upload's length that became known after its creation, so that it is not computed
    /// again (`tus/concatenation-unfinished/length-is-the-sum`).
    async fn record_sum(&self, upload: &Upload, sum: u64) -> Result<Arc<Upload>, Error> {
        let mut measured = upload.clone();
        measured.length = Some(sum);
        if let Some(lease) = self.free_lease(&upload.id).await? {
            let store = self.composer.store();
            let current = store.load(&upload.id).await?.upload;
            if *current == *upload {
                Self::while_held(&lease, store.save(&measured, lease.fence())).await?;
            }
        }
        Ok(Arc::new(measured))
    }

    pub(in crate::engine) fn advance_finals_of(self: &Arc<Self>, part: &UploadId) {
        let waiting = self.final_uploads.waiting_for(part);
        if !waiting.is_empty() {
            self.start_concatenations(RequestContext::NONE.clone(), waiting);
        }
    }

    /// Leaves uploads that are running, failed recently or exceed the limit to the next HEAD or the sweeper.
    fn start_concatenations(self: &Arc<Self>, context: RequestContext, ids: Vec<UploadId>) {
        let finals = self.final_uploads.clone();
        let mut admitted = ids.into_iter().filter_map(move |id| finals.admit(&id));
        let Some(mut next) = admitted.next() else {
            return;
        };
        let engine = self.clone();
        let in_flight = self.in_flight.enter();
        let advance = async move {
            let _in_flight = in_flight;
            loop {
                engine.advance_admitted(&context, next).await;
                match admitted.next() {
                    Some(more) if !engine.in_flight.is_shutting_down() => next = more,
                    _ => return,
                }
            }
        };
        tokio::spawn(advance.in_current_span());
    }

    pub(in crate::engine) async fn advance_final(self: &Arc<Self>, id: &UploadId) {
        if let Some(admission) = self.final_uploads.admit(id) {
            self.advance_admitted(RequestContext::NONE, admission).await;
        }
    }

    async fn advance_admitted(self: &Arc<Self>, context: &RequestContext, admission: Admission) {
        let id = &admission.id;
        match self.concatenate_if_ready(context, id).await {
            Ok(()) => admission.end(),
            Err(error) => {
                if error.is_ours() {
                    tracing::error!(%id, %error, "failed to concatenate a final upload");
                }
                // These errors recur without copying anything, so no backoff is needed.
                let fault = error.problem().kind;
                if matches!(
                    fault,
                    ProblemKind::Locked
                        | ProblemKind::NotFound
                        | ProblemKind::Gone
                        | ProblemKind::NotFinished
                        | ProblemKind::InvalidConcat
                        | ProblemKind::Rejected
                        | ProblemKind::MaxSizeExceeded
                ) {
                    admission.end();
                }
            }
        }
    }

    async fn concatenate_if_ready(
        self: &Arc<Self>,
        context: &RequestContext,
        id: &UploadId,
    ) -> Result<(), Error> {
        let found = self.load(id).await?.upload;
        if found.is_concatenated() || self.check_parts(&found).await?.complete < found.parts().len()
        {
            return Ok(());
        }
        let lease = self.lease(id).await?;
        let current = self.load(id).await?.upload;
        if current.is_concatenated() {
            return Ok(());
        }
        let completed = [(EventKind::Completed, current.length.unwrap_or_default())];
        self.prepare_kinds(&completed, &current, context).await?;
        let concatenated = self.concatenate(current, &lease).await?;
        self.final_uploads.remove(id);
        let how = Finishing {
            fresh: true,
            is_prepared: true,
            knows_url: true,
            ..Finishing::default()
        };
        self.finish(context, concatenated, lease, how).await?;
        Ok(())
    }
}
