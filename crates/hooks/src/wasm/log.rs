//! What plugins write into the log.

use std::{
    sync::Mutex,
    time::{Duration, Instant},
};

use crate::HookName;

/// The most bytes of a line; the rest is cut off.
pub(super) const LINE: usize = 1024;

/// The most lines of a plugin in each [`SPAN`]; the others are counted.
const LINES: u32 = 100;
const SPAN: Duration = Duration::from_secs(1);

/// The lines of one plugin.
#[derive(Debug)]
pub(super) struct Log {
    plugin: String,
    recent: Mutex<Recent>,
}

#[derive(Debug)]
struct Recent {
    since: Instant,
    lines: u32,
    left_out: u64,
}

impl Log {
    /// For the plugin of this name.
    pub(super) fn new(plugin: String) -> Self {
        let recent = Recent {
            since: Instant::now(),
            lines: 0,
            left_out: 0,
        };
        Self {
            plugin,
            recent: Mutex::new(recent),
        }
    }

    /// Writes a line, unless there were too many just now.
    pub(super) fn line(&self, level: u32, hook: Option<HookName>, bytes: &[u8]) {
        let Some(left_out) = self.recent().admit(Instant::now()) else {
            return;
        };
        let plugin = self.plugin.as_str();
        if left_out > 0 {
            tracing::warn!(plugin, left_out, "a plugin writes too much into the log");
        }
        let text = String::from_utf8_lossy(bytes.get(..LINE).unwrap_or(bytes));
        let (text, hook) = (&*text, hook.map_or("", HookName::as_str));
        match level {
            0 => tracing::error!(plugin, hook, text, "said by a plugin"),
            1 => tracing::warn!(plugin, hook, text, "said by a plugin"),
            2 => tracing::info!(plugin, hook, text, "said by a plugin"),
            _ => tracing::debug!(plugin, hook, text, "said by a plugin"),
        }
    }

    fn recent(&self) -> std::sync::MutexGuard<'_, Recent> {
        // Numbers are whole even if a thread died between them.
        self.recent
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Recent {
    /// Whether there is room for a line, and if so, how many were left out before it.
    fn admit(&mut self, now: Instant) -> Option<u64> {
        if now.saturating_duration_since(self.since) >= SPAN {
            self.since = now;
            self.lines = 0;
        }
        if self.lines == LINES {
            self.left_out += 1;
            return None;
        }
        self.lines += 1;
        Some(std::mem::take(&mut self.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_much_is_left_out_and_counted() {
        let start = Instant::now();
        let mut recent = Recent {
            since: start,
            lines: 0,
            left_out: 0,
        };
        for _ in 0..LINES {
            assert_eq!(recent.admit(start), Some(0));
        }
        assert_eq!(recent.admit(start), None);
        assert_eq!(recent.admit(start + SPAN / 2), None);
        assert_eq!(recent.admit(start + SPAN), Some(2));
        assert_eq!(recent.admit(start + SPAN), Some(0));
    }
}
