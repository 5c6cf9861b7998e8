//! The output of a command: bars on a terminal, lines in a log, events in JSON.

mod bars;
mod record;
mod totals;
mod transfer;

use std::{
    env,
    io::{self, IsTerminal as _, Write as _},
    sync::Arc,
    time::{Duration, Instant},
};

use landfall_protocol::units::size_text;
use parking_lot::Mutex;

use self::{bars::Bars, totals::Totals};
pub(crate) use self::{
    record::Record,
    transfer::{Transfer, TransferSummary},
};
use crate::text::{
    print_error, print_message, printable, printable_json, rate_text, short_duration,
};

/// The time between lines of progress in a log.
const LINE_INTERVAL: Duration = Duration::from_secs(5);
/// Transfers of more files have no line each.
const MAX_FILE_LINES: usize = 20;

/// The format of the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OutputFormat {
    /// Bars on standard error, which is a terminal.
    Bars,
    /// Lines on standard error.
    Lines,
    /// Objects on standard output.
    Json,
    /// Errors alone.
    Quiet,
}

impl OutputFormat {
    /// Bars if standard error is a terminal that can move the cursor, else lines.
    pub(crate) fn of_terminal() -> Self {
        let is_dumb = env::var_os("TERM").is_none_or(|terminal| terminal == "dumb");
        match io::stderr().is_terminal() && !is_dumb {
            true => Self::Bars,
            false => Self::Lines,
        }
    }
}

/// The report of a command. Clones share the output.
#[derive(Debug, Clone)]
pub(crate) struct Report(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    format: OutputFormat,
    /// "uploaded" or "downloaded".
    verb: &'static str,
    bars: Option<Bars>,
    totals: Mutex<Totals>,
    last_line: Mutex<Instant>,
}

impl Report {
    pub(crate) fn new(format: OutputFormat, verb: &'static str) -> Self {
        Self(Arc::new(Inner {
            format,
            verb,
            bars: (format == OutputFormat::Bars).then(Bars::new),
            totals: Mutex::new(Totals::new()),
            last_line: Mutex::new(Instant::now()),
        }))
    }

    /// Sets the number of files and their length, if it is known.
    pub(crate) fn expect(&self, files: usize, bytes: Option<u64>) {
        let mut totals = self.0.totals.lock();
        totals.files = files;
        totals.length = bytes;
    }

    /// Starts the report of a file.
    pub(crate) fn transfer(&self, name: &str, length: Option<u64>) -> Transfer {
        Transfer::new(self.clone(), name, length)
    }

    /// Prints the URL of a file to standard output, in JSON as part of a record instead. A person sees the name, too.
    pub(crate) fn url(&self, name: &str, url: &str) {
        let has_name = self.0.format != OutputFormat::Quiet && io::stdout().is_terminal();
        match has_name {
            _ if self.0.format == OutputFormat::Json => {}
            true => self.suspend(|| print_line(&format!("{} → {url}", printable(name)))),
            false => self.suspend(|| print_line(url)),
        }
    }

    /// Prints a message to standard error, unless the output is quiet or JSON.
    pub(crate) fn message(&self, text: &str) {
        if matches!(self.0.format, OutputFormat::Bars | OutputFormat::Lines) {
            self.suspend(|| print_message(text));
        }
    }

    /// Prints an error to standard error; JSON has a record of it.
    pub(crate) fn error(&self, text: &str) {
        if self.0.format != OutputFormat::Json {
            self.suspend(|| print_error(text));
        }
    }

    /// Prints a record, in JSON.
    pub(crate) fn record(&self, record: &Record<'_>) {
        if self.0.format == OutputFormat::Json
            && let Ok(line) = serde_json::to_string(record)
        {
            print_line(&printable_json(&line));
        }
    }

    /// Counts a file that an earlier run has transferred.
    pub(crate) fn skip(&self, name: &str, url: &str, length: u64) {
        let mut totals = self.0.totals.lock();
        totals.skipped += 1;
        totals.bytes += length;
        drop(totals);
        self.record(&Record::Skipped { file: name, url });
        self.url(name, url);
    }

    /// Counts a file whose transfer could not start; `length` is its part of the expected bytes.
    pub(crate) fn fail(&self, message: &str, length: Option<u64>) {
        self.0.totals.lock().fail(length);
        let (error, class) = (message, "failed");
        self.record(&Record::Failed {
            file: None,
            error,
            class,
            status: None,
        });
        self.error(message);
    }

    /// Reports that a source was deleted.
    pub(crate) fn delete(&self, file: &str) {
        self.record(&Record::Deleted { file });
    }

    /// Prints a summary, and removes the bars.
    pub(crate) fn finish(&self) {
        if let Some(bars) = &self.0.bars {
            bars.clear();
        }
        let totals = self.0.totals.lock();
        self.record(&Record::Summary {
            files: totals.files,
            completed: totals.completed,
            skipped: totals.skipped,
            failed: totals.failed,
            bytes: totals.moved,
            seconds: totals.elapsed().as_secs_f64(),
        });
        if totals.files > 1 {
            let mut text = format!("{} {}", count_text(totals.completed), self.0.verb);
            let (length, moved) = (totals.completed_bytes, totals.moved);
            text.push_str(&summary(length, moved, totals.elapsed()));
            if totals.skipped > 0 {
                text.push_str(&format!(", {} by an earlier run", totals.skipped));
            }
            text.push_str(&totals.failed_text());
            drop(totals);
            self.message(&text);
        }
    }

    /// Shows the progress of all files.
    fn show_totals(&self) {
        let mut totals = self.0.totals.lock();
        if let Some(bars) = &self.0.bars {
            if totals.files > 1 {
                bars.show_total(&mut totals);
            }
        } else if self.0.format == OutputFormat::Lines {
            let mut last = self.0.last_line.lock();
            if last.elapsed() >= LINE_INTERVAL {
                *last = Instant::now();
                let text = totals.text(Instant::now());
                drop(totals);
                self.message(&text);
            }
        }
    }

    /// Hides the bars while `print` runs: standard output may be the same terminal.
    fn suspend(&self, print: impl FnOnce()) {
        match &self.0.bars {
            Some(bars) => bars.suspend(print),
            None => print(),
        }
    }

    fn has_file_lines(&self) -> bool {
        self.0.totals.lock().files <= MAX_FILE_LINES
    }
}

fn count_text(files: usize) -> String {
    match files {
        1 => "1 file".to_owned(),
        files => format!("{files} files"),
    }
}

/// `, 12 MB in 3s (4 MB/s)`: the length of the files, and the rate of the bytes that were moved, if there are files.
fn summary(length: u64, moved: u64, elapsed: Duration) -> String {
    let rate = rate_text(moved as f64 / elapsed.as_secs_f64().max(0.001));
    let (size, time) = (size_text(length), short_duration(elapsed));
    match length {
        0 => format!(", {size} in {time}"),
        _ => format!(", {size} in {time} ({rate})"),
    }
}

/// A closed pipe does not end the transfers.
fn print_line(line: &str) {
    let _ = writeln!(io::stdout(), "{line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_uploaded_files_have_a_rate() {
        let elapsed = Duration::from_secs(3);
        assert_eq!(summary(0, 3_180_000, elapsed), ", 0 B in 3s");
        assert_eq!(summary(6000, 3000, elapsed), ", 6 kB in 3s (1 kB/s)");
    }
}
