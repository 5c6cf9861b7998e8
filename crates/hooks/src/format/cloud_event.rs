//! Messages as CloudEvents.

use std::borrow::Cow;

use jiff::Timestamp;
use landfall_messages::Message;
use serde::Serialize;

use super::{body, go};

/// With the sequence and partitioning extensions.
#[derive(Serialize)]
struct CloudEvent<'a> {
    specversion: &'static str,
    id: &'a str,
    source: &'a str,
    #[serde(rename = "type")]
    kind: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    time: Option<String>,
    datacontenttype: &'static str,
    sequence: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    partitionkey: Option<Cow<'a, str>>,
    data: body::Event<'a>,
}

/// Serializes a message as a CloudEvent 1.0 in structured JSON.
///
/// `source` is a URI reference for this server. The type is `io.landfall.upload.` and the message's
/// name (`started` for `UploadStarted`); the data is tusd's `Event`.
///
/// `subject` is the upload id, or `job/` and the request id of a job without upload. `partitionkey`
/// is the ordering key. `sequence` has 20 digits, so that it sorts as text.
#[must_use]
pub fn cloud_event(message: &Message, source: &str) -> Vec<u8> {
    go::json(&CloudEvent {
        specversion: "1.0",
        id: &message.id,
        source,
        kind: message.hook.cloud_event_kind(),
        subject: Some(message.subject()).filter(|subject| !subject.is_empty()),
        time: Timestamp::try_from(message.at)
            .ok()
            .map(|at| at.to_string()),
        datacontenttype: "application/json",
        sequence: format!("{:020}", message.sequence),
        partitionkey: Some(message.ordering_key()).filter(|key| !key.is_empty()),
        data: body::Event::new(message),
    })
}
