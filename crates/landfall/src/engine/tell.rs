//! Telling the sinks: before something may happen, and when it has.

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
    lease::Lease,
    store::StoreError,
    upload::{Snapshot, Upload, UploadId},
};

/// The delays before a sink is called again that failed to record an event.
const MIN_BACKOFF: Duration = Duration::from_millis(100);
const MAX_BACKOFF: Duration = Duration::from_secs(5);
/// How long it is called again.
const RETRY_TIMEOUT: Duration = Duration::from_secs(600);

/// What became of something that was [announced](crate::event::EventSink::prepare).
#[derive(Debug, Clone)]
pub enum Resolution {
    /// It happened. The upload as it is now; `None` if that is what happened to it.
    Happened(Option<Snapshot>),
    /// It didn't, and won't without being announced again.
    DidNotHappen,
    /// Somebody is at it: look again later.
    Busy,
}

/// Room for one event, in the order of the sinks that want it.
#[derive(Debug, Default)]
pub(crate) struct Reservations(Vec<Option<Reservation>>);

impl Engine {
    /// Tells the sinks what may happen next to the upload, at the offset given for each.
    pub(crate) async fn prepare_kinds(
        &self,
        kinds: &[(EventKind, u64)],
        upload: &Upload,
        caller: &RequestContext,
    ) -> Result<(), Error> {
        let mut shared = None;
        let mut events = Vec::new();
        for (kind, offset) in kinds {
            // Who waits for completions may turn creations down.
            let concerns = match kind {
                EventKind::Created => self.wants.created || self.wants.completed,
                kind => self.wants.contains(*kind),
            };
            if concerns {
                let upload = shared.get_or_insert_with(|| Arc::new(upload.clone()));
                events.push(Event::new(*kind, upload.clone(), *offset, caller.clone()));
            }
        }
        self.prepare(&events).await
    }

    /// Prepares events in every sink, before their effects.
    pub(super) async fn prepare(&self, events: &[Event]) -> Result<(), Error> {
        if !events.is_empty() {
            for sink in &self.sinks {
                sink.prepare(events).await.map_err(Error::Sink)?;
            }
        }
        Ok(())
    }

    /// Reserves room for one event in every sink that wants it, right before the effect: afterwards
    /// nothing can keep the event from being emitted.
    pub(crate) async fn reserve(&self, kind: EventKind) -> Result<Reservations, Error> {
        let mut room = Reservations::default();
        if self.wants.contains(kind) {
            for sink in self.interested(kind) {
                room.0.push(sink.reserve().await.map_err(Error::Sink)?);
            }
        }
        Ok(room)
    }

    /// Emits an event to every sink that wants it, into the room that was reserved for it.
    ///
    /// No sink takes it before every sink has recorded it: one that reports an event must not be ahead
    /// of one that keeps the facts. If a sink cannot record it, this returns, and the event is emitted
    /// when it can.
    pub(super) async fn emit(&self, room: Reservations, event: Event) {
        let Err(error) = record(self.interested(event.kind), &event).await else {
            return emit_recorded(self.interested(event.kind), room, event).await;
        };
        let (id, kind) = (event.upload.id.clone(), event.kind);
        tracing::error!(%id, ?kind, %error, "failed to record an event, trying again");
        let sinks: Vec<_> = self.interested(kind).cloned().collect();
        let is_detached = self.try_detach(&Handle::current(), emit_later(sinks, room, event));
        if !is_detached {
            tracing::error!(%id, ?kind, "dropped an event: too many effects are running");
        }
    }

    /// Emits an event of this moment to every sink that wants it.
    pub(crate) async fn emit_kind(
        &self,
        room: Reservations,
        kind: EventKind,
        upload: &Arc<Upload>,
        offset: u64,
        caller: &RequestContext,
    ) {
        if self.wants.contains(kind) {
            let event = Event::new(kind, upload.clone(), offset, caller.clone());
            self.emit(room, event).await;
        }
    }

    fn interested(&self, kind: EventKind) -> impl Iterator<Item = &Arc<dyn EventSink>> {
        let sinks = self.sinks.iter();
        sinks.filter(move |sink| sink.event_kinds().contains(kind))
    }

    /// Emits the removal of an upload and its reason.
    pub(crate) async fn emit_removed(
        &self,
        room: Reservations,
        reason: TerminationReason,
        upload: &Arc<Upload>,
        offset: u64,
        caller: &RequestContext,
    ) {
        let kind = EventKind::Terminated;
        let mut event = Event::new(kind, upload.clone(), offset, caller.clone());
        event.reason = Some(reason);
        self.emit(room, event).await;
    }

    /// Tells progress of an upload whose bytes don't pass through here, and can't be stopped here.
    pub(crate) fn emit_progress_of(&self, upload: &Arc<Upload>, offset: u64) {
        let event = Event::new(EventKind::Progress, upload.clone(), offset, None);
        self.offer_progress(&event);
    }

    pub(super) fn offer_progress(&self, event: &Event) {
        for sink in self.sinks.iter().filter(|sink| sink.event_kinds().progress) {
            sink.emit_progress(event.clone());
        }
    }

    /// Finds out what became of something that was announced for the upload `id` that was created at
    /// `created`. A completion that nobody has been told of is told by this.
    pub(crate) async fn resolve(
        self: &Arc<Self>,
        kind: EventKind,
        id: &UploadId,
        created: Option<SystemTime>,
    ) -> Result<Resolution, Error> {
        let Some(lease) = self.free_lease(id).await? else {
            return Ok(Resolution::Busy);
        };
        let found = match self.parts.get_store().load(id).await {
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
                self.finish_pending(found, lease).await?
            }
            _ => Resolution::DidNotHappen,
        })
    }

    async fn finish_pending(
        self: &Arc<Self>,
        found: Snapshot,
        lease: Lease,
    ) -> Result<Resolution, Error> {
        self.finish(&None, found.upload.clone(), lease, true)
            .await?;
        Ok(Resolution::Happened(Some(found)))
    }

    /// Records a settled event, in case its process died before it could.
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

/// Records that an event has happened, in every sink that wants it.
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
    room: Reservations,
    event: Event,
) {
    let mut room = room.0.into_iter();
    for sink in sinks {
        match room.next().flatten() {
            Some(reservation) => reservation.emit(event.clone()),
            None => sink.emit(event.clone()).await,
        }
    }
}

/// Emits an event as soon as every sink has recorded it. A shutdown does not wait for this: a prepared
/// event is settled after it.
async fn emit_later(sinks: Vec<Arc<dyn EventSink>>, room: Reservations, event: Event) {
    let end = Instant::now() + RETRY_TIMEOUT;
    let mut backoff = MIN_BACKOFF;
    loop {
        sleep(backoff).await;
        match record(sinks.iter(), &event).await {
            Ok(()) => return emit_recorded(sinks.iter(), room, event).await,
            Err(error) if Instant::now() >= end => {
                let id = &event.upload.id;
                tracing::error!(%id, kind = ?event.kind, %error, "dropped an event that cannot be recorded");
                return;
            }
            Err(_) => backoff = (backoff * 2).min(MAX_BACKOFF),
        }
    }
}
