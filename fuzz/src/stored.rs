//! Rows of the outbox and the queue, written by this version or another one.

use landfall_hooks::Message;
use landfall_hooks::format::{self, Format};
use landfall_state::queue::Job;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

/// The first byte selects the table; the rest is a column.
///
/// A parsed value survives a round trip, unknown fields of a later version are ignored, and a stored
/// message can be serialized for every receiver.
pub fn stored_rows(data: &[u8]) {
    let [table, json @ ..] = data else {
        return;
    };
    match table % 2 {
        0 => {
            if let Some(message) = kept::<Message>(json) {
                assert!(
                    message.ordering_key().len() <= json.len() + 64,
                    "{message:?}"
                );
                for format in [Format::V1, Format::V2] {
                    let body = format::body(format, &message);
                    serde_json::from_slice::<Value>(&body).expect("JSON");
                }
            }
        }
        _ => drop(kept::<Job>(json)),
    }
}

fn kept<T>(json: &[u8]) -> Option<T>
where
    T: DeserializeOwned + Serialize + PartialEq + std::fmt::Debug,
{
    let read: T = serde_json::from_slice(json).ok()?;
    let written = serde_json::to_string(&read).expect("a parsed value can be written");
    let again: T = serde_json::from_str(&written).expect("a written value can be parsed");
    assert_eq!(again, read, "{written}");
    // A field of a later version.
    let Ok(Value::Object(mut fields)) = serde_json::from_str(&written) else {
        panic!("{written} is not an object");
    };
    fields.insert("a field to come".into(), Value::from(7));
    let later: T = serde_json::from_value(fields.into()).expect("unknown fields are ignored");
    assert_eq!(later, read);
    Some(read)
}
