//! One reader of events for all listeners: each event wakes only the listeners of its subject.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{Notify, broadcast, watch},
    task::JoinHandle,
    time::{MissedTickBehavior, interval},
};

use super::{super::Style, frame::EventFrame};
use crate::{
    Job, Queue,
    job::{JobEvent, JobEventKind},
    queue::{QueueError, Scope},
};

/// How many events are read at a time.
const PAGE: usize = 200;
/// How many events wait for a slow listener; one that is slower reads them from the database.
const BACKLOG: usize = 64;
/// The same for listeners of all subjects.
const BACKLOG_OF_ALL: usize = 512;
/// How often listeners receive progress.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(500);
/// The longest pause after a failure.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// Whether the reader is at work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// There are no listeners, or it is not ready yet.
    Idle,
    /// Listeners receive all events that can be read from now on.
    Live,
    /// The queue is closed.
    Over,
}

/// Events for all listeners. Its task ends when it is dropped.
#[derive(Debug)]
pub(in super::super) struct Feed {
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    /// Also locked while a listener subscribes, and while the reader checks whether there are any.
    channels: Mutex<HashMap<Scope, broadcast::Sender<Arc<EventFrame>>>>,
    phase: watch::Sender<Phase>,
    wake: Notify,
}

/// A listener's part of the feed.
#[derive(Debug)]
pub(super) struct Subscription {
    pub(super) events: broadcast::Receiver<Arc<EventFrame>>,
    /// The events are complete as soon as this is [`Phase::Live`].
    pub(super) phase: watch::Receiver<Phase>,
    scope: Scope,
    shared: Arc<Shared>,
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let mut channels = self.shared.channels();
        let channel = channels.get(&self.scope);
        if channel.is_some_and(|channel| channel.receiver_count() <= 1) {
            channels.remove(&self.scope);
        }
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Feed {
    /// Begins to wait for listeners.
    pub(in super::super) fn start(queue: Queue, style: Style) -> Self {
        let shared = Arc::new(Shared {
            channels: Mutex::default(),
            phase: watch::Sender::new(Phase::Idle),
            wake: Notify::new(),
        });
        let task = tokio::spawn(run(shared.clone(), queue, style));
        Self { shared, task }
    }

    /// Subscribes to the events of a scope.
    pub(super) fn subscribe(&self, scope: Scope) -> Subscription {
        let shared = self.shared.clone();
        let backlog = match scope {
            Scope::All => BACKLOG_OF_ALL,
            Scope::Subject(_) => BACKLOG,
        };
        let events = shared
            .channels()
            .entry(scope.clone())
            .or_insert_with(|| broadcast::Sender::new(backlog))
            .subscribe();
        shared.wake.notify_one();
        Subscription {
            events,
            phase: shared.phase.subscribe(),
            scope,
            shared,
        }
    }
}

impl Shared {
    fn channels(&self) -> MutexGuard<'_, HashMap<Scope, broadcast::Sender<Arc<EventFrame>>>> {
        self.channels.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Rests if there are no listeners; one that subscribes from then on finds it idle and waits.
    fn rests(&self) -> bool {
        let channels = self.channels();
        let rests = channels.is_empty();
        if rests {
            self.phase.send_replace(Phase::Idle);
        }
        rests
    }

    fn has_listeners(&self, subject: Option<&str>) -> bool {
        let channels = self.channels();
        let own = subject.map(|subject| Scope::Subject(subject.to_owned()));
        channels.contains_key(&Scope::All) || own.is_some_and(|own| channels.contains_key(&own))
    }

    /// Sends an event to those who listen to it.
    fn send(&self, frame: EventFrame) {
        let frame = Arc::new(frame);
        let own = frame
            .subject()
            .map(|subject| Scope::Subject(subject.to_owned()));
        let channels = self.channels();
        for scope in own.iter().chain([&Scope::All]) {
            if let Some(channel) = channels.get(scope) {
                // Fails if its last listener has just gone.
                let _ = channel.send(frame.clone());
            }
        }
    }
}

async fn run(shared: Arc<Shared>, queue: Queue, style: Style) {
    loop {
        while shared.rests() {
            shared.wake.notified().await;
        }
        if !serve(&shared, &queue, style).await {
            shared.phase.send_replace(Phase::Over);
            return;
        }
    }
}

/// Sends events until there are no listeners; returns false when the queue is closed.
async fn serve(shared: &Shared, queue: &Queue, style: Style) -> bool {
    // Watched before it is read, so that no change in between is missed.
    let mut newest = queue.newest();
    let mut pause = Duration::ZERO;
    // Older events are read by the listeners that want them.
    let mut cursor = loop {
        match queue.newest_now().await {
            Ok(number) => break number,
            Err(QueueError::Closed) => return false,
            Err(error) => wait(&mut pause, &error).await,
        }
        if shared.rests() {
            return true;
        }
    };
    shared.phase.send_replace(Phase::Live);
    let mut tick = interval(PROGRESS_INTERVAL);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let mut progress = Vec::new();
        tokio::select! {
            changed = newest.changed() => if changed.is_err() {
                return false;
            },
            _ = tick.tick() => {
                if shared.rests() {
                    return true;
                }
                match queue.progress(|subject| shared.has_listeners(subject)).await {
                    Ok(jobs) => progress = jobs,
                    Err(QueueError::Closed) => return false,
                    Err(error) => wait(&mut pause, &error).await,
                }
            }
        }
        // What happened before the progress comes before it.
        let last = *newest.borrow_and_update();
        while cursor < last {
            match queue.events(&Scope::All, cursor, PAGE).await {
                Ok(events) => {
                    pause = Duration::ZERO;
                    let is_last = events.len() < PAGE;
                    for event in events {
                        cursor = cursor.max(event.number);
                        if event.job.state.is_terminal() {
                            queue.end_progress(event.job.id);
                            progress.retain(|job| job.id != event.job.id);
                        }
                        shared.send(EventFrame::new(event, style));
                    }
                    if is_last {
                        break;
                    }
                }
                Err(QueueError::Closed) => return false,
                Err(error) => wait(&mut pause, &error).await,
            }
            if shared.rests() {
                return true;
            }
        }
        for job in progress {
            shared.send(EventFrame::new(progress_event(job, cursor, queue), style));
        }
    }
}

/// Progress comes after the event with that number, and has none of its own.
fn progress_event(job: Job, number: i64, queue: &Queue) -> JobEvent {
    JobEvent {
        number,
        kind: JobEventKind::UploadProgress,
        at: queue.now(),
        job,
    }
}

/// Waits after a failure, for longer each time.
async fn wait(pause: &mut Duration, error: &QueueError) {
    tracing::warn!(%error, "events for listeners cannot be read");
    *pause = (*pause * 2 + Duration::from_millis(250)).min(LONGEST_PAUSE);
    tokio::time::sleep(*pause).await;
}
