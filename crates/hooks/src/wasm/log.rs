use std::time::{Duration, Instant};

use landfall_messages::HookName;
use parking_lot::Mutex;

/// Bytes; the rest is dropped.
pub(super) const MAX_LINE_LEN: usize = 1024;

/// Per window; further lines of a plugin are counted only.
const MAX_LINES: u32 = 100;
const WINDOW: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Log {
    plugin: String,
    window: Mutex<LogWindow>,
}

#[derive(Debug)]
struct LogWindow {
    since: Instant,
    lines: u32,
    dropped: u64,
}

impl Log {
    pub(super) fn new(plugin: String) -> Self {
        let window = LogWindow {
            since: Instant::now(),
            lines: 0,
            dropped: 0,
        };
        Self {
            plugin,
            window: Mutex::new(window),
        }
    }

    pub(super) fn line(&self, level: u32, hook: Option<HookName>, bytes: &[u8]) {
        let Some(dropped) = self.window.lock().admit(Instant::now()) else {
            return;
        };
        let plugin = self.plugin.as_str();
        if dropped > 0 {
            tracing::warn!(plugin, dropped, "dropped log lines of a plugin");
        }
        let text = String::from_utf8_lossy(bytes.get(..MAX_LINE_LEN).unwrap_or(bytes));
        let (text, hook) = (&*text, hook.map_or("", HookName::as_str));
        match level {
            0 => tracing::error!(plugin, hook, text, "plugin log"),
            1 => tracing::warn!(plugin, hook, text, "plugin log"),
            2 => tracing::info!(plugin, hook, text, "plugin log"),
            _ => tracing::debug!(plugin, hook, text, "plugin log"),
        }
    }
}

impl LogWindow {
    /// Returns how many lines were dropped before this one, or `None` if it is dropped, too.
    fn admit(&mut self, now: Instant) -> Option<u64> {
        if now.saturating_duration_since(self.since) >= WINDOW {
            self.since = now;
            self.lines = 0;
        }
        if self.lines == MAX_LINES {
            self.dropped += 1;
            return None;
        }
        self.lines += 1;
        Some(std::mem::take(&mut self.dropped))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_above_the_limit_are_dropped_and_counted() {
        let start = Instant::now();
        let mut window = LogWindow {
            since: start,
            lines: 0,
            dropped: 0,
        };
        for _ in 0..MAX_LINES {
            assert_eq!(window.admit(start), Some(0));
        }
        assert_eq!(window.admit(start), None);
        assert_eq!(window.admit(start + WINDOW / 2), None);
        assert_eq!(window.admit(start + WINDOW), Some(2));
        assert_eq!(window.admit(start + WINDOW), Some(0));
    }
}
