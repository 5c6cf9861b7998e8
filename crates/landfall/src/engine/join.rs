//! Final uploads: joined from partial ones (tus 1.0.0, Concatenation).

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

use landfall_protocol::Fault;

use super::{Caller, Engine, Error, add, claim::Turn, create::Created, is_missing};
use crate::{
    event::{EventKind, Removal},
    hook::Intent,
    lease::Lease,
    upload::{Kind, Snapshot, Upload, UploadId},
};

/// How many final uploads are remembered with the part that they wait for. More than that, or those
/// from before a restart, are joined when somebody asks for them, or by the sweeper.
const MOST_WAITING: usize = 10_000;

/// Final uploads by a part that isn't complete yet.
#[derive(Debug, Default)]
pub(super) struct WaitingFinals(Mutex<HashMap<UploadId, Vec<UploadId>>>);

impl WaitingFinals {
    fn wait(&self, part: UploadId, waiting: &UploadId) {
        let mut map = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if map.len() < MOST_WAITING {
            let finals = map.entry(part).or_default();
            if !finals.contains(waiting) && finals.len() < MOST_WAITING {
                finals.push(waiting.clone());
            }
        }
    }

    fn take(&self, part: &UploadId) -> Vec<UploadId> {
        let mut map = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        map.remove(part).unwrap_or_default()
    }
}

/// The parts of a final upload as they stand.
enum Parts {
    /// All there.
    Ready(Vec<Arc<Upload>>),
    /// This one isn't complete.
    Unfinished(UploadId),
}

