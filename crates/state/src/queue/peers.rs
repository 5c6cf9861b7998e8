//! Progress between nodes on one PostgreSQL, with `NOTIFY`.
//!
//! A node announces that it has readers, and other nodes then send the progress of their uploads. Lost
//! notifications are compensated when progress is written to the jobs.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    sync::watch,
    time::{MissedTickBehavior, interval, sleep},
};

use super::{JobId, QueueError, shared::Shared};
use crate::sql::{Listener, Statement};

const CHANNEL: &str = "landfall_queue_progress";
const SEND_INTERVAL: Duration = Duration::from_secs(1);
/// The first reader is announced at once.
const ANNOUNCE_INTERVAL: Duration = Duration::from_secs(10);
/// After the last announcement of another node.
const SEND_FOR: Duration = Duration::from_secs(30);
const RECONNECT_DELAY: Duration = Duration::from_secs(2);
/// In bytes; PostgreSQL accepts less than 8000.
const MAX_PAYLOAD: usize = 7500;
/// Per interval, to limit the load on the database. The rest is sent in the next interval, or seen when
/// it is written.
const MAX_NOTIFICATIONS: usize = 16;

pub(super) async fn run(shared: Arc<Shared>, mut closing: watch::Receiver<bool>) {
    let node = format!("{:016x}", rand::random::<u64>());
    tokio::select! {
        () = receive(&shared, &node) => {}
        () = send(&shared, &node) => {}
        _ = closing.changed() => {}
    }
}

async fn receive(shared: &Shared, node: &str) {
    loop {
        let lost: Result<(), _> = async {
            let mut listener: Listener = shared.database.listener().await?;
            listener.listen(CHANNEL).await?;
            loop {
                apply(shared, node, &listener.receive().await?);
            }
        }
        .await;
        if let Err::<(), crate::sql::DatabaseError>(error) = lost {
            tracing::debug!(%error, "failed to receive progress from other nodes");
        }
        sleep(RECONNECT_DELAY).await;
    }
}

/// `readers NODE *` and `progress NODE JOB:OFFSET:RATE …`.
fn apply(shared: &Shared, node: &str, payload: &str) {
    let mut fields = payload.splitn(3, ' ');
    let (Some(kind), Some(sender), Some(rest)) = (fields.next(), fields.next(), fields.next())
    else {
        return;
    };
    if sender == node {
        return;
    }
    match kind {
        "readers" => *shared.peers_read_at.lock() = Some(Instant::now()),
        "progress" => {
            let progress = rest.split_whitespace().filter_map(|entry| {
                let mut numbers = entry.splitn(3, ':').map(str::parse::<u64>);
                let job = i64::try_from(numbers.next()?.ok()?).ok()?;
                Some((JobId(job), numbers.next()?.ok()?, numbers.next()?.ok()?))
            });
            shared.reports.set_remote(progress);
        }
        _ => {}
    }
}

async fn send(shared: &Shared, node: &str) {
    let mut tick = interval(SEND_INTERVAL);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut announced: Option<Instant> = None;
    loop {
        tick.tick().await;
        let mut payloads = Vec::new();
        announced = announced.filter(|at| at.elapsed() < ANNOUNCE_INTERVAL);
        if !shared.feed.has_any_readers() {
            announced = None;
        } else if announced.is_none() {
            payloads.push(format!("readers {node} *"));
        }
        let is_announcement = !payloads.is_empty();
        let mut progress = Vec::new();
        if (*shared.peers_read_at.lock()).is_some_and(|at| at.elapsed() < SEND_FOR) {
            progress = shared.reports.unsent();
            let count = add_progress(node, &progress, &mut payloads);
            progress.truncate(count);
        }
        match notify(shared, payloads).await {
            Ok(()) => {
                shared.reports.set_sent(&progress);
                if is_announcement {
                    announced = Some(Instant::now());
                }
            }
            Err(error) => tracing::debug!(%error, "failed to send progress to other nodes"),
        }
    }
}

/// Returns the number of entries that fit.
fn add_progress(node: &str, progress: &[(JobId, u64, u64)], payloads: &mut Vec<String>) -> usize {
    let begin = || format!("progress {node}");
    let mut payload = begin();
    let mut added = 0;
    for (index, (job, offset, rate)) in progress.iter().enumerate() {
        let entry = format!(" {}:{offset}:{rate}", job.0);
        if payload.len() + entry.len() > MAX_PAYLOAD {
            payloads.push(std::mem::replace(&mut payload, begin()));
            added = index;
            if payloads.len() >= MAX_NOTIFICATIONS {
                return added;
            }
        }
        payload.push_str(&entry);
    }
    if added < progress.len() {
        payloads.push(payload);
    }
    progress.len()
}

async fn notify(shared: &Shared, payloads: Vec<String>) -> Result<(), QueueError> {
    if payloads.is_empty() {
        return Ok(());
    }
    let notify = "SELECT CAST(pg_notify(v.column1, v.column2) AS TEXT) FROM";
    let rows = payloads
        .into_iter()
        .map(|payload| [CHANNEL.into(), payload.into()]);
    let statement = Statement::from_rows(notify, rows, ["TEXT", "TEXT"], "");
    shared.database.read(statement).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_has_a_limit_and_the_rest_stays_unsent() {
        let progress: Vec<_> = (0..100_000).map(|job| (JobId(job), 1 << 40, 9)).collect();
        let mut payloads = vec!["readers 1 *".to_owned()];
        let count = add_progress("1", &progress, &mut payloads);
        assert_eq!(payloads.len(), MAX_NOTIFICATIONS);
        assert!(payloads.iter().all(|payload| payload.len() <= MAX_PAYLOAD));
        let entries = payloads
            .iter()
            .flat_map(|payload| payload.split(' ').skip(2));
        assert_eq!(entries.count() - 1, count);
        assert!(count < progress.len());

        let mut payloads = Vec::new();
        assert_eq!(add_progress("1", &progress[..7], &mut payloads), 7);
        assert_eq!(payloads.len(), 1);
        assert_eq!(add_progress("1", &[], &mut payloads), 0);
        assert_eq!(payloads.len(), 1);
    }
}
