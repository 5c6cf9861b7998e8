//! Pausing, resuming and cancelling a running transfer.

use std::sync::Arc;

use tokio::sync::watch;

use crate::Error;

/// Pauses, resumes or cancels a running transfer from another task.
#[derive(Debug, Clone)]
pub struct Control(Arc<watch::Sender<ControlState>>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ControlState {
    Running,
    Paused,
    Cancelled,
}

/// Why a future was dropped before it was ready.
#[derive(Debug)]
pub(crate) struct Interrupted;

impl Control {
    pub(crate) fn new() -> Self {
        Self(Arc::new(watch::Sender::new(ControlState::Running)))
    }

    /// Stops sending and closes the requests. The upload stays on the server.
    pub fn pause(&self) {
        self.change(ControlState::Paused);
    }

    /// Continues after [`Self::pause`], at the offset that the server reports.
    pub fn resume(&self) {
        self.change(ControlState::Running);
    }

    /// Ends the transfer with [`Error::Cancelled`]. The upload stays on the server and can be resumed by another
    /// run; [`Client::terminate`](crate::Client::terminate) removes it.
    pub fn cancel(&self) {
        self.change(ControlState::Cancelled);
    }

    fn change(&self, state: ControlState) {
        self.0.send_if_modified(|current| {
            let changes = *current != ControlState::Cancelled && *current != state;
            if changes {
                *current = state;
            }
            changes
        });
    }

    /// Runs a future until it is ready, or drops it when the transfer is paused or cancelled.
    pub(crate) async fn guard<T>(&self, future: impl Future<Output = T>) -> Result<T, Interrupted> {
        let mut changes = self.0.subscribe();
        tokio::select! {
            biased;
            _ = changes.wait_for(|state| *state != ControlState::Running) => Err(Interrupted),
            value = future => Ok(value),
        }
    }

    /// Returns whether the transfer is paused.
    pub(crate) fn is_paused(&self) -> bool {
        *self.0.borrow() == ControlState::Paused
    }

    /// Waits while the transfer is paused.
    pub(crate) async fn until_running(&self) -> Result<(), Error> {
        let mut changes = self.0.subscribe();
        let state = changes.wait_for(|state| *state != ControlState::Paused);
        // The sender cannot be dropped before this.
        match state.await.map(|state| *state) {
            Ok(ControlState::Running) => Ok(()),
            _ => Err(Error::Cancelled),
        }
    }
}