impl Engine {
    /// Creates a final upload and joins its parts if they are complete; otherwise that is done as
    /// soon as they are (concatenation-unfinished).
    pub(super) async fn create_final(
        self: &Arc<Self>,
        caller: &Caller,
        mut upload: Upload,
    ) -> Result<Created, Error> {
        let Kind::Final { parts, .. } = &upload.kind else {
            return Err(Fault::Internal.into());
        };
        let mut unfinished = None;
        let mut sum = Some(0_u64);
        for id in parts {
            self.admit(caller, Intent::Concatenate, Some(id)).await?;
            let part = self.load(id).await?;
            if part.upload.kind != Kind::Partial {
                return Err(Fault::InvalidConcat
                    .because(format_args!("{id} was not created as a partial upload"))
                    .into());
            }
            sum = sum
                .zip(part.upload.length)
                .map(|(sum, length)| sum.checked_add(length).ok_or(Fault::MaxSizeExceeded))
                .transpose()?;
            if !part.is_complete() {
                unfinished.get_or_insert_with(|| id.clone());
            }
        }
        if let (Some(sum), Some(max)) = (sum, self.limits.max_size)
            && sum > max
        {
            return Err(Fault::MaxSizeExceeded.into());
        }
        // A client must not state the length; if it does, it had better be right (E-43).
        if let (Some(stated), Some(sum)) = (upload.length, sum)
            && stated != sum
        {
            return Err(Fault::InvalidUploadLength
                .because(format_args!(
                    "the partial uploads have {sum} bytes together"
                ))
                .into());
        }
        upload.length = sum;
        let (mut reply, claim) = self.ask_before_create(caller, &mut upload).await?;
        let claim = match self.claim(claim, &reply).await? {
            Turn::Free(claim) => claim,
            Turn::Made(created) => return Ok(created),
        };
        self.assign_id(&mut upload, claim.as_ref()).await?;
        let created = (EventKind::Created, 0);
        if unfinished.is_some() {
            self.announce(&[created], &upload, caller).await?;
        } else {
            let completed = (EventKind::Completed, sum.unwrap_or_default());
            self.announce(&[created, completed], &upload, caller)
                .await?;
        }
        let lease = self.lease(&upload.id).await?;
        let upload = self.parts.get_store().create(upload).await?;
        drop(claim);
        add(&self.counters.created, 1);
        self.tell(EventKind::Created, &upload, 0, caller).await;
        let upload = match unfinished {
            Some(part) => {
                self.waiting.wait(part.clone(), &upload.id);
                drop(lease);
                // It may have been completed between the look at it and the note about it.
                if self.load(&part).await.is_ok_and(|part| part.is_complete()) {
                    self.join_finals_waiting_for(&part);
                }
                upload
            }
            None => {
                let (engine, caller, made) = (self.clone(), caller.clone(), upload.clone());
                let joined = tokio::spawn(async move {
                    let result = engine.join(made.clone(), &lease).await;
                    match result {
                        Ok(upload) => engine
                            .finish(&caller, upload.clone(), lease, true)
                            .await
                            .map(|reply| (upload, reply)),
                        Err(error) => {
                            let _ = engine
                                .remove(&caller, &made, 0, &lease, Removal::Undone)
                                .await;
                            Err(error)
                        }
                    }
                });
                let (upload, more) = joined.await??;
                reply.merge(more);
                upload
            }
        };
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

    /// Looks at a final upload that isn't joined and joins it if all its parts are complete. `None`:
    /// still waiting for a part.
    pub(super) async fn join_if_ready(
        self: &Arc<Self>,
        caller: &Caller,
        snapshot: Snapshot,
    ) -> Result<Option<Snapshot>, Error> {
        if let Parts::Unfinished(part) = self.parts_of(&snapshot.upload).await? {
            self.waiting.wait(part, &snapshot.upload.id);
            return Ok(None);
        }
        // Whoever has the lease is joining it: wait for that.
        let id = &snapshot.upload.id;
        let lease = self.lease(id).await?;
        let current = self.load(id).await?;
        if current.upload.is_joined() {
            return Ok(Some(current));
        }
        let completed = [(
            EventKind::Completed,
            current.upload.length.unwrap_or_default(),
        )];
        self.announce(&completed, &current.upload, caller).await?;
        let (engine, caller) = (self.clone(), caller.clone());
        tokio::spawn(async move {
            let upload = engine.join(current.upload, &lease).await?;
            engine.finish(&caller, upload, lease, true).await
        })
        .await??;
        Ok(Some(self.load(id).await?))
    }

    /// Joins, in the background, the final uploads for which this partial upload was missing.
    pub(super) fn join_finals_waiting_for(self: &Arc<Self>, part: &UploadId) {
        let waiting = self.waiting.take(part);
        if waiting.is_empty() {
            return;
        }
        let engine = self.clone();
        tokio::spawn(async move {
            for id in waiting {
                if let Err(error) = engine.inspect(&None, &id).await
                    && error.is_ours()
                {
                    tracing::error!(%id, %error, "a final upload could not be joined");
                }
            }
        });
    }

    async fn parts_of(&self, upload: &Upload) -> Result<Parts, Error> {
        let Kind::Final { parts, .. } = &upload.kind else {
            return Err(Fault::Internal.into());
        };
        let mut ready = Vec::with_capacity(parts.len());
        for id in parts {
            let part = match self.parts.get_store().load(id).await {
                // A part was removed: this upload can never be joined (E-47).
                Err(error) if is_missing(&error) => return Err(Fault::Gone.into()),
                other => other?,
            };
            if !part.is_complete() {
                return Ok(Parts::Unfinished(part.upload.id.clone()));
            }
            ready.push(part.upload);
        }
        Ok(Parts::Ready(ready))
    }

    /// Joins the parts and records it.
    async fn join(&self, upload: Arc<Upload>, lease: &Lease) -> Result<Arc<Upload>, Error> {
        let Parts::Ready(parts) = self.parts_of(&upload).await? else {
            return Err(Fault::NotFinished.into());
        };
        let Some(concatenator) = self.parts.get_concatenator() else {
            return Err(Fault::ConcatenationUnsupported.into());
        };
        // Before any byte is copied: whoever asks again would have it copied again.
        let lengths = parts.iter().map(|part| part.length.unwrap_or_default());
        let expected = lengths.fold(0, u64::saturating_add);
        if self.max_size(&upload).is_some_and(|max| expected > max) {
            return Err(Fault::MaxSizeExceeded.into());
        }
        let _turn = self.joins.acquire().await.map_err(|_| Fault::Unavailable)?;
        let sum = concatenator
            .concatenate(&upload, &parts, lease.fence())
            .await?;
        let mut joined = (*upload).clone();
        joined.length = Some(sum);
        if let Kind::Final { joined, .. } = &mut joined.kind {
            *joined = true;
        }
        self.parts.get_store().save(&joined, lease.fence()).await?;
        Ok(Arc::new(joined))
    }

    /// The length of a final upload that isn't joined, if its parts tell it (T-CAT-18).
    pub(crate) async fn length_by_parts(&self, upload: &Upload) -> Option<u64> {
        let Kind::Final { parts, .. } = &upload.kind else {
            return None;
        };
        let mut sum = 0_u64;
        for id in parts {
            let part = self.parts.get_store().load(id).await.ok()?;
            sum = sum.checked_add(part.upload.length?)?;
        }
        Some(sum)
    }
}
