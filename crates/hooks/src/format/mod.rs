//! Messages and responses as JSON: tusd's formats to the byte, and CloudEvents.
//!
//! Landfall's own fields are present only if they have a value, so that receivers for tusd get what
//! tusd sends: `Labels` in an upload with labels, `Intent` in `pre-access`, `Job` in `pre-grant`
//! and job events.

mod body;
mod parse;
#[cfg(test)]
#[path = "../../tests/it/samples.rs"]
mod samples;

use crate::Message;

pub use self::{
    body::cloud_event,
    parse::{ParseError, parse_response},
};

/// The format of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Format {
    /// tusd 2: `{"Type":…,"Event":{"Upload":…,"HTTPRequest":…}}`.
    V2,
    /// tusd up to 1.13: `{"Upload":…,"HTTPRequest":…}`.
    V1,
    /// Both in one object, for receivers written for either:
    /// `{"Type":…,"Event":{…},"Upload":…,"HTTPRequest":…}`.
    #[default]
    Auto,
}

/// Serializes a message as Go's JSON encoder does.
///
/// Keys are in tusd's order, maps are sorted, and there is no newline at the end.
///
/// ```
/// # fn example(message: &landfall_hooks::Message) {
/// let json = landfall_hooks::format::body(landfall_hooks::format::Format::V2, message);
/// assert!(json.starts_with(br#"{"Type":"#));
/// # }
/// ```
#[must_use]
pub fn body(format: Format, message: &Message) -> Vec<u8> {
    let event = &body::Event::new(message);
    let is_auto = format == Format::Auto;
    match format {
        Format::V1 => body::json(event),
        Format::V2 | Format::Auto => body::json(&body::Envelope {
            kind: message.hook.as_str(),
            event,
            upload: is_auto.then_some(&event.upload),
            request: is_auto.then_some(&event.request),
        }),
    }
}

#[cfg(test)]
mod tests;
