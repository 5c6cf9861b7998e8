//! The time that all nodes agree on: the database's.

use std::{
    sync::atomic::{AtomicI64, Ordering},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// Milliseconds since 1970 by the database's clock.
#[derive(Debug, Default)]
pub(super) struct Clock {
    /// How far the database's clock is ahead of this machine's.
    ahead: AtomicI64,
}

impl Clock {
    pub(super) fn now(&self) -> i64 {
        local().saturating_add(self.ahead.load(Ordering::Relaxed))
    }

    /// Learns what time it is.
    pub(super) fn set(&self, now: i64) {
        self.ahead
            .store(now.saturating_sub(local()), Ordering::Relaxed);
    }
}

fn local() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    millis(since)
}

/// A span in milliseconds.
pub(super) fn millis(span: Duration) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX)
}
