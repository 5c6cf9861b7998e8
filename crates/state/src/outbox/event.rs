//! Events as the outbox stores them.

use std::sync::Arc;

use landfall::{
    event::{Event, EventKind},
    upload::Upload,
};
use landfall_hooks::{EventHeaders, HookName, Message, UploadData};

#[derive(Debug, Clone)]
pub(super) struct OutboxEvent {
    pub(super) id: Arc<str>,
    /// The upload id, or `job:` and the job number.
    pub(super) key: Arc<str>,
    pub(super) sequence: i64,
    pub(super) message: Arc<Message>,
    pub(super) json: Arc<str>,
    /// Stored for each route, with its encrypted headers.
    pub(super) bytes: usize,
}

impl OutboxEvent {
    pub(super) fn new(event: &Event, headers: &EventHeaders) -> Result<Self, serde_json::Error> {
        Self::from_message(Message::event(event, headers))
    }

    pub(super) fn from_message(message: Message) -> Result<Self, serde_json::Error> {
        let json = serde_json::to_string(&message)?;
        let redacted = &message.request.redacted;
        let headers = if redacted.is_empty() {
            0
        } else {
            // In base64.
            serde_json::to_string(redacted)?.len() * 4 / 3 + 80
        };
        Ok(Self {
            id: message.id.as_str().into(),
            key: message.ordering_key().into(),
            sequence: i64::try_from(message.sequence).unwrap_or(i64::MAX),
            bytes: json.len() + headers,
            json: json.into(),
            message: Arc::new(message),
        })
    }
}

/// Must have happened, because a later event does. Emitted even if its process died after preparing it.
#[derive(Debug, Clone)]
pub(super) struct ImpliedEvent {
    pub(super) id: String,
    pub(super) upload: Arc<Upload>,
}

impl ImpliedEvent {
    pub(super) fn by(events: &[Event]) -> Vec<Self> {
        let mut implied = Vec::new();
        let is_new = events.iter().any(|event| event.kind == EventKind::Created);
        for event in events {
            let upload = &event.upload;
            let mut add = |kind: &str| {
                implied.push(Self {
                    id: upload.event_id(kind),
                    upload: upload.clone(),
                });
            };
            // An upload that is not being created exists.
            if !is_new {
                add("created");
            }
            let is_removal = matches!(event.kind, EventKind::Terminated | EventKind::Expired);
            if is_removal && upload.completion.is_done() {
                add("completed");
            }
        }
        implied
    }
}

pub(super) fn event_kind(hook: HookName) -> Option<EventKind> {
    match hook {
        HookName::PostCreate => Some(EventKind::Created),
        HookName::PostFinish => Some(EventKind::Completed),
        HookName::PostTerminate => Some(EventKind::Terminated),
        HookName::PostExpire => Some(EventKind::Expired),
        _ => None,
    }
}

/// An event that was prepared together with a creation would precede it without a new number. The
/// creation itself comes first as it is.
pub(super) fn assign_sequence(message: &mut Message) {
    if message.hook != HookName::PostCreate {
        message.sequence = Event::next_sequence();
    }
}

/// The message was prepared before the effect.
pub(super) fn refresh_upload(message: &mut Message, upload: &Upload) {
    let offset = message.upload.offset;
    message.upload = UploadData::new(upload, offset);
}
