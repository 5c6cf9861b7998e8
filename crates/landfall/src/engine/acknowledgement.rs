//! Completions at least once: an upload is recorded as unacknowledged until every sink has acknowledged its
//! completion, and completions that a process left unacknowledged are emitted again after a start.

use std::{
    collections::HashSet,
    fmt,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use landfall_protocol::ProblemKind;
use parking_lot::Mutex;
use tokio::{runtime::Handle, time::sleep};

use super::{Engine, Error, RequestContext, is_missing};
use crate::{
    error::HandlerError,
    event::{Acknowledgement, Event, EventKind, EventSink, Receipt},
    store::StoreError,
    upload::{Snapshot, Upload, UploadId},
};

/// Uploads examined between two pauses.
const PAGE: usize = 1000;
const PAGE_DELAY: Duration = Duration::from_millis(1);
const MIN_BACKOFF: Duration = Duration::from_secs(1);
/// Each walk lists the whole store.
const MAX_BACKOFF: Duration = Duration::from_secs(3600);

#[derive(Debug)]
pub(super) struct Acknowledgements {
    sinks: usize,
    is_started: AtomicBool,
    /// Uploads whose events the sinks of this process have, and may still acknowledge.
    emitted: Mutex<HashSet<UploadId>>,
}

impl Acknowledgements {
    pub(super) fn new(sinks: &[Arc<dyn EventSink>]) -> Self {
        let sinks = sinks.iter().filter(|sink| acknowledges(&***sink));
        Self {
            sinks: sinks.count(),
            is_started: AtomicBool::new(false),
            emitted: Mutex::default(),
        }
    }

    pub(super) fn are_required(&self) -> bool {
        self.sinks > 0
    }
}

pub(super) fn acknowledges(sink: &dyn EventSink) -> bool {
    sink.event_kinds().completed && sink.acknowledgement() != Acknowledgement::NotNeeded
}

/// While one exists, this process does not redeliver the completion: it is created before the upload is recorded
/// as unacknowledged, and dropped after it is recorded as acknowledged.
#[derive(Clone)]
pub(super) struct SinkReceipt {
    emitted: Arc<Emitted>,
    is_acknowledged: Arc<AtomicBool>,
}

/// An emitted completion. It keeps the engine: an event may be acknowledged after the handler was dropped.
struct Emitted {
    engine: Arc<Engine>,
    id: UploadId,
    created: Option<SystemTime>,
    /// Sinks, and the emission itself.
    remaining: AtomicUsize,
}

impl Drop for Emitted {
    fn drop(&mut self) {
        self.engine.acknowledgements.emitted.lock().remove(&self.id);
    }
}

impl fmt::Debug for SinkReceipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SinkReceipt")
    }
}

impl SinkReceipt {
    pub(super) fn new(engine: &Arc<Engine>, upload: &Upload) -> Self {
        let acknowledgements = &engine.acknowledgements;
        acknowledgements.emitted.lock().insert(upload.id.clone());
        Self {
            emitted: Arc::new(Emitted {
                engine: engine.clone(),
                id: upload.id.clone(),
                created: upload.created,
                remaining: AtomicUsize::new(acknowledgements.sinks + 1),
            }),
            is_acknowledged: Arc::default(),
        }
    }

    /// Returns whether this was the last acknowledgement. Its caller records it.
    fn count(&self) -> bool {
        let is_first = !self.is_acknowledged.swap(true, SeqCst);
        is_first && self.emitted.remaining.fetch_sub(1, SeqCst) == 1
    }
}

#[async_trait]
impl Receipt for SinkReceipt {
    fn of_another_sink(&self) -> Arc<dyn Receipt> {
        Arc::new(Self {
            emitted: self.emitted.clone(),
            is_acknowledged: Arc::default(),
        })
    }

    async fn acknowledge(&self) -> Result<(), HandlerError> {
        self.count();
        let Emitted {
            engine,
            id,
            created,
            remaining,
        } = &*self.emitted;
        if remaining.load(SeqCst) > 0 {
            return Ok(());
        }
        Ok(engine.record_acknowledged(id, *created).await?)
    }
}

impl Engine {
    /// Emits the completion of an upload that is recorded as unacknowledged. Returns whether all sinks have
    /// acknowledged it by now; the caller records that.
    pub(super) async fn emit_acknowledged(
        self: &Arc<Self>,
        reservations: super::Reservations,
        mut event: Event,
        receipt: &SinkReceipt,
    ) -> bool {
        event.receipt = Some(receipt.of_another_sink());
        self.emit(reservations, event).await;
        receipt.count()
    }

