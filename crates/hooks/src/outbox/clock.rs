//! The time that all nodes agree on: the database's.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// A source of time in place of the database's and the machine's clock, for tests.
#[derive(Clone)]
pub struct TimeSource(Arc<dyn Fn() -> SystemTime + Send + Sync>);

impl TimeSource {
    /// Creates a source that calls a function.
    pub fn new(now: impl Fn() -> SystemTime + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }
}

impl fmt::Debug for TimeSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TimeSource")
    }
}

/// Milliseconds since 1970 by the database's clock.
#[derive(Debug, Default)]
pub(super) struct Clock {
    source: Option<TimeSource>,
    /// How far the database's clock is ahead of this machine's.
    ahead: AtomicI64,
}

impl Clock {
    pub(super) fn new(source: Option<TimeSource>) -> Self {
        Self {
            source,
            ahead: AtomicI64::new(0),
        }
    }

    pub(super) fn now(&self) -> i64 {
        match &self.source {
            Some(source) => since_epoch((source.0)()),
            None => local().saturating_add(self.ahead.load(Ordering::Relaxed)),
        }
    }

    /// Adjusts it to the time of the database.
    pub(super) fn set(&self, now: i64) {
        self.ahead
            .store(now.saturating_sub(local()), Ordering::Relaxed);
    }
}

fn local() -> i64 {
    since_epoch(SystemTime::now())
}

fn since_epoch(time: SystemTime) -> i64 {
    millis(time.duration_since(UNIX_EPOCH).unwrap_or_default())
}

/// A span in milliseconds.
pub(super) fn millis(span: Duration) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX)
}
