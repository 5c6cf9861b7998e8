//! Events as they come: one task reads them for all readers, and each event wakes only the readers of
//! its subject.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    sync::{Notify, Semaphore, broadcast, watch},
    time::{MissedTickBehavior, interval, sleep},
};

use super::{
    Queue, QueueError, Scope, Shared,
    numbers::{self, Sequence},
    read, watch as newest_event,
};
use crate::{
    Job, JobState,
    job::{JobEvent, JobEventKind},
};

/// How many events are read at a time.
const PAGE: usize = 200;
/// Readers that read older events at a time.
const MAX_READING: usize = 4;
/// How many events wait for a slow reader; one that is slower reads them from the database.
const BACKLOG: usize = 64;
/// The same for readers of all subjects.
const BACKLOG_OF_ALL: usize = 512;
/// How often readers receive progress.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(500);
/// The longest pause after a failure.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// An event that many readers share.
#[derive(Debug)]
pub struct SharedEvent {
    /// The event.
    pub event: JobEvent,
    /// Its encodings, made once for all readers.
    pub(crate) encoded: [OnceLock<Bytes>; 4],
}

impl SharedEvent {
    fn new(event: JobEvent) -> Arc<Self> {
        Arc::new(Self {
            event,
            encoded: Default::default(),
        })
    }
}

/// Reads the events of a scope: the stored ones after a number, then new ones as they come, with the
/// progress of uploads. It misses no stored event and returns none twice; a slow reader receives only
/// the newest progress.
#[derive(Debug)]
pub struct EventReader {
    queue: Queue,
    subscription: Subscription,
    /// The number of the last event that was returned or passed over.
    cursor: i64,
    /// Whether older events than those of the subscription must be read first.
    is_behind: bool,
    /// Older events that were read.
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
            read: VecDeque::new(),
        }
    }

    /// Returns the next event, once there is one.
    ///
    /// # Errors
    /// The database failed or is slow, or the queue is closed.
    ///
    /// # Cancel safety
    /// Dropped, no event is lost.
    pub async fn next(&mut self) -> Result<Arc<SharedEvent>, QueueError> {
        loop {
            if let Some(event) = self.read.pop_front() {
                return Ok(event);
            }
            let phase = *self.subscription.phase.borrow_and_update();
            if phase == Phase::Over {
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
        let events = queue.events(scope, self.cursor, PAGE).await?;
        self.is_behind = events.len() == PAGE;
        for event in events {
            let progress = last_progress(&event).filter(|last| last.number > self.cursor);
            self.cursor = event.number;
            let both = progress.into_iter().chain([event]);
            self.read.extend(both.map(SharedEvent::new));
        }
        Ok(())
    }
}

/// Whether the task sends events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// There are no readers, or it is not ready yet.
    Idle,
    /// Readers receive all events that can be read from now on.
    Live,
    /// The queue is closed.
    Over,
}

type Channel = broadcast::Sender<Arc<SharedEvent>>;

/// The channels that have readers.
#[derive(Debug, Default)]
struct Channels {
    all: Option<Channel>,
    subjects: HashMap<String, Channel>,
}

impl Channels {
    fn subscribe(&mut self, scope: &Scope) -> broadcast::Receiver<Arc<SharedEvent>> {
        let channel = match scope {
            Scope::All => &mut self.all,
            Scope::Subject(subject) => {
                return match self.subjects.get(subject) {
                    Some(channel) => channel.subscribe(),
                    None => {
                        let (channel, events) = broadcast::channel(BACKLOG);
                        self.subjects.insert(subject.clone(), channel);
                        events
                    }
                };
            }
        };
        let channel = channel.get_or_insert_with(|| broadcast::Sender::new(BACKLOG_OF_ALL));
        channel.subscribe()
    }

    /// Removes the channel of a reader that leaves, if it is the last one.
    fn leave(&mut self, scope: &Scope) {
        let is_last = |channel: &Channel| channel.receiver_count() <= 1;
        match scope {
            Scope::All => self.all = self.all.take().filter(|channel| !is_last(channel)),
            Scope::Subject(subject) => {
                if self.subjects.get(subject).is_some_and(is_last) {
                    self.subjects.remove(subject);
                }
            }
        }
    }

    /// Those that receive the events of a subject.
    fn of(&self, subject: Option<&str>) -> impl Iterator<Item = &Channel> {
        let own = subject.and_then(|subject| self.subjects.get(subject));
        own.into_iter().chain(&self.all)
    }

    fn is_empty(&self) -> bool {
        self.all.is_none() && self.subjects.is_empty()
    }
}

/// Events for all readers.
#[derive(Debug)]
pub(super) struct Feed {
    /// Locked while a reader subscribes, and while the task checks whether there are any.
    channels: Arc<Mutex<Channels>>,
    phase: watch::Sender<Phase>,
    wake: Notify,
    reading: Semaphore,
}

/// A reader's part of the feed.
#[derive(Debug)]
struct Subscription {
    events: broadcast::Receiver<Arc<SharedEvent>>,
    /// The events are complete as soon as this is [`Phase::Live`].
    phase: watch::Receiver<Phase>,
    scope: Scope,
    channels: Arc<Mutex<Channels>>,
}

impl Drop for Subscription {
    fn drop(&mut self) {
        lock(&self.channels).leave(&self.scope);
    }
}

