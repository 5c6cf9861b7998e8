//! A sink that remembers what it was told.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use landfall::{
    BoxError,
    event::{Event, EventKind, EventKinds, EventSink},
    upload::UploadId,
};

/// Remembers every event. Clones share the memory.
#[derive(Debug, Clone, Default)]
pub struct RecordingSink(Arc<Mutex<Memory>>);

#[derive(Debug, Default)]
struct Memory {
    told: Vec<Event>,
    announced: Vec<Event>,
    ids: BTreeSet<String>,
    /// What was told without having been announced.
    unannounced: Vec<Event>,
}

impl RecordingSink {
    /// All events in the order in which they were told.
    #[must_use]
    pub fn events(&self) -> Vec<Event> {
        self.lock().told.clone()
    }

    /// Everything that was announced, in order.
    #[must_use]
    pub fn announced(&self) -> Vec<Event> {
        self.lock().announced.clone()
    }

    /// Events that were told though nobody had announced them before: there must be none, progress
    /// excepted.
    #[must_use]
    pub fn unannounced(&self) -> Vec<Event> {
        self.lock().unannounced.clone()
    }

    /// The kinds of the events of one upload, progress excepted, in the order of their numbers.
    #[must_use]
    pub fn kinds(&self, id: &UploadId) -> Vec<EventKind> {
        let mut events: Vec<_> = self.events();
        events.retain(|event| event.upload.id == *id && event.kind != EventKind::Progress);
        events.sort_by_key(|event| event.sequence);
        events.into_iter().map(|event| event.kind).collect()
    }

    /// The upload that was created last.
    #[must_use]
    pub fn last_created(&self) -> Option<UploadId> {
        let memory = self.lock();
        let created = memory
            .told
            .iter()
            .rfind(|event| event.kind == EventKind::Created);
        created.map(|event| event.upload.id.clone())
    }

    fn lock(&self) -> MutexGuard<'_, Memory> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl EventSink for RecordingSink {
    fn event_kinds(&self) -> EventKinds {
        EventKinds::ALL
    }

    async fn prepare(&self, events: &[Event]) -> Result<(), BoxError> {
        let mut memory = self.lock();
        for event in events {
            memory.ids.insert(event.id());
            memory.announced.push(event.clone());
        }
        Ok(())
    }

    async fn emit(&self, event: Event) {
        let mut memory = self.lock();
        if !memory.ids.contains(&event.id()) {
            memory.unannounced.push(event.clone());
        }
        memory.told.push(event);
    }

    fn emit_progress(&self, event: Event) {
        self.lock().told.push(event);
    }
}
