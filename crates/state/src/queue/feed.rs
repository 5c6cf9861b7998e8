//! The live event feed. One task reads events for all readers, and an event wakes only the readers
//! of its subject.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use tokio::{
    sync::{broadcast, watch},
    time::{MissedTickBehavior, interval, sleep},
};

use super::{
    Job, JobEvent, JobEventKind, JobState, Queue, QueueError, Scope,
    event_channels::{Phase, SharedEvent, Subscription},
    numbers::{self, Sequence},
    read,
    shared::Shared,
};
use crate::sql::{Statement, parts};

const PAGE: usize = 200;
/// The first page of a reader, before the size of its events is known.
const FIRST_PAGE: usize = 16;
/// Of a reader, as JSON, for the events that it has read and not returned: it may be stalled, and there may be
/// thousands.
const MAX_KEPT: usize = 16 * 1024;
const PROGRESS_INTERVAL: Duration = Duration::from_millis(500);
const MAX_BACKOFF: Duration = Duration::from_secs(10);
/// While events of this node are committed and not read, perhaps because of another node's transaction.
const LAG_INTERVAL: Duration = Duration::from_millis(20);
/// For events of other processes.
const POLL_INTERVAL: Duration = Duration::from_millis(250);

/// Reads the events of a scope: stored events after a number, then new ones, and progress.
///
/// It returns every stored event once, in the order of their numbers. A slow reader receives only the latest progress.
#[derive(Debug)]
pub struct EventReader {
    queue: Queue,
    subscription: Subscription,
    cursor: i64,
    is_behind: bool,
    page: usize,
    read: VecDeque<Arc<SharedEvent>>,
}

impl EventReader {
    pub(super) fn new(queue: Queue, scope: Scope, after: i64) -> Self {
        let subscription = queue.0.shared.feed.subscribe(scope);
        Self {
            queue,
            subscription,
            cursor: after,
            is_behind: true,
            page: FIRST_PAGE,
            read: VecDeque::new(),
        }
    }

    /// Waits for the next event.
    ///
    /// # Errors
    /// The database failed or timed out, or the queue is closed.
    ///
    /// # Cancel safety
    /// No event is lost if it is dropped.
    pub async fn next(&mut self) -> Result<Arc<SharedEvent>, QueueError> {
        loop {
            if let Some(event) = self.read.pop_front() {
                return Ok(event);
            }
            let phase = *self.subscription.phase.borrow_and_update();
            if phase == Phase::Closed {
                return Err(QueueError::Closed);
            }
            if self.is_behind && phase == Phase::Live {
                self.catch_up().await?;
                continue;
            }
            let is_live = !self.is_behind;
            tokio::select! {
                changed = self.subscription.phase.changed() => {
                    changed.map_err(|_| QueueError::Closed)?;
                }
                event = self.subscription.events.recv(), if is_live => match event {
                    Ok(event) if event.event.number > self.cursor => {
                        self.cursor = event.event.number;
                        return Ok(event);
                    }
                    Ok(_) => {}
                    Err(broadcast::error::RecvError::Lagged(_)) => self.is_behind = true,
                    Err(broadcast::error::RecvError::Closed) => return Err(QueueError::Closed),
                },
            }
        }
    }

    async fn catch_up(&mut self) -> Result<(), QueueError> {
        let queue = &self.queue;
        let reading = queue.0.shared.feed.reading.acquire().await;
        let _permit = reading.map_err(|_| QueueError::Closed)?;
        let scope = &self.subscription.scope;
        let events = queue.events(scope, self.cursor, self.page).await?;
        self.is_behind = events.len() == self.page;
        let (mut kept, mut count) = (0, 0);
        for event in events {
            if kept >= MAX_KEPT {
                self.is_behind = true;
                break;
            }
            kept += serde_json::to_string(&event.job).map_or(0, |json| json.len());
            count += 1;
            let progress = last_progress(&event).filter(|last| last.number > self.cursor);
            self.cursor = event.number;
            let both = progress.into_iter().chain([event]);
            self.read.extend(both.map(SharedEvent::new));
        }
        // The next events are probably as large.
        self.page = (count * MAX_KEPT)
            .checked_div(kept)
            .map_or(self.page, |page| page.clamp(1, PAGE));
        Ok(())
    }
}

pub(super) async fn run(shared: Arc<Shared>, mut closing: watch::Receiver<bool>) {
    let feed = &shared.feed;
    let send = async {
        loop {
            while feed.idle_without_readers() {
                feed.wake.notified().await;
            }
            serve(&shared).await;
        }
    };
    tokio::select! {
        () = send => {}
        _ = closing.changed() => {}
    }
    feed.phase.send_replace(Phase::Closed);
}

