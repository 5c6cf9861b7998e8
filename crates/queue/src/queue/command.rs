use std::{fmt, sync::Arc};

use tokio::sync::oneshot;

use super::{
    QueueError,
    unit_of_work::{Prefetch, UnitOfWork},
};

pub(super) trait QueueCommand: fmt::Debug + Send + 'static {
    type Output: fmt::Debug + Send + 'static;

    fn prefetch(&self, prefetch: &mut Prefetch);

    /// Called again if the transaction is repeated.
    fn apply(&self, work: &mut UnitOfWork<'_>) -> Self::Output;
}

pub(super) trait QueuedCommand: fmt::Debug + Send {
    fn prefetch(&self, prefetch: &mut Prefetch);
    fn apply(&mut self, work: &mut UnitOfWork<'_>);
    fn is_waited_for(&self) -> bool;
    /// Called after the commit.
    fn complete(self: Box<Self>);
    fn fail(self: Box<Self>, error: &Arc<QueueError>);
}

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
