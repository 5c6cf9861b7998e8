//! What the dashboard asks of the server that it is about.

use std::fmt;

use async_trait::async_trait;
use landfall_hooks::outbox::{Events, OutboxStats};
use serde::Serialize;

/// The server, as far as the dashboard shows it.
#[async_trait]
pub trait Machine: fmt::Debug + Send + Sync {
    /// Where uploads are kept, and how much room there is.
    fn room(&self) -> Room;

    /// How each part is doing. Asks them at most every few seconds, however often it is called.
    async fn health(&self) -> Vec<Check>;

    /// How the outbox stands, if there is one.
    fn outbox(&self) -> Option<OutboxStats>;

    /// The events that the outbox keeps, if there is one.
    fn events(&self) -> Option<Events>;
}

/// Where uploads are kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Room {
    /// What people call it: a directory's path, a bucket's name.
    pub place: String,
    /// All bytes that fit there, if there is an end to it.
    pub capacity: Option<u64>,
    /// How many of them are free.
    pub free: Option<u64>,
}

/// A part of the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Part {
    /// What keeps uploads.
    Store,
    /// What decides who writes.
    Leases,
    /// What keeps jobs and events.
    Database,
    /// A way to the application.
    Hooks,
}

/// How a part is doing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// Which.
    pub part: Part,
    /// What people call it.
    pub name: String,
    /// Whether it does its work.
    pub well: bool,
    /// How it is, in a sentence.
    pub words: String,
}

impl Check {
    /// A part that is in trouble, or else does its work as `how` says. Words about trouble, which are
    /// lines of other pages, become sentences.
    pub(crate) fn new(
        part: Part,
        name: &str,
        trouble: Option<&str>,
        how: impl FnOnce() -> String,
    ) -> Self {
        Self {
            part,
            name: name.to_owned(),
            well: trouble.is_none(),
            words: trouble.map_or_else(how, sentence),
        }
    }
}

fn sentence(text: &str) -> String {
    let text = text.trim();
    let mut rest = text.chars();
    let first = rest.next().into_iter().flat_map(char::to_uppercase);
    let end = if text.ends_with(['.', '!', '?']) {
        ""
    } else {
        "."
    };
    first
        .chain(rest.as_str().chars())
        .chain(end.chars())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trouble_is_told_in_a_sentence() {
        let check = Check::new(Part::Store, "/srv", Some("it is full\n"), || "Well.".into());
        assert_eq!((check.well, &*check.words), (false, "It is full."));
        let check = Check::new(Part::Store, "/srv", None, || "Well.".into());
        assert_eq!((check.well, &*check.words), (true, "Well."));
    }
}
