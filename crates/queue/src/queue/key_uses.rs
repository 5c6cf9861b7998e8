use std::{collections::BTreeMap, mem};

use parking_lot::Mutex;

/// Uses that are not stored yet. A task stores them, so that authentication does not wait for the writer's
/// lock.
#[derive(Debug, Default)]
pub(super) struct KeyUses(pub(super) Mutex<PendingUses>);

#[derive(Debug, Default)]
pub(super) struct PendingUses {
    pub(super) at: BTreeMap<i64, i64>,
    pub(super) is_writing: bool,
}

impl KeyUses {
    /// The next use starts a task if there are none.
    pub(super) fn take(&self) -> Option<BTreeMap<i64, i64>> {
        let mut pending = self.0.lock();
        let uses = mem::take(&mut pending.at);
        pending.is_writing = !uses.is_empty();
        pending.is_writing.then_some(uses)
    }
}
