//! Progress bars.

use std::{borrow::Cow, time::Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use parking_lot::Mutex;

use super::totals::Totals;
use crate::text::shortened;

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

    /// Shows the progress of a file; adds its bar if it has none.
    pub(super) fn show(
        &self,
        bar: &mut Option<ProgressBar>,
        name: &str,
        bytes: u64,
        length: Option<u64>,
        text: String,
    ) {
        match bar {
            Some(bar) => update(bar, bytes, length, text),
            None => {
                let new = new_bar(name, length);
                update(&new, bytes, length, text);
                let new = match &*self.total.lock() {
                    Some(total) => self.bars.insert_before(total, new),
                    None => self.bars.add(new),
                };
                new.tick();
                *bar = Some(new);
            }
        }
    }

    pub(super) fn remove(&self, bar: &ProgressBar) {
        bar.finish_and_clear();
        self.bars.remove(bar);
    }

    pub(super) fn show_total(&self, totals: &mut Totals) {
        let mut total = self.total.lock();
        let text = totals.text(Instant::now());
        if let Some(bar) = &*total {
            return update(bar, totals.bytes, totals.length, text);
        }
        let new = new_bar("total", totals.length);
        update(&new, totals.bytes, totals.length, text);
        let new = self.bars.add(new);
        new.tick();
        *total = Some(new);
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

fn update(bar: &ProgressBar, bytes: u64, length: Option<u64>, text: String) {
    // A failed file takes its length out of the total.
    if let Some(length) = length {
        bar.set_length(length);
    }
    bar.set_message(text);
    bar.set_position(bytes);
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