async fn serve(shared: &Shared) {
    let feed = &shared.feed;
    // Subscribe before reading, so that no change is missed.
    let mut committed = shared.newest.subscribe();
    let mut delay = Duration::ZERO;
    // The last event that was sent. Readers read older events themselves.
    let mut cursor = loop {
        match newest_number(shared).await {
            Ok(number) => break number,
            Err(error) => back_off(&mut delay, &error).await,
        }
        if feed.idle_without_readers() {
            return;
        }
    };
    feed.phase.send_replace(Phase::Live);
    let [mut poll, mut tick] = [POLL_INTERVAL, PROGRESS_INTERVAL].map(interval);
    poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // Listing the locks of a server has a price: under load, one read finds the events of several commits.
    let gathers = shared.database.is_postgres();
    let mut progress: VecDeque<JobEvent> = VecDeque::new();
    // Events up to this number were read.
    let mut visible = cursor;
    loop {
        let progress_until = progress.back().map_or(0, |last| last.number);
        let lags = visible < progress_until.max(*committed.borrow());
        tokio::select! {
            changed = committed.changed(), if !(lags && gathers) => if changed.is_err() {
                return;
            },
            _ = poll.tick() => {}
            () = sleep(LAG_INTERVAL), if lags => {}
            _ = tick.tick() => {
                if feed.idle_without_readers() {
                    return;
                }
                if progress.is_empty() {
                    match running(shared).await {
                        Ok(events) => progress = events,
                        Err(error) => back_off(&mut delay, &error).await,
                    }
                }
            }
        }
        let horizon = match numbers::horizon(shared).await {
            Ok(horizon) => horizon,
            Err(error) => {
                back_off(&mut delay, &error).await;
                progress.clear();
                continue;
            }
        };
        delay = Duration::ZERO;
        while visible < horizon {
            let Some(events) = page(shared, cursor, horizon, &mut delay).await else {
                return;
            };
            if events.len() < PAGE {
                visible = horizon;
            }
            for event in events {
                cursor = cursor.max(event.number);
                send_stored(shared, event, &mut progress);
            }
        }
        while let Some(event) = progress.pop_front_if(|first| first.number <= visible) {
            cursor = cursor.max(event.number);
            send_progress(shared, event);
        }
    }
}

async fn page(
    shared: &Shared,
    cursor: i64,
    until: i64,
    delay: &mut Duration,
) -> Option<Vec<JobEvent>> {
    while !shared.feed.idle_without_readers() {
        match read::events(shared, &Scope::All, cursor, until, PAGE).await {
            Ok(events) => {
                *delay = Duration::ZERO;
                return Some(events);
            }
            Err(error) => back_off(delay, &error).await,
        }
    }
    None
}

/// Sends progress with lower numbers first. The rest of `progress` has higher numbers, and no ended jobs.
fn send_stored(shared: &Shared, event: JobEvent, progress: &mut VecDeque<JobEvent>) {
    while let Some(earlier) = progress.pop_front_if(|first| first.number < event.number) {
        send_progress(shared, earlier);
    }
    if event.job.state.is_terminal() {
        progress.retain(|one| one.job.id != event.job.id);
        let published = shared.reports.end(event.job.id);
        let last = last_progress(&event).filter(|_| published < event.job.offset);
        last.into_iter().for_each(|last| shared.feed.send(last));
    }
    shared.feed.send(event);
}

fn send_progress(shared: &Shared, event: JobEvent) {
    let (job, offset) = (event.job.id, event.job.offset);
    shared.feed.send(event);
    shared.reports.set_published(job, offset);
}

/// The number before the completion is reserved for the final progress.
fn last_progress(completed: &JobEvent) -> Option<JobEvent> {
    if completed.job.state != JobState::Completed || completed.job.offset == 0 {
        return None;
    }
    let mut event = completed.clone();
    event.number -= 1;
    event.kind = JobEventKind::UploadProgress;
    event.job.state = JobState::Progress;
    event.job.ended_at = None;
    Some(event)
}

/// Each progress gets an event number, so that a client resumes after it; it is not stored.
async fn running(shared: &Shared) -> Result<VecDeque<JobEvent>, QueueError> {
    let jobs = changed(shared).await?;
    if jobs.is_empty() {
        return Ok(VecDeque::new());
    }
    let mut transaction = shared.database.write().await?;
    let numbers = numbers::take(&mut transaction, Sequence::Events, jobs.len()).await?;
    transaction.commit().await?;
    let at = shared.settings.clock.now();
    let events = numbers.into_iter().zip(jobs).map(|(number, job)| JobEvent {
        number,
        kind: JobEventKind::UploadProgress,
        at,
        job,
    });
    Ok(events.collect())
}

async fn changed(shared: &Shared) -> Result<Vec<Job>, QueueError> {
    let has_readers = |subject: Option<&str>| shared.feed.has_readers(subject);
    let mut jobs = Vec::new();
    for part in parts(&shared.reports.changed(has_readers)) {
        let records = read::records(shared, read::by_numbers(part)).await?;
        let read = records.into_iter().map(|record| record.job);
        jobs.extend(
            read.filter(|job| shared.reports.set_read(job) && has_readers(job.subject.as_deref())),
        );
    }
    Ok(jobs)
}

async fn back_off(delay: &mut Duration, error: &QueueError) {
    tracing::warn!(%error, "failed to read new events");
    *delay = (*delay * 2 + Duration::from_millis(250)).min(MAX_BACKOFF);
    sleep(*delay).await;
}

pub(super) async fn newest_number(shared: &Shared) -> Result<i64, QueueError> {
    let until = numbers::horizon(shared).await?;
    let rows = shared.database.read(newest_event(until)).await?;
    Ok(rows.first().map_or(Ok(0), |row| row.number("newest"))?)
}

pub(super) fn newest_event(until: i64) -> Statement {
    Statement::new("SELECT COALESCE(MAX(number), 0) AS newest FROM queue_events WHERE number <= $1")
        .with(until)
}
