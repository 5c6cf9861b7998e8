//! Ending the server in steps.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

/// How far a shutdown has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Step {
    /// Serving.
    Running,
    /// No new connections; idle ones are closed; requests go on, for the grace time at most.
    Draining,
    /// Bodies still being read end with
    /// [`BodyError::ShuttingDown`](super::BodyError::ShuttingDown); answers are still sent.
    Cutting,
    /// What is still open is dropped.
    Dropping,
}

impl Step {
    pub(super) fn from_u8(value: u8) -> Self {
        match value {
            0 => Self::Running,
            1 => Self::Draining,
            2 => Self::Cutting,
            _ => Self::Dropping,
        }
    }
}

/// The handle that ends [`serve`](super::serve). Clones are the same handle.
#[derive(Clone, Debug)]
pub struct Shutdown {
    step: Arc<watch::Sender<Step>>,
    grace: Duration,
    answer: Duration,
}

impl Shutdown {
    /// A handle that gives running requests `grace` to end by themselves; 0 cuts them at once.
    #[must_use]
    pub fn new(grace: Duration) -> Self {
        Self {
            step: Arc::new(watch::Sender::new(Step::Running)),
            grace,
            answer: Duration::from_secs(5),
        }
    }

    /// How long requests that were cut have for storing what they received and for their answer
    /// (5 s unless set).
    #[must_use]
    pub fn answer_time(mut self, time: Duration) -> Self {
        self.answer = time;
        self
    }

    /// Begins the shutdown. Later calls change nothing.
    pub fn begin(&self) {
        self.advance(Step::Draining);
    }

    /// How far the shutdown has come; a readiness probe should fail from
    /// [`Draining`](Step::Draining) on.
    #[must_use]
    pub fn step(&self) -> Step {
        *self.step.borrow()
    }

    /// Resolves once the shutdown has begun. Cancel safe.
    pub async fn begun(&self) {
        let mut step = self.step.subscribe();
        // The sender lives in `self`, so this can't fail.
        let _ = step.wait_for(|step| *step > Step::Running).await;
    }

    /// Begins the shutdown on the first SIGINT or SIGTERM and ends the process with status 1 on
    /// the second. From the call on, neither ends the process by itself; spawn what it returns, which
    /// runs until then.
    ///
    /// # Errors
    /// The signals can't be listened to.
    pub fn on_signals(self) -> std::io::Result<impl Future<Output = ()> + Send + 'static> {
        use tokio::signal::unix::{SignalKind, signal};
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        Ok(async move {
            for first in [true, false] {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
                if first {
                    tracing::info!(grace = ?self.grace, "received interrupt signal, shutting down");
                    self.begin();
                }
            }
            tracing::warn!("received second interrupt signal, exiting immediately");
            std::process::exit(1)
        })
    }

    pub(super) fn grace(&self) -> Duration {
        self.grace
    }

    pub(super) fn answer(&self) -> Duration {
        self.answer
    }

    pub(super) fn advance(&self, to: Step) {
        self.step.send_if_modified(|step| {
            let later = to > *step;
            if later {
                *step = to;
            }
            later
        });
    }
}
