//! One reader for all who listen.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{Notify, broadcast, watch},
    task::JoinHandle,
};

use super::{super::Style, frame::Told};
use crate::{
    Queue,
    queue::{QueueError, Scope},
};

/// How many events are read at a time.
const PAGE: usize = 200;
/// How many events wait for listeners that are slow; who is slower reads them by itself.
const BACKLOG: usize = 512;
/// How often it is looked whether anybody still listens.
const LOOK: Duration = Duration::from_secs(30);
/// The longest pause after a failure.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// Whether the reader is at work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Nobody listens, or it isn't ready yet.
    Idle,
    /// All that can be read from now on is handed out.
    Live,
    /// The queue is closed.
    Over,
}

/// Events for all who listen. Its task ends when it is dropped.
#[derive(Debug)]
pub(in super::super) struct Feed {
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    sender: broadcast::Sender<Arc<Told>>,
    phase: watch::Sender<Phase>,
    /// Held while somebody subscribes, and while the reader looks whether it may rest.
    door: Mutex<()>,
    wake: Notify,
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
            sender: broadcast::Sender::new(BACKLOG),
            phase: watch::Sender::new(Phase::Idle),
            door: Mutex::new(()),
            wake: Notify::new(),
        });
        let task = tokio::spawn(run(shared.clone(), queue, style));
        Self { shared, task }
    }

    /// What comes from now on; complete as soon as the phase is [`Phase::Live`].
    pub(super) fn subscribe(&self) -> (broadcast::Receiver<Arc<Told>>, watch::Receiver<Phase>) {
        let shared = &self.shared;
        let door = shared.door.lock().unwrap_or_else(PoisonError::into_inner);
        let receiver = shared.sender.subscribe();
        drop(door);
        shared.wake.notify_one();
        (receiver, shared.phase.subscribe())
    }
}

impl Shared {
    /// Rests if nobody listens; whoever comes from then on finds it idle and waits for it.
    fn rests(&self) -> bool {
        let _door = self.door.lock().unwrap_or_else(PoisonError::into_inner);
        let rests = self.sender.receiver_count() == 0;
        if rests {
            self.phase.send_replace(Phase::Idle);
        }
        rests
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

/// Hands out events until nobody listens; false when the queue is closed.
async fn serve(shared: &Shared, queue: &Queue, style: Style) -> bool {
    // Watched before it is read, so that nothing goes unnoticed in between.
    let mut newest = queue.newest();
    let mut pause = Duration::ZERO;
    // What is older is read by those who want it.
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
    loop {
        match tokio::time::timeout(LOOK, newest.changed()).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return false,
            Err(_) if shared.rests() => return true,
            Err(_) => continue,
        }
        loop {
            match queue.events(&Scope::All, cursor, PAGE).await {
                Ok(events) => {
                    pause = Duration::ZERO;
                    let is_last = events.len() < PAGE;
                    for event in events {
                        cursor = cursor.max(event.number);
                        // Fails if nobody listens, which is looked at below.
                        let _ = shared.sender.send(Arc::new(Told::new(event, style)));
                    }
                    if is_last {
                        break;
                    }
                }
                Err(QueueError::Closed) => return false,
                Err(error) => wait(&mut pause, &error).await,
            }
            if shared.sender.receiver_count() == 0 {
                break;
            }
        }
        if shared.rests() {
            return true;
        }
    }
}

/// Waits after a failure, for longer each time.
async fn wait(pause: &mut Duration, error: &QueueError) {
    tracing::warn!(%error, "events for those who listen can't be read");
    *pause = (*pause * 2 + Duration::from_millis(250)).min(LONGEST_PAUSE);
    tokio::time::sleep(*pause).await;
}
