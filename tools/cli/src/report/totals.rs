//! The progress of all files together.

use std::time::{Duration, Instant};

use landfall_client::Rate;

use crate::text::{bytes_text, progress_text};

#[derive(Debug)]
pub(super) struct Totals {
    pub(super) files: usize,
    pub(super) length: Option<u64>,
    pub(super) completed: usize,
    pub(super) failed: usize,
    pub(super) skipped: usize,
    /// The length of the completed files.
    pub(super) completed_bytes: u64,
    /// The bytes transferred, with those of earlier runs.
    pub(super) bytes: u64,
    /// The bytes transferred in this run.
    pub(super) moved: u64,
    started: Instant,
    pub(super) rate: Rate,
    /// The step of files that wait for the server, until bytes move again.
    pub(super) waiting: Option<&'static str>,
}

impl Totals {
    pub(super) fn new() -> Self {
        let started = Instant::now();
        Self {
            files: 1,
            length: None,
            completed: 0,
            failed: 0,
            skipped: 0,
            completed_bytes: 0,
            bytes: 0,
            moved: 0,
            started,
            rate: Rate::new(started),
            waiting: None,
        }
    }

    /// Sets the length of a single file, which a download learns from the response.
    pub(super) fn learn_length(&mut self, length: Option<u64>) {
        if self.files == 1 {
            self.length = length.or(self.length);
        }
    }

    /// Counts a failed file, which takes its length out of the total.
    pub(super) fn fail(&mut self, length: Option<u64>) {
        self.failed += 1;
        self.waiting = None;
        let rest = |all: u64| all.saturating_sub(length.unwrap_or_default());
        self.length = self.length.map(rest);
    }

    /// `, 2 failed`
    pub(super) fn failed_text(&self) -> String {
        match self.failed {
            0 => String::new(),
            failed => format!(", {failed} failed"),
        }
    }

    pub(super) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// `2 of 300 files, 1 failed, 12 MB of 1 GB, 3 MB/s, 5m left`, or `…, 12 MB of 1 GB, reconnecting`
    pub(super) fn text(&mut self, now: Instant) -> String {
        let progress = match self.waiting {
            Some(step) => format!("{}, {step}", bytes_text(self.bytes, self.length)),
            None => {
                let remaining = self.length.map(|length| length.saturating_sub(self.bytes));
                let (rate, left) = self.rate.record(now, self.moved, remaining);
                progress_text(self.bytes, self.length, rate, left)
            }
        };
        let (files, done) = (self.files, self.completed + self.skipped);
        match files {
            1 => progress,
            _ => format!("{done} of {files} files{}, {progress}", self.failed_text()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_of_earlier_runs_are_no_rate() {
        let mut totals = Totals::new();
        let start = totals.started;
        totals.files = 3;
        totals.skipped = 1;
        totals.length = Some(2048);
        totals.bytes = 1024;
        let shown = totals.text(start);
        assert_eq!(shown, "1 of 3 files, 1.02 kB of 2.05 kB, 0 B/s");
        totals.moved = 512;
        totals.bytes += 512;
        let shown = totals.text(start + Duration::from_secs(2));
        assert!(shown.ends_with(", 256 B/s, 2s left"), "{shown}");
    }
}
