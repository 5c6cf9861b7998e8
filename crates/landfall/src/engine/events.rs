use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::{
    runtime::Handle,
    time::{Instant, sleep},
};

use super::{Engine, Error, RequestContext};
use crate::{
    event::{Event, EventKind, EventSink, Reservation, TerminationReason},
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
                events.push(Event::new(*kind, upload.clone(), *offset, context.clone()));
            }
        }
        self.prepare(&events).await
    }

    pub(super) async fn prepare(&self, events: &[Event]) -> Result<(), Error> {
        if !events.is_empty() {
            for sink in &self.config.sinks {
                sink.prepare(events).await.map_err(Error::Sink)?;
            }
        }
        Ok(())
    }

    /// Called right before the effect: the event can then be emitted in any case.
    pub(crate) async fn reserve(&self, kind: EventKind) -> Result<Reservations, Error> {
        let mut reservations = Reservations::default();
        if self.event_kinds.contains(kind) {
            for sink in self.interested(kind) {
                let reservation = sink.reserve().await.map_err(Error::Sink)?;
                reservations.0.push(reservation);
            }
        }
        Ok(reservations)
    }

    /// No sink gets the event before every sink has recorded it: a sink that reports events must not be
    /// ahead of one that stores state. If a sink fails to record it, it is emitted later.
    pub(super) async fn emit(&self, reservations: Reservations, event: Event) {
        let Err(error) = record(self.interested(event.kind), &event).await else {
            return emit_recorded(self.interested(event.kind), reservations, event).await;
        };
        let (id, kind) = (event.upload.id.clone(), event.kind);
        tracing::error!(%id, ?kind, %error, "failed to record event, retrying");
        let sinks: Vec<_> = self.interested(kind).cloned().collect();
        let is_detached =
            self.try_detach(&Handle::current(), emit_later(sinks, reservations, event));
        if !is_detached {
            tracing::error!(%id, ?kind, "failed to retry event: too many effects are running");
        }
    }

    pub(crate) async fn emit_kind(
        &self,
        reservations: Reservations,
        kind: EventKind,
        upload: &Arc<Upload>,
        offset: u64,
        context: &RequestContext,
    ) {
        if self.event_kinds.contains(kind) {
            let event = Event::new(kind, upload.clone(), offset, context.clone());
            self.emit(reservations, event).await;
        }
    }

    fn interested(&self, kind: EventKind) -> impl Iterator<Item = &Arc<dyn EventSink>> {
        let sinks = self.config.sinks.iter();
        sinks.filter(move |sink| sink.event_kinds().contains(kind))
    }

    pub(crate) async fn emit_removed(
        &self,
        reservations: Reservations,
        reason: Option<TerminationReason>,
        upload: &Arc<Upload>,
        offset: u64,
        context: &RequestContext,
    ) {
        self.emit(reservations, removal(reason, upload, offset, context))
            .await;
    }

    pub(crate) fn emit_external_progress(&self, upload: &Arc<Upload>, offset: u64) {
        let event = Event::new(EventKind::Progress, upload.clone(), offset, None);
        self.offer_progress(&event);
    }

    pub(super) fn offer_progress(&self, event: &Event) {
        let sinks = self.config.sinks.iter();
        for sink in sinks.filter(|sink| sink.event_kinds().progress) {
            sink.emit_progress(event.clone());
        }
    }

    /// Completes an upload whose completion was interrupted.
    pub(crate) async fn resolve(
        self: &Arc<Self>,
        kind: EventKind,
        id: &UploadId,
        created: Option<SystemTime>,
    ) -> Result<Resolution, Error> {
        let Some(lease) = self.free_lease(id).await? else {
            return Ok(Resolution::Busy);
        };
        let found = match self.load_present(id).await {
            Ok(snapshot) => Some(snapshot).filter(|found| found.upload.created == created),
            Err(StoreError::NotFound(_)) => None,
            Err(error) => return Err(error.into()),
        };
        Ok(match (kind, found) {
            (EventKind::Created, Some(found)) => Resolution::Happened(Some(found)),
            (EventKind::Terminated | EventKind::Expired, None) => Resolution::Happened(None),
            (EventKind::Completed, Some(found)) if found.upload.completion.is_done() => {
                Resolution::Happened(Some(found))
            }
            (EventKind::Completed, Some(found)) if self.is_finish_pending(&found) => {
                let upload = found.upload.clone();
                self.finish(&None, upload, lease, true).await?;
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
        record(self.interested(kind), &event).await
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
    let mut event = Event::new(kind, upload.clone(), offset, context.clone());
    event.reason = reason;
    event
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
    for sink in sinks {
        match reservations.next().flatten() {
            Some(reservation) => reservation.emit(event.clone()),
            None => sink.emit(event.clone()).await,
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
