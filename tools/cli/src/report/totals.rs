//! The progress of all files together.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use crate::text::{bytes_text, rate_text, short_duration};

/// The rate is the mean over these samples of the last seconds.
const MAX_SAMPLES: usize = 20;
const SAMPLE_INTERVAL: Duration = Duration::from_millis(500);

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
    samples: VecDeque<(Instant, u64)>,
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
            samples: VecDeque::from([(started, 0)]),
        }
    }

    /// Sets the length of a single file, which a download learns from the response.
    pub(super) fn learn_length(&mut self, length: Option<u64>) {
        if self.files == 1 {
            self.length = length.or(self.length);
        }
    }

    pub(super) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// `2 of 300 files, 12 MB of 1 GB, 3 MB/s, 5m left`
    pub(super) fn text(&mut self) -> String {
        let (rate, done) = (self.rate(), self.completed + self.skipped);
        let mut text = match self.files {
            1 => String::new(),
            files => format!("{done} of {files} files, "),
        };
        text.push_str(&bytes_text(self.bytes, self.length));
        text.push_str(&format!(", {}", rate_text(rate)));
        let remaining = self
            .length
            .map_or(0, |length| length.saturating_sub(self.bytes));
        if rate >= 1.0 && remaining > 0 {
            let left = Duration::from_secs_f64((remaining as f64 / rate).min(1e9));
            text.push_str(&format!(", {} left", short_duration(left)));
        }
        text
    }

    /// The mean rate of the last seconds in bytes per second.
    fn rate(&mut self) -> f64 {
        let now = Instant::now();
        let (last, _) = *self.samples.back().unwrap_or(&(self.started, 0));
        if now - last >= SAMPLE_INTERVAL {
            self.samples.push_back((now, self.moved));
            if self.samples.len() > MAX_SAMPLES {
                self.samples.pop_front();
            }
        }
        let (since, before) = *self.samples.front().unwrap_or(&(self.started, 0));
        let seconds = (now - since).as_secs_f64();
        self.moved.saturating_sub(before) as f64 / seconds.max(0.1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_of_earlier_runs_are_no_rate() {
        let mut totals = Totals::new();
        totals.files = 3;
        totals.skipped = 1;
        totals.length = Some(2048);
        totals.bytes = 1024;
        assert_eq!(totals.text(), "1 of 3 files, 1.02 kB of 2.05 kB, 0 B/s");
        totals.moved = 512;
        totals.bytes += 512;
        assert!(totals.text().ends_with(" left"), "{}", totals.text());
    }
}
