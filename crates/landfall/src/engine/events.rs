//! Brings events to all sinks: prepared before their effect, reserved right before it, emitted after it.
//!
//! No sink receives an event before every sink has recorded it. `resolve` reads the upload under a lease that it
//! acquires only if it is free, so it interrupts no request.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::{
    runtime::Handle,
    time::{Instant, sleep},
};

use super::{
    Engine, Error, RequestContext, acknowledgement::acknowledges, finishing::Finishing, is_missing,
};
use crate::{
    event::{Acknowledgement, Event, EventKind, EventSink, Reservation, TerminationReason},
    store::StoreError,
    upload::{Snapshot, Upload, UploadId},
};

const MIN_BACKOFF: Duration = Duration::from_millis(100);
const MAX_BACKOFF: Duration = Duration::from_secs(5);
const RETRY_TIMEOUT: Duration = Duration::from_secs(600);

/// The outcome of a [prepared](crate::event::EventSink::prepare) event.
#[derive(Debug, Clone)]
pub enum Resolution {
    /// It happened. Holds the current upload, or `None` if the event was its removal.
    Happened(Option<Snapshot>),
    /// It did not happen, and will not without being prepared again.
    DidNotHappen,
    /// A request is working on the upload: try again later.
    Busy,
}

/// In the order of the sinks that receive the event.
#[derive(Debug, Default)]
pub(crate) struct Reservations(Vec<Option<Reservation>>);

impl Engine {
    pub(crate) async fn prepare_kinds(
        &self,
        kinds: &[(EventKind, u64)],
        upload: &Upload,
        context: &RequestContext,
    ) -> Result<(), Error> {
        let mut shared = None;
        let mut events = Vec::new();
        for (kind, offset) in kinds {
            // A sink for completions may reject creations.
            let concerns = match kind {
                EventKind::Created => self.event_kinds.created || self.event_kinds.completed,
                kind => self.event_kinds.contains(*kind),
            };
            if concerns {
                let upload = shared.get_or_insert_with(|| Arc::new(upload.clone()));
                events.push(Event::new(
                    *kind,
                    upload.clone(),
                    *offset,
                    context.info.clone(),
                ));
            }
        }
        if events.is_empty() {
            return Ok(());
        }
        // Boxed because it is rare: the largest branch sets the size of every request's future.
        Box::pin(self.prepare(&events)).await
    }

    pub(super) async fn prepare(&self, events: &[Event]) -> Result<(), Error> {
        for sink in &self.config.sinks {
            sink.prepare(events).await.map_err(Error::Sink)?;
        }
        Ok(())
    }

    /// Called right before the effect: the event can then be emitted in any case.
    pub(crate) async fn reserve(&self, kind: EventKind) -> Result<Reservations, Error> {
        reserve_in(self.receivers(kind, false)).await
    }

    /// For an event that is emitted again.
    pub(super) async fn reserve_again(&self, kind: EventKind) -> Result<Reservations, Error> {
        reserve_in(self.receivers(kind, true)).await
    }

    /// No sink gets the event before every sink has recorded it: a sink that reports events must not be
    /// ahead of one that stores state. If a sink fails to record it, it is emitted later.
    pub(crate) async fn emit(&self, reservations: Reservations, event: Event) {
        let (kind, again) = (event.kind, event.redelivered);
        let Err(error) = record(self.receivers(kind, again), &event).await else {
            return emit_recorded(self.receivers(kind, again), reservations, event).await;
        };
        let id = event.upload.id.clone();
        tracing::error!(%id, ?kind, %error, "failed to record event, retrying");
        let sinks: Vec<_> = self.receivers(kind, again).cloned().collect();
        let is_detached =
            self.try_detach(&Handle::current(), emit_later(sinks, reservations, event));
        if !is_detached {
            tracing::error!(%id, ?kind, "failed to retry event: too many effects are running");
        }
    }

    /// `again`: only those that have not acknowledged it, as far as known.
    fn receivers(&self, kind: EventKind, again: bool) -> impl Iterator<Item = &Arc<dyn EventSink>> {
        let sinks = self.config.sinks.iter();
        sinks.filter(move |sink| {
            sink.event_kinds().contains(kind) && (!again || acknowledges(&***sink))
        })
    }

    pub(crate) fn offer_progress(&self, event: &Event) {
        let sinks = self.config.sinks.iter();
        for sink in sinks.filter(|sink| sink.event_kinds().progress) {
            sink.emit_progress(event.clone());
        }
    }

