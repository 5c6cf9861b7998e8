//! The way of the queue's events into the outbox, and so to the application.
//!
//! An event is in the database together with the row that it is about. The relay reads on from where
//! it was, posts what some way wants to hear, and only then notes how far it is: so each event comes at
//! least once, with the same id each time, and those of a job in their order. Of several processes one
//! relays; when it is gone another goes on after a few seconds.

mod message;
mod place;

use std::time::Duration;

use landfall_database::DatabaseError;
use landfall_hooks::{
    HookNames,
    outbox::{Outbox, OutboxError},
};
use tokio::{
    sync::{Mutex, watch},
    time::{Instant, sleep, timeout},
};

use self::{message::message, place::Place};
use crate::{
    Queue,
    queue::{QueueError, Scope},
};

/// How long who has events in hand may be silent before another goes on.
const LEASE: Duration = Duration::from_secs(10);
/// How often those who wait for another look whether it still has them.
const LOOK: Duration = Duration::from_secs(2);
/// How often it is looked for events of which nobody said that they came.
const IDLE: Duration = Duration::from_secs(60);
/// How long reading and posting may take before it is begun anew.
const LONGEST: Duration = Duration::from_secs(5);
/// How long more is waited for after something has happened, so that much is moved at a time.
const GATHER: Duration = Duration::from_millis(20);
/// Events that are moved at a time.
const SOME: usize = 200;
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// How long the end waits for what is being moved.
const LAST_WAIT: Duration = Duration::from_secs(10);

/// Moves the queue's events into the outbox.
#[derive(Debug)]
pub struct Relay {
    queue: Queue,
    place: Place,
    closing: watch::Sender<bool>,
    /// Held while events are moved.
    running: Mutex<()>,
}

/// What keeps events from being moved.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RelayError {
    /// The database failed.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// The queue can't be read.
    #[error(transparent)]
    Queue(#[from] QueueError),
    /// The outbox takes no more.
    #[error(transparent)]
    Outbox(#[from] OutboxError),
    /// It took too long.
    #[error("the database took longer than {0:?}")]
    Slow(Duration),
}

/// What a turn came to.
enum Turn {
    /// There may be more.
    More,
    /// All there was is moved.
    Done,
    /// Somebody else does it.
    Elsewhere,
}

/// That this process relays.
struct Held {
    /// The last event that was moved.
    number: i64,
    /// When it is time to say so again.
    stale: Instant,
}

impl Relay {
    /// Makes or changes the relay's table in the queue's database. What has happened before that table
    /// was made is nobody's news.
    ///
    /// # Errors
    /// The database failed, or its tables are newer than this program.
    ///
    /// # Cancel safety
    /// May be dropped.
    pub async fn open(queue: Queue) -> Result<Self, DatabaseError> {
        let newest = *queue.newest().borrow();
        let place = Place::open(queue.connections().lend(), newest).await?;
        Ok(Self {
            queue,
            place,
            closing: watch::Sender::new(false),
            running: Mutex::default(),
        })
    }

    /// Moves events whose names are `wanted` until this, the queue or the outbox is closed.
    ///
    /// # Cancel safety
    /// May be dropped; what was posted and not noted is posted again.
    pub async fn run(&self, outbox: &Outbox, wanted: HookNames) {
        let _running = self.running.lock().await;
        let mut closing = self.closing.subscribe();
        let mut newest = self.queue.newest();
        let mut held = None;
        let mut pause = FIRST_PAUSE;
        // What was begun is noted, so that it needn't come again.
        while !*closing.borrow() {
            newest.mark_unchanged();
            let wait;
            match self.turn(&mut held, outbox, wanted).await {
                Ok(turn) => {
                    pause = FIRST_PAUSE;
                    match turn {
                        Turn::More => continue,
                        Turn::Elsewhere => wait = LOOK,
                        Turn::Done => {
                            tokio::select! {
                                _ = closing.changed() => {}
                                // The queue that this has can't be gone.
                                _ = newest.changed() => {}
                                () = sleep(IDLE) => {}
                            }
                            wait = GATHER;
                        }
                    }
                }
                Err(
                    RelayError::Queue(QueueError::Closed) | RelayError::Outbox(OutboxError::Closed),
                ) => return,
                Err(error) => {
                    // It isn't known what was kept.
                    held = None;
                    if pause == FIRST_PAUSE || pause == LONGEST_PAUSE {
                        tracing::warn!(%error, "events of the queue can't be moved to the outbox");
                    }
                    wait = pause;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
            tokio::select! {
                _ = closing.wait_for(|closing| *closing) => {}
                () = sleep(wait) => {}
            }
        }
    }

    /// Ends it: waits a little for what is being moved, and lets another process go on at once. To be
    /// closed before queue and outbox.
    ///
    /// # Cancel safety
    /// May be dropped; others go on after some seconds then.
    pub async fn close(&self) {
        self.closing.send_replace(true);
        let _ = timeout(LAST_WAIT, self.running.lock()).await;
        if let Err(error) = self.place.let_go().await {
            tracing::debug!(%error, "the relay couldn't let go of its place");
        }
    }

    async fn turn(
        &self,
        held: &mut Option<Held>,
        outbox: &Outbox,
        wanted: HookNames,
    ) -> Result<Turn, RelayError> {
        let number = match held {
            Some(held) if Instant::now() < held.stale => held.number,
            _ => {
                let since = Instant::now();
                let Some(found) = self.place.hold().await? else {
                    *held = None;
                    return Ok(Turn::Elsewhere);
                };
                if held.is_none() {
                    self.warn_of_gaps(found.behind);
                }
                *held = Some(Held::new(found.number, since));
                found.number
            }
        };
        let moving = self.move_some(number, outbox, wanted);
        let moved = timeout(LONGEST, moving).await;
        let (last, is_all) = moved.map_err(|_| RelayError::Slow(LONGEST))??;
        let since = Instant::now();
        if !self.place.note(last, is_all).await? {
            tracing::info!("another process moves the events of the queue now");
            *held = None;
            return Ok(Turn::More);
        }
        // Who has nothing in hand holds no place, so that nobody waits for it should it die.
        *held = (!is_all).then(|| Held::new(last, since));
        Ok(if is_all { Turn::Done } else { Turn::More })
    }

    /// Posts what comes after an event; returns the last that was read, and whether that was all.
    async fn move_some(
        &self,
        after: i64,
        outbox: &Outbox,
        wanted: HookNames,
    ) -> Result<(i64, bool), RelayError> {
        let events = self.queue.events(&Scope::All, after, SOME).await?;
        let last = events.last().map_or(after, |event| event.number);
        let is_all = events.len() < SOME;
        let messages: Vec<_> = events
            .iter()
            .filter(|event| wanted.has(message::name(event.kind)))
            .map(message)
            .collect();
        if !messages.is_empty() {
            outbox.post(messages).await?;
        }
        Ok((last, is_all))
    }

    fn warn_of_gaps(&self, behind: Duration) {
        if behind > self.queue.keep_events() {
            tracing::warn!(
                hours = behind.as_secs() / 3600,
                "events of the queue were not moved to the outbox for longer than they are kept: \
                 some were never told"
            );
        }
    }
}

impl Held {
    /// Held since a moment before the database was told.
    fn new(number: i64, since: Instant) -> Self {
        Self {
            number,
            stale: since + LEASE / 3,
        }
    }
}
