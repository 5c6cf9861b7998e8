use std::fmt;

use async_trait::async_trait;
use landfall_outbox::{Events, OutboxStats};
use serde::Serialize;

/// The status of the server, as the dashboard shows it.
#[async_trait]
pub trait ServerStatus: fmt::Debug + Send + Sync {
    /// Returns the location and capacity of the storage.
    fn storage(&self) -> StorageCapacity;

    /// Checks all components. Results are cached for a few seconds.
    async fn health(&self) -> Vec<HealthCheck>;

    /// Returns the statistics of the outbox, if there is one.
    fn outbox(&self) -> Option<OutboxStats>;

    /// Returns the stored events of the outbox, if there is one.
    fn events(&self) -> Option<Events>;
}

/// The location and capacity of the storage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StorageCapacity {
    /// The path of a directory, or the name of a bucket.
    pub location: String,
    /// Usable bytes in total, if limited.
    pub capacity: Option<u64>,
    /// Free bytes.
    pub free: Option<u64>,
}

/// A component of the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Component {
    /// The upload store.
    Store,
    /// The lease backend.
    Leases,
    /// The database of jobs and events.
    Database,
    /// A transport for hooks.
    Hooks,
}

/// The result of checking a component.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HealthCheck {
    /// The component.
    pub component: Component,
    /// Its name.
    pub name: String,
    /// True if it works.
    pub healthy: bool,
    /// Its state in a sentence.
    pub message: String,
}

impl HealthCheck {
    /// The error becomes a sentence: capitalized, with a full stop.
    pub(crate) fn new(
        component: Component,
        name: &str,
        error: Option<&str>,
        describe: impl FnOnce() -> String,
    ) -> Self {
        Self {
            component,
            name: name.to_owned(),
            healthy: error.is_none(),
            message: error.map_or_else(describe, sentence),
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
    fn errors_become_sentences() {
        let check = HealthCheck::new(Component::Store, "/srv", Some("it is full\n"), || {
            "Fine.".into()
        });
        assert_eq!((check.healthy, &*check.message), (false, "It is full."));
        let check = HealthCheck::new(Component::Store, "/srv", None, || "Fine.".into());
        assert_eq!((check.healthy, &*check.message), (true, "Fine."));
    }
}