    /// Completes an upload whose completion was interrupted, and a removal that was interrupted when the bytes were
    /// gone: its event says that nothing is left.
    pub(crate) async fn resolve(
        self: &Arc<Self>,
        kind: EventKind,
        id: &UploadId,
        created: Option<SystemTime>,
    ) -> Result<Resolution, Error> {
        let Some(lease) = self.free_lease(id).await? else {
            return Ok(Resolution::Busy);
        };
        let is_meant = |found: &Snapshot| found.upload.created == created;
        let is_removal = matches!(kind, EventKind::Terminated | EventKind::Expired);
        let found = match self.composer.store().load(id).await {
            Err(StoreError::Gone(remains)) if is_removal && is_meant(&remains) => {
                self.remove_description(&remains.upload, &lease).await?;
                None
            }
            Err(error) if is_missing(&error) => None,
            found => Some(found?),
        };
        // The description of a moved file still proves that it happened.
        let found = found.filter(|found| is_meant(found) && !found.upload.completion.is_denied());
        Ok(match (kind, found) {
            (EventKind::Created, Some(found)) => Resolution::Happened(Some(found)),
            (EventKind::Terminated | EventKind::Expired, None) => Resolution::Happened(None),
            (EventKind::Completed, Some(found)) if found.upload.completion.is_done() => {
                Resolution::Happened(Some(found))
            }
            (EventKind::Completed, Some(found)) if self.is_finish_pending(&found) => {
                let upload = found.upload.clone();
                let how = Finishing::interrupted(found.offset);
                self.finish(RequestContext::NONE, upload, lease, how)
                    .await?;
                Resolution::Happened(Some(found))
            }
            _ => Resolution::DidNotHappen,
        })
    }

    pub(crate) async fn record_resolved(
        &self,
        kind: EventKind,
        id: &UploadId,
        outcome: &Resolution,
    ) -> Result<(), Error> {
        let Resolution::Happened(found) = outcome else {
            return Ok(());
        };
        let (upload, offset) = match found {
            Some(found) => (found.upload.clone(), found.offset),
            None => (Arc::new(Upload::new(id.clone(), None)), 0),
        };
        let event = Event::new(kind, upload, offset, None);
        record(self.receivers(kind, false), &event).await
    }
}

/// No reason means that it has expired.
pub(super) fn removal(
    reason: Option<TerminationReason>,
    upload: &Arc<Upload>,
    offset: u64,
    context: &RequestContext,
) -> Event {
    let kind = reason.map_or(EventKind::Expired, |_| EventKind::Terminated);
    let mut event = Event::new(kind, upload.clone(), offset, context.info.clone());
    event.reason = reason;
    event
}

async fn reserve_in(
    sinks: impl Iterator<Item = &Arc<dyn EventSink>>,
) -> Result<Reservations, Error> {
    let mut reservations = Reservations::default();
    for sink in sinks {
        let reservation = sink.reserve().await.map_err(Error::Sink)?;
        reservations.0.push(reservation);
    }
    Ok(reservations)
}

async fn record(
    sinks: impl Iterator<Item = &Arc<dyn EventSink>>,
    event: &Event,
) -> Result<(), Error> {
    for sink in sinks {
        sink.record(event).await.map_err(Error::Sink)?;
    }
    Ok(())
}

async fn emit_recorded(
    sinks: impl Iterator<Item = &Arc<dyn EventSink>>,
    reservations: Reservations,
    event: Event,
) {
    let mut reservations = reservations.0.into_iter();
    let receipt = event.receipt.as_ref();
    for sink in sinks {
        let acknowledgement = sink.acknowledgement();
        let receipt = receipt.filter(|_| acknowledgement != Acknowledgement::NotNeeded);
        let receipt = receipt.map(|receipt| receipt.of_another_sink());
        let mut event = event.clone();
        event.receipt = receipt.clone();
        match reservations.next().flatten() {
            Some(reservation) => reservation.emit(event),
            None => sink.emit(event).await,
        }
        if let Some(receipt) = receipt
            && acknowledgement == Acknowledgement::OnEmit
            && let Err(error) = receipt.acknowledge().await
        {
            tracing::warn!(%error, "failed to record that a completion was emitted");
        }
    }
}

/// A shutdown does not wait for this: the prepared event is resolved after the restart.
async fn emit_later(sinks: Vec<Arc<dyn EventSink>>, reservations: Reservations, event: Event) {
    let end = Instant::now() + RETRY_TIMEOUT;
    let mut backoff = MIN_BACKOFF;
    loop {
        sleep(backoff).await;
        match record(sinks.iter(), &event).await {
            Ok(()) => return emit_recorded(sinks.iter(), reservations, event).await,
            Err(error) if Instant::now() >= end => {
                let id = &event.upload.id;
                tracing::error!(%id, kind = ?event.kind, %error, "failed to record event, dropped it");
                return;
            }
            Err(_) => backoff = (backoff * 2).min(MAX_BACKOFF),
        }
    }
}