fn lock(channels: &Mutex<Channels>) -> MutexGuard<'_, Channels> {
    channels.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Feed {
    pub(super) fn new() -> Self {
        Self {
            channels: Arc::default(),
            phase: watch::Sender::new(Phase::Idle),
            wake: Notify::new(),
            reading: Semaphore::new(MAX_READING),
        }
    }

    fn subscribe(&self, scope: Scope) -> Subscription {
        let events = lock(&self.channels).subscribe(&scope);
        self.wake.notify_one();
        Subscription {
            events,
            phase: self.phase.subscribe(),
            scope,
            channels: self.channels.clone(),
        }
    }

    /// Rests if there are no readers; one that subscribes from then on finds it idle and waits.
    fn rests(&self) -> bool {
        let channels = lock(&self.channels);
        let rests = channels.is_empty();
        if rests {
            self.phase.send_replace(Phase::Idle);
        }
        rests
    }

    /// The scopes that have readers.
    #[cfg(feature = "postgres")]
    pub(super) fn scopes(&self) -> Vec<Scope> {
        let channels = lock(&self.channels);
        let subjects = channels.subjects.keys().cloned().map(Scope::Subject);
        subjects
            .chain(channels.all.iter().map(|_| Scope::All))
            .collect()
    }

    fn has_readers(&self, subject: Option<&str>) -> bool {
        lock(&self.channels).of(subject).next().is_some()
    }

    /// Sends an event to its readers.
    fn send(&self, event: JobEvent) {
        let event = SharedEvent::new(event);
        for channel in lock(&self.channels).of(event.event.job.subject.as_deref()) {
            // Fails if its last reader has just left.
            let _ = channel.send(event.clone());
        }
    }
}

/// Sends events until the queue is closed.
pub(super) async fn run(shared: Arc<Shared>, mut closing: watch::Receiver<bool>) {
    let feed = &shared.feed;
    let send = async {
        loop {
            while feed.rests() {
                feed.wake.notified().await;
            }
            serve(&shared).await;
        }
    };
    tokio::select! {
        () = send => {}
        _ = closing.changed() => {}
    }
    feed.phase.send_replace(Phase::Over);
}

/// Sends events until there are no readers.
async fn serve(shared: &Shared) {
    let feed = &shared.feed;
    // Watched before it is read, so that no change in between is missed.
    let mut newest = shared.newest.subscribe();
    shared.watched.notify_one();
    let mut pause = Duration::ZERO;
    // Older events are read by the readers that want them.
    let mut cursor = loop {
        match newest_event::newest(shared).await {
            Ok(number) => break number,
            Err(error) => wait(&mut pause, &error).await,
        }
        if feed.rests() {
            return;
        }
    };
    feed.phase.send_replace(Phase::Live);
    let mut tick = interval(PROGRESS_INTERVAL);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let mut progress = VecDeque::new();
        tokio::select! {
            changed = newest.changed() => if changed.is_err() {
                return;
            },
            _ = tick.tick() => {
                if feed.rests() {
                    return;
                }
                match running(shared).await {
                    Ok(events) => progress = events,
                    Err(error) => wait(&mut pause, &error).await,
                }
            }
        }
        // All events before the progress can be read by now.
        let newest = *newest.borrow_and_update();
        let last = progress
            .front()
            .map_or(newest, |first: &JobEvent| newest.max(first.number - 1));
        while cursor < last {
            let Some(events) = page(shared, cursor, &mut pause).await else {
                return;
            };
            let is_last = events.len() < PAGE;
            for event in events {
                cursor = cursor.max(event.number);
                send_stored(shared, event, &mut progress);
            }
            if is_last {
                break;
            }
        }
        for event in progress {
            cursor = cursor.max(event.number);
            send_progress(shared, event);
        }
    }
}

/// Reads the events after a number. Returns `None` without readers.
async fn page(shared: &Shared, cursor: i64, pause: &mut Duration) -> Option<Vec<JobEvent>> {
    while !shared.feed.rests() {
        match read::events(shared, &Scope::All, cursor, PAGE).await {
            Ok(events) => {
                *pause = Duration::ZERO;
                return Some(events);
            }
            Err(error) => wait(pause, &error).await,
        }
    }
    None
}

/// Sends a stored event, and before it the progress with lower numbers; what is left is of later
/// numbers and of jobs that have not ended.
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

/// The progress to the end of a completed job. It has the number before that of the completion, which
/// is kept free for it.
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

/// Progress that its readers have not received. A number is taken for each, so that a client continues
/// after it; no row is written.
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

/// Running jobs of this node with progress that their readers have not received.
async fn changed(shared: &Shared) -> Result<Vec<Job>, QueueError> {
    let changed = shared
        .reports
        .changed(|subject| shared.feed.has_readers(subject));
    let unread: Vec<_> = changed.unread.iter().map(|id| id.0).collect();
    for part in landfall_database::parts(&unread) {
        for record in read::records(shared, read::by_numbers(part)).await? {
            shared.reports.set_job(record.job);
        }
    }
    Ok(changed.jobs)
}

/// Waits after a failure, for longer each time.
async fn wait(pause: &mut Duration, error: &QueueError) {
    tracing::warn!(%error, "new events of the queue cannot be read");
    *pause = (*pause * 2 + Duration::from_millis(250)).min(LONGEST_PAUSE);
    sleep(*pause).await;
}
