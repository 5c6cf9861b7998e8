//! The progress of long work, on standard error if that is a terminal.

use std::{
    fmt,
    future::Future,
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
        let count = move |_: &ProgressState, out: &mut dyn fmt::Write| {
            // A failure to draw must not end the work.
            let _ = match counter.load(Ordering::Relaxed) {
                0 => Ok(()),
                count => write!(out, ", {} examined", HumanCount(count)),
            };
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
