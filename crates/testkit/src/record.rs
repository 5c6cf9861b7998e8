//! A sink that remembers what it was told.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use landfall::{
    event::{Event, EventKind, EventKinds, EventSink},
    upload::UploadId,
};

/// Remembers every event. Clones share the memory.
#[derive(Debug, Clone, Default)]
pub struct RecordingSink(Arc<Mutex<Vec<Event>>>);

impl RecordingSink {
    /// All events in the order in which they were told.
    #[must_use]
    pub fn events(&self) -> Vec<Event> {
        self.lock().clone()
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
        let events = self.lock();
        let created = events
            .iter()
            .rfind(|event| event.kind == EventKind::Created);
        created.map(|event| event.upload.id.clone())
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Event>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl EventSink for RecordingSink {
    fn wants(&self) -> EventKinds {
        EventKinds::ALL
    }

    async fn tell(&self, event: Event) {
        self.lock().push(event);
    }

    fn tell_progress(&self, event: Event) {
        self.lock().push(event);
    }
}
