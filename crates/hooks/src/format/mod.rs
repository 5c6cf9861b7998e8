//! Messages and answers as JSON: tusd's formats to the byte, and CloudEvents.
//!
//! What is ours in them is there only where it says something, so that receivers written for tusd get
//! what tusd sends: `Labels` in an upload that has some, `Intent` in `pre-access`, `Job` in `pre-grant`
//! and the events of the queue.

mod answer;
mod cloud_event;
mod go;
mod samples;
mod view;

use std::str::FromStr;

pub use self::{
    answer::{AnswerError, answer},
    cloud_event::cloud_event,
    samples::samples,
};
use crate::Message;

/// How a message is written.
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

impl Format {
    /// Its name in settings: `v2`, `v1` or `auto`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::V2 => "v2",
            Self::V1 => "v1",
            Self::Auto => "auto",
        }
    }
}

/// No format has this name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no hook format {0:?}; there are auto, v2 and v1")]
pub struct UnknownFormat(pub String);

impl FromStr for Format {
    type Err = UnknownFormat;

    fn from_str(name: &str) -> Result<Self, UnknownFormat> {
        let found = [Self::V2, Self::V1, Self::Auto]
            .into_iter()
            .find(|known| known.as_str() == name);
        found.ok_or_else(|| UnknownFormat(name.to_owned()))
    }
}

/// A message as JSON, written as Go's encoder writes it: keys in tusd's order, maps sorted, no line
/// break at the end.
///
/// ```
/// use landfall_hooks::format::{Format, body, samples};
///
/// let json = body(Format::V2, &samples()[0]);
/// assert!(json.starts_with(br#"{"Type":"pre-create","Event":{"Upload":{"ID":"","Size":"#));
/// ```
#[must_use]
pub fn body(format: Format, message: &Message) -> Vec<u8> {
    let event = view::Event::new(message);
    match format {
        Format::V2 => go::json(&view::V2 {
            kind: message.hook.as_str(),
            event,
        }),
        Format::V1 => go::json(&event),
        Format::Auto => go::json(&view::Auto {
            kind: message.hook.as_str(),
            upload: &event.upload,
            request: &event.request,
            event: &event,
        }),
    }
}

#[cfg(test)]
mod tests;
