//! Interruptions by Ctrl-C or SIGTERM.

use std::io;

use tokio::sync::watch;

use crate::exit::Failure;

/// Signals that the user interrupts the command. Clones share the signal.
#[derive(Debug, Clone)]
pub(crate) struct Interrupt(watch::Receiver<bool>);

impl Interrupt {
    /// Handles Ctrl-C and SIGTERM from now on: the first interrupts, the second ends the process.
    pub(crate) fn install() -> Result<Self, Failure> {
        let failed = |error| Failure::new(format!("failed to handle signals: {error}"));
        let mut signals = Signals::new().map_err(failed)?;
        let (sender, receiver) = watch::channel(false);
        tokio::spawn(async move {
            signals.receive().await;
            sender.send_replace(true);
            signals.receive().await;
            std::process::exit(130);
        });
        Ok(Self(receiver))
    }

    pub(crate) fn is_set(&self) -> bool {
        *self.0.borrow()
    }

    /// Waits for an interruption. Cancel safe.
    pub(crate) async fn wait(&self) {
        let mut receiver = self.0.clone();
        // The task that sends never ends.
        let _ = receiver.wait_for(|is_set| *is_set).await;
    }
}

#[cfg(unix)]
struct Signals(tokio::signal::unix::Signal, tokio::signal::unix::Signal);

#[cfg(unix)]
impl Signals {
    fn new() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self(
            signal(SignalKind::interrupt())?,
            signal(SignalKind::terminate())?,
        ))
    }

    async fn receive(&mut self) {
        tokio::select! {
            _ = self.0.recv() => {}
            _ = self.1.recv() => {}
        }
    }
}

#[cfg(not(unix))]
struct Signals;

#[cfg(not(unix))]
impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self)
    }

    async fn receive(&mut self) {
        let _ = tokio::signal::ctrl_c().await;
    }
}
