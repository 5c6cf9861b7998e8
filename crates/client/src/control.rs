//! Pausing, resuming and cancelling a running transfer.

use std::sync::Arc;

use tokio::sync::watch;

/// Pauses, resumes or cancels a running transfer from another task.
#[derive(Debug, Clone)]
pub struct Control(Arc<watch::Sender<ControlState>>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ControlState {
    Running,
    Paused,
    Cancelled,
}

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

    /// Ends the transfer with [`Error::Cancelled`](crate::Error::Cancelled). The upload stays on the server and can
    /// be resumed by another one; [`Client::terminate`](crate::Client::terminate) removes it.
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
}
