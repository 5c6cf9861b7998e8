//! The progress of long work on standard error: one line that changes on a terminal, elsewhere a line a minute.

use std::{
    fmt,
    future::Future,
    io::{IsTerminal as _, stderr},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use indicatif::{HumanCount, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

/// Work that is done earlier shows no progress.
const DELAY: Duration = Duration::from_millis(500);
const DRAW_INTERVAL: Duration = Duration::from_millis(100);
/// Not on a terminal.
const LINE_INTERVAL: Duration = Duration::from_secs(60);

/// The progress of some work. Clones share it.
#[derive(Debug, Clone)]
pub struct Progress {
    bar: ProgressBar,
    /// The number of examined entries. A listing has no total.
    pub examined: Arc<AtomicU64>,
}

impl Progress {
    /// Returns the progress of this work.
    pub fn new(work: &'static str) -> Self {
        let examined = Arc::new(AtomicU64::new(0));
        let counter = examined.clone();
        let count = move |state: &ProgressState, out: &mut dyn fmt::Write| {
            // A failure to draw must not end the work.
            let _ = out.write_str(&counted(counter.load(Ordering::Relaxed), state.elapsed()));
        };
        let style = ProgressStyle::with_template("{spinner} {msg}{count} ({elapsed})");
        let style = style.unwrap_or_else(|_| ProgressStyle::default_spinner());
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
        bar.set_style(style.with_key("count", count));
        bar.set_message(work);
        Self { bar, examined }
    }

    /// Shows the progress until the work is done.
    pub async fn show_during<T>(&self, work: impl Future<Output = T>) -> T {
        let show = async {
            while !stderr().is_terminal() {
                tokio::time::sleep(LINE_INTERVAL).await;
                let (work, elapsed) = (self.bar.message(), self.bar.elapsed());
                let counted = counted(self.examined.load(Ordering::Relaxed), elapsed);
                eprintln!("{work}{counted} ({} s)", elapsed.as_secs());
            }
            tokio::time::sleep(DELAY).await;
            self.bar.set_draw_target(ProgressDrawTarget::stderr());
            self.bar.tick();
            self.bar.enable_steady_tick(DRAW_INTERVAL);
            std::future::pending().await
        };
        let result = tokio::select! {
            result = work => result,
            result = show => result,
        };
        self.bar.finish_and_clear();
        result
    }

    /// Hides the progress while `print` runs: standard output may be the same terminal.
    pub fn suspend(&self, print: impl FnOnce()) {
        self.bar.suspend(print);
    }
}

fn counted(count: u64, elapsed: Duration) -> String {
    match (count, count.checked_div(elapsed.as_secs())) {
        (0, _) => String::new(),
        (_, None) => format!(", {} examined", HumanCount(count)),
        (_, Some(rate)) => format!(", {} examined, {}/s", HumanCount(count), HumanCount(rate)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_counted_with_their_rate() {
        let after = |count, seconds| counted(count, Duration::from_secs(seconds));
        assert_eq!(after(0, 9), "");
        assert_eq!(after(1500, 0), ", 1,500 examined");
        assert_eq!(after(120_000, 60), ", 120,000 examined, 2,000/s");
    }
}
