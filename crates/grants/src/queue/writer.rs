//! The one task that writes: what requests want meanwhile goes into one transaction.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use landfall_database::{DatabaseError, Statement, Transaction};
use tokio::{
    sync::{mpsc, oneshot},
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

/// Something for the writer.
#[derive(Debug)]
pub(super) enum Command {
    Do(Box<dyn Order>),
    /// Something that ends a job, so that what was reported of it is to be written before.
    End(JobId, Box<dyn Order>),
    /// Write what is left, and end.
    Close(oneshot::Sender<()>),
}

/// Writes until it is told to close, or nobody is left to tell it anything.
pub(super) async fn run(shared: Arc<Shared>, mut commands: mpsc::Receiver<Command>) {
    let mut waiting = Vec::with_capacity(MOST);
    loop {
        let next = shared.reports.next();
        let due = async {
            match next {
                Some(next) => sleep_until(Instant::from_std(next)).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            taken = commands.recv_many(&mut waiting, MOST) => if taken == 0 {
                break;
            },
            () = due => {}
            () = shared.reports.came.notified() => {}
        }
        let mut closed = None;
        let mut orders = Vec::with_capacity(waiting.len());
        let mut reports = shared.reports.take(false);
        let mut sort = |command, closed: &mut Option<_>, reports: &mut Vec<Report>| match command {
            Command::Do(order) => orders.push(order),
            Command::End(job, order) => {
                shared.reports.take_of(job, reports);
                orders.push(order);
            }
            Command::Close(done) => *closed = Some(done),
        };
        for command in waiting.drain(..) {
            sort(command, &mut closed, &mut reports);
        }
        if closed.is_some() {
            commands.close();
            while let Some(command) = commands.recv().await {
                sort(command, &mut closed, &mut reports);
            }
            reports.extend(shared.reports.take(true));
        }
        keep(&shared, orders, reports).await;
        if let Some(done) = closed {
            let _ = done.send(());
            return;
        }
    }
    keep(&shared, Vec::new(), shared.reports.take(true)).await;
}

/// Writes them, or says that it can't be done.
async fn keep(shared: &Shared, mut orders: Vec<Box<dyn Order>>, reports: Vec<Report>) {
    let mut pauses = PAUSES.iter();
    let error = loop {
        // Those who have lost patience have told their clients that nothing came of it.
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
            Err(error) if error.is_of_statement() => {
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
            Box::pin(keep(shared, orders, Vec::new())).await;
            Box::pin(keep(shared, rest, Vec::new())).await;
        }
        (0, _) => {
            let rest = reports.split_off(reports.len() / 2);
            Box::pin(keep(shared, Vec::new(), reports)).await;
            Box::pin(keep(shared, Vec::new(), rest)).await;
        }
        _ => {
            Box::pin(keep(shared, Vec::new(), reports)).await;
            Box::pin(keep(shared, orders, Vec::new())).await;
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
    let mut transaction = begin(shared).await?;
    let mut book = Book::new(shared);
    book.load(&mut transaction, &needs).await?;
    book.advance(reports);
    for order in orders.iter_mut() {
        order.apply(&mut book);
    }
    book.save(&mut transaction).await?;
    transaction.commit().await?;
    if let Some(outbox) = &shared.settings.outbox
        && !book.events.is_empty()
    {
        outbox.notify_pending();
    }
    Ok(book.last.events)
}

/// Begins a transaction that writes when those of others, also of other processes, have ended.
pub(super) async fn begin(shared: &Shared) -> Result<Transaction, DatabaseError> {
    let mut transaction = shared.database.write().await?;
    if shared.database.is_postgres() {
        let lock = Statement::new("SELECT pg_advisory_xact_lock(7002461339)");
        transaction.execute(lock).await?;
    }
    Ok(transaction)
}
