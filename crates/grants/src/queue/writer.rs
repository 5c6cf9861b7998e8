//! The tasks that write: what requests order while one transaction runs goes into the next one.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Instant, sleep, sleep_until},
};

use super::{
    QueueError, Report, Shared, advance,
    book::{Book, Needs},
    work::Order,
};
use crate::JobId;

/// Orders in one transaction.
const MOST: usize = 256;
/// Pauses before a transaction that failed is tried again; after the last it is given up.
const PAUSES: [Duration; 3] = [
    Duration::from_millis(20),
    Duration::from_millis(100),
    Duration::from_millis(400),
];

/// The least time between two transactions that write progress.
const MIN_PAUSE: Duration = Duration::from_millis(250);
/// How often a transaction is repeated at once because others were in its way.
const MAX_CONFLICTS: u32 = 5;

/// Something for the writer.
#[derive(Debug)]
pub(super) enum Command {
    Do(Box<dyn Order>),
    /// An order that the reports of a job come before, and whether it ends the job.
    AfterReports(JobId, bool, Box<dyn Order>),
    /// Write what is left, and end.
    Close(oneshot::Sender<()>),
}

/// Executes orders until the queue is closed.
pub(super) async fn run(shared: Arc<Shared>, mut commands: mpsc::Receiver<Command>) {
    let mut waiting = Vec::with_capacity(MOST);
    while commands.recv_many(&mut waiting, MOST).await > 0 {
        let mut closed = None;
        let mut orders = Vec::with_capacity(waiting.len());
        let mut reports = Vec::new();
        let mut sort = |command, closed: &mut Option<_>| match command {
            Command::Do(order) => orders.push(order),
            Command::AfterReports(job, is_end, order) => {
                shared.reports.take_of(job, is_end, &mut reports);
                orders.push(order);
            }
            Command::Close(done) => *closed = Some(done),
        };
        for command in waiting.drain(..) {
            sort(command, &mut closed);
        }
        if closed.is_some() {
            commands.close();
            while let Some(command) = commands.recv().await {
                sort(command, &mut closed);
            }
        }
        write(&shared, orders, reports).await;
        if let Some(done) = closed {
            write_reports(&shared, true).await;
            let _ = done.send(());
            return;
        }
    }
    write_reports(&shared, true).await;
}

/// Writes progress until the queue is closed: in transactions of its own, so that grants and ends do
/// not wait for it.
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
            () = shared.reports.came.notified() => continue,
            _ = closing.changed() => return,
        }
        write_reports(&shared, false).await;
        // What becomes due meanwhile is written together.
        tokio::select! {
            () = sleep(MIN_PAUSE) => {}
            _ = closing.changed() => return,
        }
    }
}

/// Writes the reports that are due, or all.
async fn write_reports(shared: &Shared, everything: bool) {
    let mut reports = shared.reports.take(everything);
    while !reports.is_empty() {
        let rest = reports.split_off(reports.len().min(MOST));
        write(shared, Vec::new(), reports).await;
        reports = rest;
    }
}

/// Writes orders and reports in one transaction, or answers why not.
async fn write(shared: &Shared, mut orders: Vec<Box<dyn Order>>, reports: Vec<Report>) {
    let mut pauses = PAUSES.iter();
    let mut conflicts = 0;
    let error = loop {
        // Who has stopped waiting has answered its client that it failed.
        orders.retain(|order| order.is_waited_for());
        if orders.is_empty() && reports.is_empty() {
            return;
        }
        match attempt(shared, &mut orders, &reports).await {
            Ok(newest) => {
                shared.tally.batches.fetch_add(1, Ordering::Relaxed);
                let len = u64::try_from(orders.len()).unwrap_or(u64::MAX);
                shared.tally.orders.fetch_add(len, Ordering::Relaxed);
                orders.into_iter().for_each(|order| order.done());
                shared.saw(newest);
                return;
            }
            Err(error) if error.is_conflict() && conflicts < MAX_CONFLICTS => conflicts += 1,
            Err(error) if error.is_statement_error() => {
                return divide(shared, orders, reports, error).await;
            }
            Err(error) => match pauses.next() {
                Some(pause) => sleep(*pause).await,
                None => break error,
            },
        }
    };
    shared.tally.failures.fetch_add(1, Ordering::Relaxed);
    tracing::error!(%error, "the queue can't write");
    let error = Arc::new(error);
    for order in orders {
        order.failed(&error);
    }
    shared.reports.give_back(reports);
}

/// Writes the halves of a batch after an error that one of them causes; one alone gets the error. The
/// reports come first, as they come before the ends of their jobs.
async fn divide(
    shared: &Shared,
    mut orders: Vec<Box<dyn Order>>,
    mut reports: Vec<Report>,
    error: QueueError,
) {
    match (orders.len(), reports.len()) {
        (0 | 1, 0) => {
            shared.tally.failures.fetch_add(1, Ordering::Relaxed);
            tracing::error!(%error, order = ?orders.first(), "the database refused an order of the queue");
            let error = Arc::new(error);
            for order in orders {
                order.failed(&error);
            }
        }
        (0, 1) => {
            shared.tally.dropped_reports.fetch_add(1, Ordering::Relaxed);
            let job = reports.first().map(|report| report.job.0);
            tracing::error!(%error, job, "dropped a report of progress that the database refused");
        }
        (_, 0) => {
            let rest = orders.split_off(orders.len() / 2);
            Box::pin(write(shared, orders, Vec::new())).await;
            Box::pin(write(shared, rest, Vec::new())).await;
        }
        (0, _) => {
            let rest = reports.split_off(reports.len() / 2);
            Box::pin(write(shared, Vec::new(), reports)).await;
            Box::pin(write(shared, Vec::new(), rest)).await;
        }
        _ => {
            Box::pin(write(shared, Vec::new(), reports)).await;
            Box::pin(write(shared, orders, Vec::new())).await;
        }
    }
}

async fn attempt(
    shared: &Shared,
    orders: &mut [Box<dyn Order>],
    reports: &[Report],
) -> Result<i64, QueueError> {
    let mut needs = Needs::default();
    advance::needs(reports, &mut needs);
    for order in orders.iter() {
        order.needs(&mut needs);
    }
    let mut transaction = shared.database.write().await?;
    let mut book = Book::new(shared);
    book.load(&mut transaction, &needs).await?;
    book.advance(reports);
    for order in orders.iter_mut() {
        order.apply(&mut book);
    }
    book.save(&mut transaction).await?;
    transaction.commit().await?;
    let advanced = reports
        .iter()
        .filter_map(|report| book.record(report.job.0));
    shared.reports.written(advanced.map(|record| &record.job));
    if let Some(outbox) = &shared.settings.outbox
        && !book.events.is_empty()
    {
        outbox.notify_pending();
    }
    Ok(book.events.last().map_or(0, |event| event.number))
}
