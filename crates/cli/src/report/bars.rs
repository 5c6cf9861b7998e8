//! Progress bars.

use std::borrow::Cow;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use parking_lot::Mutex;

use super::{text::shortened, totals::Totals};

/// Redraws per second.
const DRAW_RATE: u8 = 10;
const NAME_WIDTH: usize = 30;

/// The bars of the running transfers, and one of all files below them.
#[derive(Debug)]
pub(super) struct Bars {
    bars: MultiProgress,
    total: Mutex<Option<ProgressBar>>,
}

impl Bars {
    pub(super) fn new() -> Self {
        let target = ProgressDrawTarget::stderr_with_hz(DRAW_RATE);
        Self {
            bars: MultiProgress::with_draw_target(target),
            total: Mutex::new(None),
        }
    }

    /// Adds the bar of a file.
    pub(super) fn add(&self, name: &str, length: Option<u64>) -> ProgressBar {
        let bar = new_bar(name, length);
        match &*self.total.lock() {
            Some(total) => self.bars.insert_before(total, bar),
            None => self.bars.add(bar),
        }
    }

    pub(super) fn remove(&self, bar: &ProgressBar) {
        bar.finish_and_clear();
        self.bars.remove(bar);
    }

    pub(super) fn show_total(&self, totals: &mut Totals) {
        let mut total = self.total.lock();
        let bar = total.get_or_insert_with(|| self.bars.add(new_bar("total", totals.length)));
        bar.set_position(totals.bytes);
        bar.set_message(totals.text());
    }

    /// Hides the bars while `print` runs.
    pub(super) fn suspend(&self, print: impl FnOnce()) {
        self.bars.suspend(print);
    }

    pub(super) fn clear(&self) {
        if let Some(total) = self.total.lock().take() {
            self.remove(&total);
        }
        // A failure to draw must not end the command.
        let _ = self.bars.clear();
    }
}

fn new_bar(name: &str, length: Option<u64>) -> ProgressBar {
    let template = match length {
        Some(_) => "{prefix} [{wide_bar}] {msg}",
        None => "{prefix} {spinner} {msg}",
    };
    let style = ProgressStyle::with_template(template);
    let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
    // Without a target, it draws nothing before it is added to the others.
    let bar = ProgressBar::with_draw_target(length, ProgressDrawTarget::hidden());
    bar.set_style(style.progress_chars("=> "));
    bar.set_prefix(Cow::Owned(shortened(name, NAME_WIDTH)));
    bar
}
