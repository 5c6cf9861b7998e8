//! What the writer is asked to do.

use std::{fmt, sync::Arc};

use tokio::sync::oneshot;

use super::{
    QueueError,
    book::{Book, Needs},
};

/// Something to be done in a transaction, together with what others want.
pub(super) trait Work: fmt::Debug + Send + 'static {
    /// What comes of it.
    type Answer: fmt::Debug + Send + 'static;

    /// Says which rows it needs.
    fn needs(&self, needs: &mut Needs);

    /// Changes them. May be called again if the transaction fails.
    fn apply(&self, book: &mut Book<'_>) -> Self::Answer;
}

/// Work of any kind, and somebody who waits for its answer.
pub(super) trait Order: fmt::Debug + Send {
    fn needs(&self, needs: &mut Needs);
    fn apply(&mut self, book: &mut Book<'_>);
    /// Whether somebody still waits.
    fn is_waited_for(&self) -> bool;
    /// Hands over the answer, now that it is kept.
    fn done(self: Box<Self>);
    fn failed(self: Box<Self>, error: &Arc<QueueError>);
}

/// See [`Order`].
#[derive(Debug)]
pub(super) struct Awaited<W: Work> {
    work: W,
    answer: Option<W::Answer>,
    done: oneshot::Sender<Result<W::Answer, QueueError>>,
}

impl<W: Work> Awaited<W> {
    pub(super) fn new(work: W, done: oneshot::Sender<Result<W::Answer, QueueError>>) -> Self {
        Self {
            work,
            answer: None,
            done,
        }
    }
}

impl<W: Work> Order for Awaited<W> {
    fn needs(&self, needs: &mut Needs) {
        self.work.needs(needs);
    }

    fn apply(&mut self, book: &mut Book<'_>) {
        self.answer = Some(self.work.apply(book));
    }

    fn is_waited_for(&self) -> bool {
        !self.done.is_closed()
    }

    fn done(self: Box<Self>) {
        if let Some(answer) = self.answer {
            let _ = self.done.send(Ok(answer));
        }
    }

    fn failed(self: Box<Self>, error: &Arc<QueueError>) {
        let _ = self.done.send(Err(QueueError::Write(error.clone())));
    }
}
