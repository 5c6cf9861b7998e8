//! The commands of the queue and their transactions. Progress has separate transactions, so that grants and
//! ends do not wait for it.

use std::{fmt, sync::Arc, time::Duration};

use tokio::{
    sync::{oneshot, watch},
    time::{sleep, sleep_until, timeout},
};

use super::{
    JobId, Queue, QueueError, Report, Shared, TIMEOUT,
    unit_of_work::{RequiredRows, UnitOfWork},
};
use crate::writer::{self, BatchError, Execute};

const MIN_PROGRESS_INTERVAL: Duration = Duration::from_millis(250);
const RETRY_DELAYS: [Duration; 3] = [
    Duration::from_millis(20),
    Duration::from_millis(100),
    Duration::from_millis(400),
];

pub(super) enum Command {
    Report(Report),
    /// The number of an API key, and when it was used.
    KeyUse(i64, i64),
    Change(Box<dyn Change>, AfterReports),
}

/// The reports of a job to write before a command, and whether that ends the job.
type AfterReports = Option<(JobId, bool)>;

/// A change of rows, and its caller.
pub(super) trait Change: Send {
    fn needs(&self) -> &RequiredRows;
    fn apply(&mut self, work: &mut UnitOfWork<'_>);
    fn is_waited_for(&self) -> bool;
    /// Called after the commit.
    fn complete(self: Box<Self>);
    fn fail(self: Box<Self>, error: &Arc<QueueError>);
}

struct PendingChange<A, T> {
    needs: RequiredRows,
    apply: A,
    output: Option<T>,
    sender: oneshot::Sender<Result<T, QueueError>>,
}

impl<A, T> Change for PendingChange<A, T>
where
    A: Fn(&mut UnitOfWork<'_>) -> T + Send,
    T: Send,
{
    fn needs(&self) -> &RequiredRows {
        &self.needs
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

impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Report(report) => write!(f, "progress of job {}", report.job),
            Self::KeyUse(key, _) => write!(f, "use of key {key}"),
            Self::Change(change, _) => change.needs().fmt(f),
        }
    }
}

impl Queue {
    /// Executes a command in a transaction with others. `apply` runs again if that is repeated.
    pub(super) async fn write<T: Send + 'static>(
        &self,
        after: AfterReports,
        needs: RequiredRows,
        apply: impl Fn(&mut UnitOfWork<'_>) -> T + Send + 'static,
    ) -> Result<T, QueueError> {
        let (sender, result) = oneshot::channel();
        let change = Box::new(PendingChange {
            needs,
            apply,
            output: None,
            sender,
        });
        let result = async {
            let sent = self.0.commands.send(Command::Change(change, after)).await;
            sent.map_err(|_| QueueError::Closed)?;
            result.await.map_err(|_| QueueError::Closed)?
        };
        timeout(TIMEOUT, result)
            .await
            .unwrap_or(Err(QueueError::Timeout(TIMEOUT)))
    }
}

pub(super) struct Writer(pub(super) Arc<Shared>);

impl Writer {
    pub(super) async fn run_progress(mut self, mut closing: watch::Receiver<bool>) {
        loop {
            let next = self.0.reports.next();
            let due = async {
                match next {
                    Some(next) => sleep_until(next).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = due => {}
                () = self.0.reports.due.notified() => continue,
                _ = closing.changed() => return,
            }
            self.write_reports(false).await;
            // Batch what becomes due meanwhile.
            tokio::select! {
                () = sleep(MIN_PROGRESS_INTERVAL) => {}
                _ = closing.changed() => return,
            }
        }
    }

    async fn write_reports(&mut self, all: bool) {
        let mut reports = self.0.reports.take(all).into_iter().map(Command::Report);
        while reports.len() > 0 {
            let batch = reports.by_ref().take(Self::BATCH_SIZE).collect();
            writer::write(self, batch).await;
        }
    }
}

impl Execute for Writer {
    type Command = Command;
    /// The number of the last event, or 0.
    type Output = i64;
    type Error = QueueError;
    const BATCH_SIZE: usize = 256;

    fn add(&mut self, command: Command, batch: &mut Vec<Command>) {
        if let Command::Change(_, Some((job, is_end))) = command {
            let reports = self.0.reports.take_job(job, is_end);
            batch.extend(reports.into_iter().map(Command::Report));
        }
        batch.push(command);
    }

    fn is_waited_for(&mut self, command: &Command) -> bool {
        match command {
            Command::Report(_) | Command::KeyUse(..) => true,
            Command::Change(change, _) => change.is_waited_for(),
        }
    }

    async fn execute(&mut self, batch: &mut [Command]) -> Result<i64, QueueError> {
        let shared = &*self.0;
        let mut transaction = shared.database.write().await?;
        // It has read the clock of the database.
        let mut work = UnitOfWork::new(shared);
        let mut reports = Vec::new();
        for command in &*batch {
            match command {
                Command::Report(report) => {
                    work.add_needs(&match report.part {
                        Some(_) => RequiredRows::JobWithParts(report.job),
                        None => RequiredRows::Job(report.job),
                    });
                    reports.push(report.clone());
                }
                Command::KeyUse(key, at) => {
                    work.key_uses.insert(*key, *at);
                }
                Command::Change(change, _) => work.add_needs(change.needs()),
            }
        }
        work.load(&mut transaction).await?;
        work.advance(&reports);
        for command in batch {
            if let Command::Change(change, _) = command {
                change.apply(&mut work);
            }
        }
        work.save(&mut transaction).await?;
        transaction.commit().await?;
        let advanced = reports.iter();
        let advanced = advanced.filter_map(|report| work.record(report.job.0));
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

    fn complete(&mut self, batch: Vec<Command>, newest: i64) {
        let mut counters = self.0.counters.lock();
        counters.batches += 1;
        for command in batch {
            if let Command::Change(change, _) = command {
                counters.commands += 1;
                change.complete();
            }
        }
        drop(counters);
        self.0.observe(newest);
    }

    fn retry_delay(&mut self, failures: u32, _: &QueueError) -> Option<Duration> {
        RETRY_DELAYS.get(usize::try_from(failures).ok()?).copied()
    }

    fn fail(&mut self, batch: Vec<Command>, error: QueueError) {
        let is_rejected = error.is_statement_error();
        if !is_rejected || !matches!(*batch, [Command::Report(_)]) {
            self.0.counters.lock().failures += 1;
        }
        let command = batch.first().filter(|_| is_rejected);
        tracing::error!(%error, ?command, "failed to write to the queue");
        let error = Arc::new(error);
        let mut reports = Vec::new();
        for command in batch {
            match command {
                Command::Report(report) => reports.push(report),
                Command::KeyUse(..) => {}
                Command::Change(change, _) => change.fail(&error),
            }
        }
        if !is_rejected {
            self.0.reports.requeue(reports);
        }
    }

    async fn close(&mut self, _: bool) {
        self.write_reports(true).await;
    }
}
