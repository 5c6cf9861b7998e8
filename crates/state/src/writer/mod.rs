//! The batch writer: one task executes the commands of many callers, one transaction per batch.
//!
//! Commands that arrive during a transaction are the next batch. If the database rejects a statement, the batch
//! is divided until the command with that statement is alone; after other errors the batch is repeated. Commands
//! whose callers no longer wait are skipped: their failure was reported.
//!
//! It must not know what the commands do: that is the part of [`Execute`].

#[cfg(test)]
mod tests;

use std::{collections::VecDeque, fmt, iter, time::Duration};

use tokio::{
    sync::{mpsc, oneshot},
    task::yield_now,
    time::sleep,
};

use crate::sql::DatabaseError;

/// Above this, callers wait.
const CHANNEL_SIZE: usize = 2048;
/// Repetitions at once, after conflicts with other transactions.
const MAX_CONFLICTS: u32 = 5;

/// An error of a transaction.
pub(crate) trait BatchError: fmt::Display + Send {
    /// A concurrent transaction is the cause; the batch can be repeated at once.
    fn is_conflict(&self) -> bool;

    /// A single command is the cause: the others can be executed without it.
    fn is_statement_error(&self) -> bool;
}

impl BatchError for DatabaseError {
    fn is_conflict(&self) -> bool {
        self.is_conflict()
    }

    fn is_statement_error(&self) -> bool {
        self.is_statement_error()
    }
}

/// Executes batches of commands.
pub(crate) trait Execute: Send {
    type Command: Send;
    /// The effects of the transaction.
    type Output: Send;
    type Error: BatchError;

    const BATCH_SIZE: usize;

    /// Adds a received command to the batch, after those that must precede it.
    fn add(&mut self, command: Self::Command, batch: &mut Vec<Self::Command>) {
        batch.push(command);
    }

    /// Returns whether the command is still to be executed.
    fn is_waited_for(&mut self, command: &Self::Command) -> bool;

    /// Executes the batch in a transaction; nothing of it if that fails before the commit.
    fn execute(
        &mut self,
        batch: &mut [Self::Command],
    ) -> impl Future<Output = Result<Self::Output, Self::Error>> + Send;

    /// The batch was committed.
    fn complete(&mut self, batch: Vec<Self::Command>, output: Self::Output);

    /// Returns the time after which the batch is repeated; `None` to [fail](Self::fail) it.
    fn retry_delay(&mut self, failures: u32, error: &Self::Error) -> Option<Duration>;

    /// The batch was not executed: it is one command that the database rejects, or is not repeated any more.
    fn fail(&mut self, batch: Vec<Self::Command>, error: Self::Error);

    /// The last batch was executed: [`Commands::close`] was called, or all senders were dropped.
    fn close(&mut self, is_requested: bool) -> impl Future<Output = ()> + Send;
}

pub(crate) enum Request<C> {
    Execute(C),
    Close(oneshot::Sender<()>),
}

/// The sender of commands to a writer.
#[derive(Debug)]
pub(crate) struct Commands<C>(mpsc::Sender<Request<C>>);

/// The writer was closed.
#[derive(Debug)]
pub(crate) struct Closed;

impl<C> Clone for Commands<C> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<C> Commands<C> {
    pub(crate) fn channel() -> (Self, mpsc::Receiver<Request<C>>) {
        let (sender, requests) = mpsc::channel(CHANNEL_SIZE);
        (Self(sender), requests)
    }

    pub(crate) async fn send(&self, command: C) -> Result<(), Closed> {
        self.reserve().await?.send(Request::Execute(command));
        Ok(())
    }

    /// Drops the command if the writer is busy or closed.
    pub(crate) fn try_send(&self, command: C) {
        let _ = self.0.try_send(Request::Execute(command));
    }

    /// Waits for room in the channel.
    pub(crate) async fn reserve(&self) -> Result<mpsc::Permit<'_, Request<C>>, Closed> {
        self.0.reserve().await.map_err(|_| Closed)
    }

    /// Waits until the writer has executed what was sent, and has ended.
    pub(crate) async fn close(&self) {
        let (done, closed) = oneshot::channel();
        if self.0.send(Request::Close(done)).await.is_ok() {
            let _ = closed.await;
        }
    }
}

/// Executes requests until the writer is closed. `gathers` if commands do so during a transaction, which waits
/// for a server.
pub(crate) async fn run<E: Execute>(
    mut executor: E,
    gathers: bool,
    mut requests: mpsc::Receiver<Request<E::Command>>,
) {
    let mut received = Vec::with_capacity(E::BATCH_SIZE);
    let mut closed = Vec::new();
    while closed.is_empty() && requests.recv_many(&mut received, E::BATCH_SIZE).await > 0 {
        if !gathers {
            // Commands of tasks that are ready now share the transaction.
            yield_now().await;
            let room = E::BATCH_SIZE.saturating_sub(received.len());
            received.extend(iter::from_fn(|| requests.try_recv().ok()).take(room));
        }
        let is_close = |request: &_| matches!(request, Request::Close(_));
        if received.iter().any(is_close) {
            requests.close();
            while let Some(request) = requests.recv().await {
                received.push(request);
            }
        }
        let mut batch = Vec::with_capacity(received.len());
        for request in received.drain(..) {
            match request {
                Request::Execute(command) => executor.add(command, &mut batch),
                Request::Close(done) => closed.push(done),
            }
        }
        write(&mut executor, batch).await;
    }
    executor.close(!closed.is_empty()).await;
    for done in closed {
        let _ = done.send(());
    }
}

/// Executes a batch, in several transactions if the database rejects a statement.
pub(crate) async fn write<E: Execute>(executor: &mut E, batch: Vec<E::Command>) {
    let mut batches = VecDeque::from([batch]);
    while let Some(batch) = batches.pop_front() {
        let Err((mut batch, error)) = repeat(executor, batch).await else {
            continue;
        };
        if batch.len() > 1 {
            // In order: a command may depend on an earlier one.
            let second = batch.split_off(batch.len().div_ceil(2));
            batches.push_front(second);
            batches.push_front(batch);
        } else {
            executor.fail(batch, error);
        }
    }
}

/// Repeats a batch until it is done or failed; returns it if the database rejects a statement of it.
async fn repeat<E: Execute>(
    executor: &mut E,
    mut batch: Vec<E::Command>,
) -> Result<(), (Vec<E::Command>, E::Error)> {
    let (mut conflicts, mut failures) = (0, 0);
    loop {
        batch.retain(|command| executor.is_waited_for(command));
        if batch.is_empty() {
            return Ok(());
        }
        let error = match executor.execute(&mut batch).await {
            Ok(output) => {
                executor.complete(batch, output);
                return Ok(());
            }
            Err(error) => error,
        };
        if error.is_conflict() && conflicts < MAX_CONFLICTS {
            conflicts += 1;
        } else if error.is_statement_error() {
            return Err((batch, error));
        } else if let Some(delay) = executor.retry_delay(failures, &error) {
            failures += 1;
            sleep(delay).await;
        } else {
            executor.fail(batch, error);
            return Ok(());
        }
    }
}
