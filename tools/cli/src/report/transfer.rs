//! The report of one file.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use indicatif::ProgressBar;
use landfall_client::{Event, Progress, Url};
use parking_lot::Mutex;

use super::{OutputFormat, Record, Report};
use crate::{
    exit::Failure,
    text::{bytes_text, next_step, printable, progress_text, short_cause},
};

/// Transfers that are done earlier have no bar.
const BAR_DELAY: Duration = Duration::from_millis(250);
/// The time between two records of progress.
const RECORD_INTERVAL: Duration = Duration::from_secs(1);
/// Shorter delays are not worth a line in a log.
const MIN_LOGGED_DELAY: Duration = Duration::from_secs(1);

/// Reports the transfer of a file. Clones share the state.
#[derive(Debug, Clone)]
pub(crate) struct Transfer(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    report: Report,
    name: String,
    length: Option<u64>,
    started: Instant,
    state: Mutex<TransferState>,
}

#[derive(Debug, Default)]
struct TransferState {
    bytes: u64,
    bar: Option<ProgressBar>,
    last_record: Option<Instant>,
}

/// A finished transfer.
#[derive(Debug)]
pub(crate) struct TransferSummary {
    pub(crate) url: String,
    pub(crate) length: u64,
    /// The bytes transferred in this run.
    pub(crate) bytes: u64,
    pub(crate) resumed_from: Option<u64>,
    pub(crate) verified: Option<bool>,
}

impl Transfer {
    pub(super) fn new(report: Report, name: &str, length: Option<u64>) -> Self {
        Self(Arc::new(Inner {
            report,
            name: printable(name),
            length,
            started: Instant::now(),
            state: Mutex::default(),
        }))
    }

