use std::time::{Duration, Instant};

/// Lets a repeated message through once a minute.
#[derive(Debug, Default)]
pub struct LogThrottle(Option<Instant>);

impl LogThrottle {
    /// Returns whether the message is due, and if so, records that it was logged.
    pub fn is_due(&mut self, now: Instant) -> bool {
        let is_recent = |last| now.duration_since(last) < Duration::from_secs(60);
        let is_due = !self.0.is_some_and(is_recent);
        if is_due {
            self.0 = Some(now);
        }
        is_due
    }
}
