//! Concatenating partial uploads into a final one (tus 1.0.0, Concatenation).

mod background;
mod parts;
mod repeated;
mod state;

use std::{sync::Arc, time::SystemTime};

use landfall_protocol::ProblemKind;
use tracing::Instrument as _;

pub(super) use self::state::FinalUploads;
use self::{parts::first_occurrences, repeated::Repeated, state::PartsProgress};
use super::{
    Engine, Error, RequestContext,
    create::{Assigned, Created},
    finishing::Finishing,
    hooks::merge,
    live::completing::Received,
};
use crate::{event::TerminationReason, lease::Lease, upload::Upload};

impl Engine {
    pub(super) async fn create_final(
        self: &Arc<Self>,
        context: &RequestContext,
        mut upload: Upload,
    ) -> Result<Created, Error> {
        let parts = upload.parts().to_vec();
        let known = self.admit_parts(context, &parts).await?;
        let sum = known.sum_of(&parts, self.config.limits.max_size)?;
        // A client must not send the length; if it does, it must match.
        if let (Some(stated), Some(sum)) = (upload.length, sum)
            && stated != sum
        {
            return Err(ProblemKind::InvalidUploadLength
                .with_detail(format_args!(
                    "the partial uploads have {sum} bytes together"
                ))
                .into());
        }
        upload.length = sum;
        let (mut reply, key, _) = self.call_pre_create(context, &mut upload).await?;
        upload.record_creation_digest();
        let missing = parts.get(known.complete);
        let first = match missing {
            Some(missing) => {
                if let Some(found) = self.find_waiting(context, &upload, missing).await? {
                    return Ok(Created::existing(found, reply));
                }
                None
            }
            None => match self.find_repeated(context, &upload).await? {
                Repeated::Answered(found) => return Ok(Created::existing(found, reply)),
                // Its bytes are in another final upload, whose file was moved away.
                Repeated::New(first) if first.is_moved() => return Err(ProblemKind::Gone.into()),
                Repeated::New(first) => Some(first),
            },
        };
        let key_lease = match self.assign_id(&mut upload, key).await? {
            Assigned::New(lease) => lease,
            Assigned::Exists((found, _)) if found.shown_offset().is_none() && missing.is_none() => {
                let found = self.wait_for_completion(context, found.upload).await?;
                return Ok(Created::existing(found, reply));
            }
            Assigned::Exists(found) => return Ok(Created::existing(found, reply)),
        };
        let admission = match missing {
            Some(_) => None,
            None => {
                let admission = self.final_uploads.admit(&upload.id);
                Some(admission.ok_or(ProblemKind::TooManyUploads)?)
            }
        };
        let end = admission.as_ref().map(|_| sum.unwrap_or_default());
        let lease = self.lease(&upload.id).await?;
        self.prepare_creation(context, &upload, end).await?;
        if let Some(first) = &first {
            self.record_final(first, &upload.id).await?;
        }
        let engine = self.clone();
        let create = async move {
            let upload = engine.composer.store().create(upload).await?;
            drop((key_lease, first));
            Ok((upload, lease))
        };
        let (mut upload, lease) = self.emit_created(context, create).await?;
        context.log_created(&upload);
        if let Some(admission) = admission {
            let (engine, context, created) = (self.clone(), context.clone(), upload.clone());
            let in_flight = self.in_flight.enter();
            let complete = async move {
                let _in_flight = in_flight;
                match engine.concatenate(created.clone(), &lease).await {
                    Ok(upload) => {
                        admission.end();
                        let how = Finishing {
                            fresh: true,
                            is_prepared: true,
                            ..Finishing::default()
                        };
                        let finished = engine.finish(&context, upload.clone(), lease, how);
                        let reply = finished.await?;
                        engine
                            .final_uploads
                            .record_finished(&upload, reply.as_deref());
                        Ok((upload, reply))
                    }
                    Err(error) => {
                        let removed = engine.remove(
                            &context,
                            &created,
                            0,
                            &lease,
                            TerminationReason::RolledBack,
                        );
                        if removed.await.is_ok() {
                            admission.end();
                        }
                        Err::<_, Error>(error)
                    }
                }
            };
            let (concatenated, more) = tokio::spawn(complete.in_current_span()).await??;
            upload = concatenated;
            merge(&mut reply, more);
        } else if let Some(part) = missing {
            self.final_uploads.insert(&upload, part.clone(), known);
            drop(lease);
            // The part may have been completed between its load and the insertion.
            if self
                .load(part)
                .await
                .is_ok_and(|part| part.has_exact_length())
            {
                self.advance_finals_of(part);
            }
        }
        let offset = upload.length.unwrap_or_default();
        let expires = self.expiry(&upload, offset, SystemTime::now());
        Ok(Created {
            upload,
            offset: None,
            expires,
            reply,
            existed: false,
        })
    }

    async fn concatenate(
        self: &Arc<Self>,
        upload: Arc<Upload>,
        lease: &Lease,
    ) -> Result<Arc<Upload>, Error> {
        // The store may not answer readers of the upload meanwhile.
        let _concatenating = self.begin_completion(&upload, Received::default());
        let Some(concatenator) = self.composer.concatenator() else {
            return Err(ProblemKind::ConcatenationUnsupported.into());
        };
        let turn = self.final_uploads.turns.acquire().await;
        let _turn = turn.map_err(|_| ProblemKind::Unavailable)?;
        let parts = self.load_complete_parts(&upload).await?;
        let mut known = PartsProgress::default();
        let firsts = first_occurrences(upload.parts());
        for (at, (part, is_first)) in parts.iter().zip(firsts).enumerate() {
            known.measure(at, part.length, is_first)?;
        }
        known.sum_of(upload.parts(), self.max_size(&upload))?;
        let concatenated = concatenator.concatenate(&upload, &parts, lease.fence());
        let sum = Self::while_held(lease, concatenated).await?;
        let mut concatenated = (*upload).clone();
        concatenated.length = Some(sum);
        concatenated.set_concatenated();
        let store = self.composer.store();
        Self::while_held(lease, store.save(&concatenated, lease.fence())).await?;
        Ok(Arc::new(concatenated))
    }
}