    /// Returns a callback for the events of the client.
    pub(crate) fn callback(&self) -> impl Fn(Event) + Send + Sync + 'static {
        let transfer = self.clone();
        move |event| transfer.handle(&event)
    }

    fn handle(&self, event: &Event) {
        let (report, file) = (&self.0.report, self.0.name.as_str());
        match event {
            Event::Created { url } => report.record(&Record::Created {
                file,
                url: url.as_str(),
            }),
            Event::Resumed { url, offset } => self.resume(url, *offset),
            Event::Progress(progress) => self.progress(progress),
            Event::Retrying {
                attempt,
                delay,
                error,
            } => self.retry(*attempt, *delay, error),
            Event::ChunkSizeReduced { bytes } => {
                report.record(&Record::ChunkSizeReduced {
                    file,
                    bytes: *bytes,
                });
            }
            Event::StartedAnew { reason } => {
                report.record(&Record::StartedAnew { file, reason });
                report.message(&format!("{file}: starts from the beginning: {reason}"));
            }
            _ => {}
        }
    }

    fn resume(&self, url: &Url, offset: u64) {
        let (report, file) = (&self.0.report, self.0.name.as_str());
        report.record(&Record::Resumed {
            file,
            url: url.as_str(),
            offset,
        });
        if offset > 0 {
            let text = bytes_text(offset, self.0.length);
            report.message(&format!("{file}: resumes at {text}"));
        }
        self.advance(offset, 0);
    }

    fn progress(&self, progress: &Progress) {
        let (report, file) = (&self.0.report, self.0.name.as_str());
        let moved = progress.bytes.saturating_sub(self.0.state.lock().bytes);
        self.advance(progress.bytes, moved);
        report.0.totals.lock().learn_length(progress.total);
        let mut state = self.0.state.lock();
        if report.0.format == OutputFormat::Json {
            let is_last = progress.total == Some(progress.bytes);
            if is_last
                || state
                    .last_record
                    .is_none_or(|at| at.elapsed() >= RECORD_INTERVAL)
            {
                state.last_record = Some(Instant::now());
                report.record(&Record::Progress {
                    file,
                    bytes: progress.bytes,
                    acknowledged: progress.acknowledged,
                    total: progress.total,
                    rate: progress.rate,
                    remaining: progress.remaining.map(|time| time.as_secs_f64()),
                });
            }
        } else if let Some(bars) = &report.0.bars
            && self.0.started.elapsed() >= BAR_DELAY
        {
            let (rate, left) = (progress.rate, progress.remaining);
            let text = progress_text(progress.bytes, progress.total, rate, left);
            bars.show(&mut state.bar, file, progress.bytes, progress.total, text);
        }
        drop(state);
        report.show_totals();
    }

    fn retry(&self, attempt: u32, delay: Duration, error: &str) {
        let (report, file) = (&self.0.report, self.0.name.as_str());
        report.record(&Record::Retrying {
            file,
            attempt,
            delay: delay.as_secs_f64(),
            error,
        });
        report.0.totals.lock().rate.restart();
        if delay < MIN_LOGGED_DELAY {
            return;
        }
        let (step, cause) = (next_step(error), short_cause(error));
        report.0.totals.lock().waiting = Some(step);
        let seconds = delay.as_secs_f64().ceil();
        let text = format!("{step} in {seconds} s ({cause})");
        match &report.0.bars {
            Some(bars) => {
                let mut state = self.0.state.lock();
                let bytes = state.bytes;
                bars.show(&mut state.bar, file, bytes, self.0.length, text);
                report.show_totals();
            }
            None => report.message(&format!("{file}: {text}")),
        }
    }

    /// Sets the position; `moved` bytes are new.
    fn advance(&self, bytes: u64, moved: u64) {
        let mut state = self.0.state.lock();
        let mut totals = self.0.report.0.totals.lock();
        totals.bytes = totals
            .bytes
            .saturating_sub(state.bytes)
            .saturating_add(bytes);
        totals.moved = totals.moved.saturating_add(moved);
        if moved > 0 {
            totals.waiting = None;
        }
        state.bytes = bytes;
    }

    /// Reports the end of the transfer, and prints its URL.
    pub(crate) fn complete(&self, summary: &TransferSummary) {
        let (report, file) = (&self.0.report, self.0.name.as_str());
        self.remove_bar();
        let moved = summary.length.saturating_sub(self.0.state.lock().bytes);
        self.advance(summary.length, moved);
        {
            let mut totals = report.0.totals.lock();
            totals.completed += 1;
            totals.completed_bytes += summary.length;
        }
        report.record(&Record::Completed {
            file,
            url: &summary.url,
            length: summary.length,
            bytes: summary.bytes,
            resumed_from: summary.resumed_from,
            verified: summary.verified,
        });
        if report.has_file_lines() {
            let text = super::summary(summary.length, summary.bytes, self.0.started.elapsed());
            report.message(&format!("{file}: {}{text}", report.0.verb));
        }
        report.show_totals();
    }

    /// Reports the failure of the transfer.
    pub(crate) fn fail(&self, failure: &Failure, status: Option<u16>) {
        let (report, file) = (&self.0.report, self.0.name.as_str());
        self.remove_bar();
        self.advance(0, 0);
        let error = failure.to_string();
        report.0.totals.lock().fail(self.0.length);
        report.record(&Record::Failed {
            file: Some(file),
            error: &error,
            class: failure.class.name(),
            status,
        });
        report.error(&format!("{file}: {error}"));
        if report.0.bars.is_some() {
            report.show_totals();
        }
    }

    /// Prints the URL of the file.
    pub(crate) fn print_url(&self, url: &str) {
        self.0.report.url(&self.0.name, url);
    }

    /// Counts an upload that was created and is not sent.
    pub(crate) fn create(&self) {
        self.0.report.0.totals.lock().completed += 1;
    }

    /// Reports the offset of an interrupted transfer.
    pub(crate) fn interrupt(&self) {
        self.remove_bar();
        let bytes = self.0.state.lock().bytes;
        let text = bytes_text(bytes, self.0.length);
        self.0
            .report
            .message(&format!("{}: stopped at {text}", self.0.name));
    }

    fn remove_bar(&self) {
        if let Some(bar) = self.0.state.lock().bar.take()
            && let Some(bars) = &self.0.report.0.bars
        {
            bars.remove(&bar);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_of_all_files_starts_anew_after_an_outage() {
        let report = Report::new(OutputFormat::Quiet, "uploaded");
        report.expect(1, Some(10_000));
        let transfer = report.transfer("a.bin", Some(10_000));
        transfer.advance(4000, 4000);
        let (delay, error) = (Duration::ZERO, String::new());
        transfer.handle(&Event::Retrying {
            attempt: 1,
            delay,
            error,
        });
        let back = transfer.0.started + Duration::from_secs(9);
        let mut totals = report.0.totals.lock();
        assert_eq!(totals.text(back), "4 kB of 10 kB, 0 B/s");
        totals.moved += 2000;
        let shown = totals.text(back + Duration::from_secs(1));
        assert_eq!(shown, "4 kB of 10 kB, 2 kB/s, 3s left");
    }

    #[test]
    fn all_files_have_no_rate_while_they_wait_for_the_server() {
        let report = Report::new(OutputFormat::Quiet, "uploaded");
        report.expect(2, Some(10_000));
        let transfer = report.transfer("a.bin", Some(10_000));
        let shown = |seconds| {
            let now = transfer.0.started + Duration::from_secs(seconds);
            report.0.totals.lock().text(now)
        };
        transfer.advance(4000, 4000);
        let moving = shown(2);
        assert!(moving.ends_with(" kB/s, 3s left"), "{moving}");
        transfer.handle(&Event::Retrying {
            attempt: 7,
            delay: Duration::from_secs(5),
            error: "the connection failed: refused".into(),
        });
        let waits = "0 of 2 files, 4 kB of 10 kB, reconnecting";
        assert_eq!((shown(2), shown(6)), (waits.into(), waits.into()));
        transfer.advance(5000, 1000);
        assert_eq!(shown(7), "0 of 2 files, 5 kB of 10 kB, 0 B/s");
    }

    #[test]
    fn failed_files_are_counted_and_their_bytes_are_not() {
        let report = Report::new(OutputFormat::Quiet, "uploaded");
        report.expect(4, Some(120_000));
        let [denied, unread] = ["b.bin", "c.bin"].map(|name| report.transfer(name, Some(30_000)));
        report.skip("a.bin", "http://localhost/a", 30_000);
        denied.advance(30_000, 30_000);
        denied.fail(&Failure::new("denied"), None);
        unread.fail(&Failure::new("cannot be read"), None);
        let mut totals = report.0.totals.lock();
        let now = Instant::now();
        let shown = totals.text(now);
        let expected = "1 of 4 files, 2 failed, 30 kB of 60 kB, ";
        assert!(shown.starts_with(expected), "{shown}");
    }
}
