//! The writer tasks. Commands that arrive during a transaction are batched into the next one.

use std::{iter, sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, oneshot, watch},
    task::yield_now,
    time::{Instant, sleep, sleep_until, timeout},
};

use super::{
    JobId, Queue, QueueError, Report, Shared, TIMEOUT, transition,
    unit_of_work::{Prefetch, UnitOfWork},
};

const BATCH_SIZE: usize = 256;
const RETRY_DELAYS: [Duration; 3] = [
    Duration::from_millis(20),
    Duration::from_millis(100),
    Duration::from_millis(400),
];

const MIN_PROGRESS_INTERVAL: Duration = Duration::from_millis(250);
/// After conflicts with other transactions.
const MAX_CONFLICTS: u32 = 5;

pub(super) trait QueuedCommand: Send {
    fn prefetch(&self) -> &Prefetch;
    fn apply(&mut self, work: &mut UnitOfWork<'_>);
    fn is_waited_for(&self) -> bool;
    /// Called after the commit.
    fn complete(self: Box<Self>);
    fn fail(self: Box<Self>, error: &Arc<QueueError>);
}

struct PendingCommand<A, T> {
    prefetch: Prefetch,
    apply: A,
    output: Option<T>,
    sender: oneshot::Sender<Result<T, QueueError>>,
}

impl<A, T> QueuedCommand for PendingCommand<A, T>
where
    A: Fn(&mut UnitOfWork<'_>) -> T + Send,
    T: Send,
{
    fn prefetch(&self) -> &Prefetch {
        &self.prefetch
    }

    fn apply(&mut self, work: &mut UnitOfWork<'_>) {
        self.output = Some((self.apply)(work));
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

/// The reports of a job to write before a command, and whether that ends the job.
type AfterReports = Option<(JobId, bool)>;

pub(super) enum WriteRequest {
    Run(Box<dyn QueuedCommand>, AfterReports),
    Close(oneshot::Sender<()>),
}

impl Queue {
    /// Executes a command in a transaction with others. `apply` runs again if that is repeated.
    pub(super) async fn write<T: Send + 'static>(
        &self,
        after: AfterReports,
        prefetch: Prefetch,
        apply: impl Fn(&mut UnitOfWork<'_>) -> T + Send + 'static,
    ) -> Result<T, QueueError> {
        let (sender, result) = oneshot::channel();
        let command = Box::new(PendingCommand {
            prefetch,
            apply,
            output: None,
            sender,
        });
        let result = async {
            let sent = self.0.writer.send(WriteRequest::Run(command, after)).await;
            sent.map_err(|_| QueueError::Closed)?;
            result.await.map_err(|_| QueueError::Closed)?
        };
        timeout(TIMEOUT, result)
            .await
            .unwrap_or(Err(QueueError::Timeout(TIMEOUT)))
    }
}

pub(super) async fn run(shared: Arc<Shared>, mut requests: mpsc::Receiver<WriteRequest>) {
    let mut batch = Vec::with_capacity(BATCH_SIZE);
    while requests.recv_many(&mut batch, BATCH_SIZE).await > 0 {
        // Commands of tasks that are ready now share the transaction. On PostgreSQL they gather
        // while a transaction waits for the server.
        if !shared.database.is_postgres() {
            yield_now().await;
            let room = BATCH_SIZE.saturating_sub(batch.len());
            batch.extend(iter::from_fn(|| requests.try_recv().ok()).take(room));
        }
        let mut closed = None;
        let mut commands = Vec::with_capacity(batch.len());
        let mut reports = Vec::new();
        let mut add = |request, closed: &mut Option<_>| match request {
            WriteRequest::Run(command, after) => {
                if let Some((job, is_end)) = after {
                    shared.reports.take_job(job, is_end, &mut reports);
                }
                commands.push(command);
            }
            WriteRequest::Close(done) => *closed = Some(done),
        };
        for request in batch.drain(..) {
            add(request, &mut closed);
        }
        if closed.is_some() {
            requests.close();
            while let Some(request) = requests.recv().await {
                add(request, &mut closed);
            }
        }
        write(&shared, commands, reports).await;
        if let Some(done) = closed {
            write_reports(&shared, true).await;
            let _ = done.send(());
            return;
        }
    }
    write_reports(&shared, true).await;
}

/// Progress has its own transactions, so that grants and ends do not wait for it.
pub(super) async fn run_progress(shared: Arc<Shared>, mut closing: watch::Receiver<bool>) {
    loop {
        let next = shared.reports.next();
        let due = async {
            match next {
                Some(next) => sleep_until(Instant::from_std(next)).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = due => {}
            () = shared.reports.due.notified() => continue,
            _ = closing.changed() => return,
        }
        write_reports(&shared, false).await;
        // Batch what becomes due meanwhile.
        tokio::select! {
            () = sleep(MIN_PROGRESS_INTERVAL) => {}
            _ = closing.changed() => return,
        }
    }
}

async fn write_reports(shared: &Shared, all: bool) {
    let mut reports = shared.reports.take(all);
    while !reports.is_empty() {
        let rest = reports.split_off(reports.len().min(BATCH_SIZE));
        write(shared, Vec::new(), reports).await;
        reports = rest;
    }
}

async fn write(shared: &Shared, mut commands: Vec<Box<dyn QueuedCommand>>, reports: Vec<Report>) {
    let mut delays = RETRY_DELAYS.iter();
    let mut conflicts = 0;
    let error = loop {
        // Skip commands whose callers have timed out: they have reported a failure.
        commands.retain(|command| command.is_waited_for());
        if commands.is_empty() && reports.is_empty() {
            return;
        }
        match attempt(shared, &mut commands, &reports).await {
            Ok(newest) => {
                let mut counters = shared.counters.lock();
                counters.batches += 1;
                counters.commands += u64::try_from(commands.len()).unwrap_or(u64::MAX);
                drop(counters);
                commands.into_iter().for_each(|command| command.complete());
                shared.observe(newest);
                return;
            }
            Err(error) if error.is_conflict() && conflicts < MAX_CONFLICTS => conflicts += 1,
            Err(error) if error.is_statement_error() => {
                return divide(shared, commands, reports, error).await;
            }
            Err(error) => match delays.next() {
                Some(delay) => sleep(*delay).await,
                None => break error,
            },
        }
    };
    shared.counters.lock().failures += 1;
    tracing::error!(%error, "failed to write to the queue");
    let error = Arc::new(error);
    for command in commands {
        command.fail(&error);
    }
    shared.reports.requeue(reports);
}

/// Isolates the error of one statement. A single command receives the error. Reports are written first,
/// since they precede the ends of their jobs.
async fn divide(
    shared: &Shared,
    mut commands: Vec<Box<dyn QueuedCommand>>,
    mut reports: Vec<Report>,
    error: QueueError,
) {
    match (commands.len(), reports.len()) {
        (0 | 1, 0) => {
            shared.counters.lock().failures += 1;
            let command = commands.first().map(|command| command.prefetch());
            tracing::error!(%error, ?command, "queue command rejected by the database");
            let error = Arc::new(error);
            for command in commands {
                command.fail(&error);
            }
        }
        (0, 1) => {
            shared.counters.lock().dropped_reports += 1;
            let job = reports.first().map(|report| report.job.0);
            tracing::error!(%error, job, "dropped a progress report rejected by the database");
        }
        (count, report_count) => {
            let later_reports = match count {
                0 => reports.split_off(report_count / 2),
                _ => Vec::new(),
            };
            let later = match report_count {
                0 => commands.split_off(count / 2),
                _ => std::mem::take(&mut commands),
            };
            Box::pin(write(shared, commands, reports)).await;
            Box::pin(write(shared, later, later_reports)).await;
        }
    }
}

async fn attempt(
    shared: &Shared,
    commands: &mut [Box<dyn QueuedCommand>],
    reports: &[Report],
) -> Result<i64, QueueError> {
    let mut prefetch = Prefetch::default();
    transition::prefetch(reports, &mut prefetch);
    for command in commands.iter() {
        prefetch.add(command.prefetch());
    }
    let mut transaction = shared.database.write().await?;
    let mut work = UnitOfWork::new(shared);
    work.load(&mut transaction, &prefetch).await?;
    work.advance(reports);
    for command in commands.iter_mut() {
        command.apply(&mut work);
    }
    work.save(&mut transaction).await?;
    transaction.commit().await?;
    let advanced = reports
        .iter()
        .filter_map(|report| work.record(report.job.0));
    shared
        .reports
        .set_written(advanced.map(|record| &record.job));
    if let Some(outbox) = &shared.settings.outbox
        && !work.events.is_empty()
    {
        outbox.notify_pending();
    }
    Ok(work.events.last().map_or(0, |event| event.number))
}
