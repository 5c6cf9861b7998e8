//! Keeps a repeated condition from filling the log: each instance lets one message through a minute.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Lets a repeated message through once a minute.
#[derive(Debug, Default)]
pub struct LogThrottle(Mutex<Option<Instant>>);

impl LogThrottle {
    /// Returns whether the message is due, and if so, records that it was logged.
    pub fn is_due(&self) -> bool {
        let (now, mut last) = (Instant::now(), self.0.lock());
        let is_recent = |last| now.duration_since(last) < Duration::from_secs(60);
        let is_due = !last.is_some_and(is_recent);
        if is_due {
            *last = Some(now);
        }
        is_due
    }
}
