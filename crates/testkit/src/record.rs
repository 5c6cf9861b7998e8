//! A sink that records events.

use std::{collections::BTreeSet, sync::Arc};

use async_trait::async_trait;
use landfall::{
    BoxError,
    event::{Event, EventKind, EventKinds, EventSink},
    upload::UploadId,
};
use parking_lot::Mutex;

/// Records every event. Clones share the records.
#[derive(Debug, Clone, Default)]
pub struct RecordingSink(Arc<Mutex<Memory>>);

#[derive(Debug, Default)]
struct Memory {
    emitted: Vec<Event>,
    prepared: Vec<Event>,
    ids: BTreeSet<String>,
    unprepared: Vec<Event>,
}

impl RecordingSink {
    /// Returns all emitted events in order.
    pub fn events(&self) -> Vec<Event> {
        self.0.lock().emitted.clone()
    }

    /// Returns all prepared events in order.
    pub fn prepared(&self) -> Vec<Event> {
        self.0.lock().prepared.clone()
    }

    /// Returns events that were emitted without being prepared; must be empty, except for progress.
    pub fn unprepared(&self) -> Vec<Event> {
        self.0.lock().unprepared.clone()
    }

    /// Returns the kinds of an upload's events by sequence number, without progress.
    pub fn kinds(&self, id: &UploadId) -> Vec<EventKind> {
        let mut events: Vec<_> = self.events();
        events.retain(|event| event.upload.id == *id && event.kind != EventKind::Progress);
        events.sort_by_key(|event| event.sequence);
        events.into_iter().map(|event| event.kind).collect()
    }

    /// Returns the upload that was created last.
    pub fn last_created(&self) -> Option<UploadId> {
        let is_created = |event: &&Event| event.kind == EventKind::Created;
        let events = self.events();
        let created = events.iter().rfind(is_created);
        created.map(|event| event.upload.id.clone())
    }
}

#[async_trait]
impl EventSink for RecordingSink {
    fn event_kinds(&self) -> EventKinds {
        EventKinds::ALL
    }

    async fn prepare(&self, events: &[Event]) -> Result<(), BoxError> {
        let mut memory = self.0.lock();
        for event in events {
            memory.ids.insert(event.id());
            memory.prepared.push(event.clone());
        }
        Ok(())
    }

    async fn emit(&self, event: Event) {
        let mut memory = self.0.lock();
        if !memory.ids.contains(&event.id()) {
            memory.unprepared.push(event.clone());
        }
        memory.emitted.push(event);
    }

    fn emit_progress(&self, event: Event) {
        self.0.lock().emitted.push(event);
    }
}
