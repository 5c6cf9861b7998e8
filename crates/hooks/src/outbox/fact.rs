//! What is kept of an event.

use std::sync::Arc;

use landfall::{
    event::{Event, EventKind, next_sequence},
    upload::Upload,
};

use crate::{
    HookName, Message,
    message::{EventHeaders, UploadFacts},
};

/// An event, ready to be kept and delivered.
#[derive(Debug, Clone)]
pub(super) struct Fact {
    /// Its id.
    pub(super) id: Arc<str>,
    /// Its ordering key: the id of its upload or job.
    pub(super) key: Arc<str>,
    /// Its place among those of its ordering key.
    pub(super) sequence: i64,
    pub(super) message: Arc<Message>,
    pub(super) json: Arc<str>,
}

impl Fact {
    pub(super) fn new(event: &Event, headers: &EventHeaders) -> Result<Self, serde_json::Error> {
        Self::of(Message::event(event, headers))
    }

    pub(super) fn of(message: Message) -> Result<Self, serde_json::Error> {
        Ok(Self {
            id: message.id.as_str().into(),
            key: message.lane().into(),
            sequence: i64::try_from(message.sequence).unwrap_or(i64::MAX),
            json: serde_json::to_string(&message)?.into(),
            message: Arc::new(message),
        })
    }
}

/// Something that must have happened before, because something later does. It is told even if the
/// process that announced it died before it could tell.
#[derive(Debug, Clone)]
pub(super) struct Implied {
    pub(super) id: String,
    pub(super) upload: Arc<Upload>,
}

impl Implied {
    /// What `events`, announced together, show to have happened.
    pub(super) fn by(events: &[Event]) -> Vec<Self> {
        let mut implied = Vec::new();
        let is_new = events.iter().any(|event| event.kind == EventKind::Created);
        for event in events {
            let upload = &event.upload;
            let mut happened = |fact: &str| {
                implied.push(Self {
                    id: upload.event_id(fact),
                    upload: upload.clone(),
                });
            };
            // What isn't being created exists.
            if !is_new {
                happened("created");
            }
            let is_removal = matches!(event.kind, EventKind::Terminated | EventKind::Expired);
            if is_removal && upload.completion.is_done() {
                happened("completed");
            }
        }
        implied
    }
}

/// The kind of event that a message is about, if it can be settled.
pub(super) fn kind_of(hook: HookName) -> Option<EventKind> {
    match hook {
        HookName::PostCreate => Some(EventKind::Created),
        HookName::PostFinish => Some(EventKind::Completed),
        HookName::PostTerminate => Some(EventKind::Terminated),
        HookName::PostExpire => Some(EventKind::Expired),
        _ => None,
    }
}

/// Gives a message that was announced its place among what was told since: what is announced together
/// with a creation has an earlier number than that creation once it is told. The creation itself comes
/// first as it is.
pub(super) fn renumber(message: &mut Message) {
    if message.hook != HookName::PostCreate {
        message.sequence = next_sequence();
    }
}

/// Lays what is now known of the upload over a message that was written before it happened.
pub(super) fn refresh(message: &mut Message, upload: &Upload) {
    let offset = message.upload.offset;
    message.upload = UploadFacts::new(upload, offset);
}