    /// Takes no lease if there is nothing to record: the application may have removed the upload.
    async fn record_acknowledged(
        &self,
        id: &UploadId,
        created: Option<SystemTime>,
    ) -> Result<(), Error> {
        if self.unacknowledged(id, created).await?.is_none() {
            return Ok(());
        }
        let lease = self.lease(id).await?;
        let Some(found) = self.unacknowledged(id, created).await? else {
            return Ok(());
        };
        let mut upload = Arc::unwrap_or_clone(found.upload);
        upload.unacknowledged = false;
        let saved = self.composer.store().save(&upload, lease.fence());
        match Self::while_held(&lease, saved).await {
            Err(Error::Store(error)) if is_missing(&error) => Ok(()),
            saved => saved,
        }
    }

    async fn unacknowledged(
        &self,
        id: &UploadId,
        created: Option<SystemTime>,
    ) -> Result<Option<Snapshot>, StoreError> {
        let found = self.stored(id).await?;
        Ok(found.filter(|found| found.upload.unacknowledged && found.upload.created == created))
    }

    /// Emits again, once per process, what no sink of an earlier process has acknowledged. Without a runtime,
    /// a later call starts it.
    pub(crate) fn start_redelivery(self: &Arc<Self>) {
        let acknowledgements = &self.acknowledgements;
        if acknowledgements.are_required()
            && !acknowledgements.is_started.load(SeqCst)
            && let Ok(runtime) = Handle::try_current()
            && !acknowledgements.is_started.swap(true, SeqCst)
        {
            runtime.spawn(redeliver_all(Arc::downgrade(self)));
        }
    }

    async fn redeliver(self: &Arc<Self>, found: Snapshot) -> Result<(), Error> {
        let (id, created) = (&found.upload.id, found.upload.created);
        if self.is_finish_pending(&found) && !self.has_expired(&found).await? {
            let completed = self.complete_interrupted(RequestContext::NONE, id).await;
            return completed.or_else(|error| match error.problem().kind {
                // A request or another process completes it, or it has ended otherwise.
                ProblemKind::Locked
                | ProblemKind::Gone
                | ProblemKind::NotFound
                | ProblemKind::Rejected
                | ProblemKind::DigestMismatch => Ok(()),
                _ => Err(error),
            });
        }
        if !found.upload.unacknowledged || self.acknowledgements.emitted.lock().contains(id) {
            return Ok(());
        }
        let reservations = loop {
            match self.reserve_again(EventKind::Completed).await {
                Ok(reservations) => break reservations,
                Err(error) if self.in_flight.is_shutting_down() => return Err(error),
                // The sink is full: the application is busy with earlier ones.
                Err(_) => sleep(MIN_BACKOFF).await,
            }
        };
        // It may have been acknowledged since it was listed.
        let Some(found) = self.unacknowledged(id, created).await? else {
            return Ok(());
        };
        tracing::info!(%id, "the completion was not acknowledged, emitting it again");
        let receipt = SinkReceipt::new(self, &found.upload);
        let mut event = Event::new(EventKind::Completed, found.upload, found.offset, None);
        event.redelivered = true;
        if self.emit_acknowledged(reservations, event, &receipt).await {
            self.record_acknowledged(id, created).await?;
        }
        Ok(())
    }
}

/// Repeats the walk until it has met no error: a hook or a store may be away, or a stream full.
async fn redeliver_all(engine: Weak<Engine>) {
    let mut backoff = MIN_BACKOFF;
    let (mut cursor, mut has_failed) = (None, false);
    loop {
        {
            let Some(engine) = engine.upgrade() else {
                return;
            };
            let Some(enumerator) = engine.composer.enumerator() else {
                tracing::warn!("the store lists no uploads: completions are not emitted again");
                return;
            };
            match enumerator.page(cursor.take(), PAGE).await {
                Ok(page) => {
                    cursor = page.next;
                    for found in page.uploads {
                        if engine.in_flight.is_shutting_down() {
                            return;
                        }
                        let id = found.upload.id.clone();
                        if let Err(error) = engine.redeliver(found).await {
                            has_failed = true;
                            tracing::warn!(%id, %error, "failed to emit a completion again");
                        }
                    }
                }
                Err(error) => {
                    has_failed = true;
                    tracing::warn!(%error, "failed to list unacknowledged completions");
                }
            }
        }
        match (&cursor, has_failed) {
            (Some(_), _) => sleep(PAGE_DELAY).await,
            (None, false) => return,
            (None, true) => {
                has_failed = false;
                sleep(backoff).await;
                backoff = (backoff * 2).min(MAX_BACKOFF);
            }
        }
    }
}
