//! The heads that a check has sent and received, for the report of a failure.

use std::collections::VecDeque;

use parking_lot::Mutex;

/// Older entries are dropped: the cause of a failure is near its end.
const MAX_ENTRIES: usize = 12;
const MAX_ENTRY_BYTES: usize = 4096;

/// Requests and responses in the order in which they were sent and received.
#[derive(Debug, Default)]
pub(crate) struct Transcript(Mutex<VecDeque<String>>);

impl Transcript {
    pub(crate) fn push(&self, mut entry: String) {
        if entry.len() > MAX_ENTRY_BYTES {
            entry.truncate(entry.floor_char_boundary(MAX_ENTRY_BYTES));
            entry.push_str("…\n");
        }
        let mut entries = self.0.lock();
        if entries.len() == MAX_ENTRIES {
            entries.pop_front();
        }
        entries.push_back(entry);
    }

    pub(crate) fn text(&self) -> String {
        self.0.lock().iter().map(String::as_str).collect()
    }
}
