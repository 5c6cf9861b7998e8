//! Graceful shutdown of the HTTP server, in phases.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::Context;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Sleep, sleep};

const FIRST_REQUEST_TIME: Duration = Duration::from_secs(1);

/// A phase of the shutdown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum ShutdownPhase {
    /// Serving.
    Running,
    /// No new connections; idle ones are closed; requests may finish within the grace time.
    Draining,
    /// Request bodies end with [`RequestBodyError::ShuttingDown`](landfall::service::RequestBodyError::ShuttingDown); responses are sent.
    Aborting,
    /// Remaining connections are closed.
    Closing,
}

/// A handle that shuts down [`serve`](super::serve). Clones share their state.
#[derive(Clone, Debug)]
pub struct Shutdown {
    state: Arc<ShutdownState>,
    pub(super) grace: Duration,
    pub(super) response_timeout: Duration,
}

#[derive(Debug, Default)]
struct ShutdownState {
    phase: AtomicU8,
    changed: Notify,
}

impl Shutdown {
    /// Creates a handle with a grace time for running requests; 0 aborts them at once.
    pub fn new(grace: Duration) -> Self {
        Self {
            state: Arc::default(),
            grace,
            response_timeout: Duration::from_secs(5),
        }
    }

    /// Sets the time in which aborted requests store what they received and respond (default: 5 s).
    pub fn with_response_timeout(mut self, time: Duration) -> Self {
        self.response_timeout = time;
        self
    }

    /// Starts the shutdown. Later calls have no effect.
    pub fn start(&self) {
        self.advance(ShutdownPhase::Draining);
    }

    /// Returns the current phase. Readiness probes should fail from
    /// [`Draining`](ShutdownPhase::Draining) on.
    #[inline]
    pub fn phase(&self) -> ShutdownPhase {
        match self.state.phase.load(Ordering::Acquire) {
            0 => ShutdownPhase::Running,
            1 => ShutdownPhase::Draining,
            2 => ShutdownPhase::Aborting,
            _ => ShutdownPhase::Closing,
        }
    }

    /// Waits until the shutdown has started. Cancel safe.
    pub async fn started(&self) {
        self.changed(ShutdownPhase::Running).await;
    }

    /// Waits for a phase other than a known one. Cancel safe.
    pub(super) async fn changed(&self, known: ShutdownPhase) {
        // Created before the check, so that no notification is missed.
        let changed = self.state.changed.notified();
        if self.phase() == known {
            changed.await;
        }
    }

    /// Starts the shutdown on the first SIGINT or SIGTERM; the second exits with status 1.
    ///
    /// The handlers are installed by this call. Spawn the returned future, which runs until the exit.
    ///
    /// # Errors
    /// The signal handlers cannot be installed.
    pub fn on_signals(self) -> std::io::Result<impl Future<Output = ()> + Send + 'static> {
        use tokio::signal::unix::{SignalKind, signal};
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        Ok(async move {
            for first in [true, false] {
                let signal = tokio::select! {
                    _ = interrupt.recv() => "SIGINT",
                    _ = terminate.recv() => "SIGTERM",
                };
                if first {
                    tracing::info!(grace = ?self.grace, "received {signal}, shutting down");
                    self.start();
                } else {
                    tracing::warn!("received {signal} again, exiting immediately");
                }
            }
            std::process::exit(1)
        })
    }

    pub(super) fn advance(&self, to: ShutdownPhase) {
        self.state.phase.fetch_max(to as u8, Ordering::AcqRel);
        self.state.changed.notify_waiters();
    }
}

/// The time that is left for the first request of a connection, which may be in transit when the shutdown starts.
#[derive(Default)]
pub(super) struct FirstRequest(Option<Pin<Box<Sleep>>>);

impl FirstRequest {
    pub(super) fn is_over(&mut self, phase: ShutdownPhase, cx: &mut Context<'_>) -> bool {
        if phase == ShutdownPhase::Running {
            return false;
        }
        let new = || Box::pin(sleep(FIRST_REQUEST_TIME));
        self.0.get_or_insert_with(new).as_mut().poll(cx).is_ready()
    }
}
