use std::{sync::Arc, time::Duration};

use landfall_database::run_in;
use tokio::{
    runtime::Handle,
    sync::{mpsc, oneshot, watch as channel},
    time::timeout,
};

use super::{
    Queue, QueueError,
    command::{PendingCommand, QueueCommand, QueuedCommand},
    shared::Shared,
    writer::WriteRequest,
};

const TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(super) struct QueueRuntime {
    pub(super) shared: Arc<Shared>,
    pub(super) writer: mpsc::Sender<WriteRequest>,
    pub(super) runtime: Handle,
    pub(super) closing: channel::Sender<bool>,
}

impl Drop for QueueRuntime {
    fn drop(&mut self) {
        self.closing.send_replace(true);
    }
}

impl Queue {
    pub(super) async fn write<C: QueueCommand>(
        &self,
        command: C,
        request: impl FnOnce(Box<dyn QueuedCommand>) -> WriteRequest,
    ) -> Result<C::Output, QueueError> {
        let (sender, output) = oneshot::channel();
        let request = request(Box::new(PendingCommand::new(command, sender)));
        let output = async {
            let sent = self.0.writer.send(request).await;
            sent.map_err(|_| QueueError::Closed)?;
            output.await.map_err(|_| QueueError::Closed)?
        };
        timeout(TIMEOUT, output)
            .await
            .unwrap_or(Err(QueueError::Timeout(TIMEOUT)))
    }

    pub(super) async fn read<T: Send + 'static, F>(
        &self,
        read: impl FnOnce(Arc<Shared>) -> F,
    ) -> Result<T, QueueError>
    where
        F: Future<Output = Result<T, QueueError>> + Send + 'static,
    {
        let read = read(self.0.shared.clone());
        let read = async {
            timeout(TIMEOUT, read)
                .await
                .unwrap_or(Err(QueueError::Timeout(TIMEOUT)))
        };
        self.run_on_runtime(read).await
    }

    /// The future is cancelled if this is dropped.
    pub(super) async fn run_on_runtime<T: Send + 'static>(
        &self,
        future: impl Future<Output = Result<T, QueueError>> + Send + 'static,
    ) -> Result<T, QueueError> {
        if *self.0.closing.borrow() {
            return Err(QueueError::Closed);
        }
        let output = run_in(&self.0.runtime, future).await;
        output.unwrap_or(Err(QueueError::Closed))
    }
}
