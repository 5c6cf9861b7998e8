//! Commands to the writer.

use std::{fmt, sync::Arc};

use tokio::sync::oneshot;

use super::{
    QueueError,
    unit_of_work::{Prefetch, UnitOfWork},
};

/// A command that runs in a transaction, batched with those of other callers.
pub(super) trait QueueCommand: fmt::Debug + Send + 'static {
    type Output: fmt::Debug + Send + 'static;

    /// Adds the rows that the command needs.
    fn prefetch(&self, prefetch: &mut Prefetch);

    /// Applies the command to the loaded rows. Called again if the transaction is repeated.
    fn apply(&self, work: &mut UnitOfWork<'_>) -> Self::Output;
}

/// A [`PendingCommand`] of any type.
pub(super) trait QueuedCommand: fmt::Debug + Send {
    fn prefetch(&self, prefetch: &mut Prefetch);
    fn apply(&mut self, work: &mut UnitOfWork<'_>);
    /// Returns whether the caller still waits.
    fn is_waited_for(&self) -> bool;
    /// Sends the output to the caller, after the commit.
    fn complete(self: Box<Self>);
    fn fail(self: Box<Self>, error: &Arc<QueueError>);
}

/// A command whose caller waits for the output.
#[derive(Debug)]
pub(super) struct PendingCommand<C: QueueCommand> {
    command: C,
    output: Option<C::Output>,
    sender: oneshot::Sender<Result<C::Output, QueueError>>,
}

impl<C: QueueCommand> PendingCommand<C> {
    pub(super) fn new(command: C, sender: oneshot::Sender<Result<C::Output, QueueError>>) -> Self {
        Self {
            command,
            output: None,
            sender,
        }
    }
}

impl<C: QueueCommand> QueuedCommand for PendingCommand<C> {
    fn prefetch(&self, prefetch: &mut Prefetch) {
        self.command.prefetch(prefetch);
    }

    fn apply(&mut self, work: &mut UnitOfWork<'_>) {
        self.output = Some(self.command.apply(work));
    }

    fn is_waited_for(&self) -> bool {
        !self.sender.is_closed()
    }

    fn complete(self: Box<Self>) {
        if let Some(output) = self.output {
            let _ = self.sender.send(Ok(output));
        }
    }

    fn fail(self: Box<Self>, error: &Arc<QueueError>) {
        let _ = self.sender.send(Err(QueueError::Write(error.clone())));
    }
}
