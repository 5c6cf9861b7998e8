//! Fair scheduling of request bodies between client addresses.

use std::{
    future::Future,
    mem,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, sleep_until},
};

/// Bytes of a body per turn: less than one store write, so that a turn does not wait for a disk.
const SHARE_BYTES: usize = 128 * 1024;
const DELAY_FACTOR: u32 = 3;
/// The precision of the runtime's timers; shorter pauses are added up.
const MIN_PAUSE: Duration = Duration::from_millis(1);
/// Limits the pause after a turn in which the thread was busy with other work.
const MAX_PAUSE: Duration = Duration::from_millis(20);

#[derive(Debug)]
pub(crate) struct AddressQueue {
    turns: Arc<Semaphore>,
    /// Addresses that send bodies.
    senders: Arc<AtomicUsize>,
    state: Mutex<QueueState>,
}

#[derive(Debug, Default)]
struct QueueState {
    bodies: usize,
    pause: Duration,
    resume_at: Option<Instant>,
}

impl AddressQueue {
    pub(crate) fn new(workers: usize, senders: Arc<AtomicUsize>) -> Self {
        Self {
            turns: Arc::new(Semaphore::new((workers / 4).max(1))),
            senders,
            state: Mutex::default(),
        }
    }

    fn is_contended(&self) -> bool {
        self.senders.load(Relaxed) >= 2
    }

    /// Returns the earliest start of the next turn, if that is in the future.
    fn resume_at(&self) -> Option<Instant> {
        let mut state = self.state.lock();
        state.resume_at = state.resume_at.filter(|at| *at > Instant::now());
        state.resume_at
    }

    async fn start_turn(self: Arc<Self>) -> ActiveTurn {
        // The semaphore is never closed.
        let permit = self.turns.clone().acquire_owned().await.ok();
        while let Some(at) = self.resume_at().filter(|_| self.is_contended()) {
            sleep_until(at).await;
        }
        ActiveTurn {
            began: Instant::now(),
            _permit: permit,
        }
    }

    /// The next turn of several bodies starts after a pause.
    fn end_turn(&self, turn: &ActiveTurn) {
        let mut state = self.state.lock();
        if state.bodies < 2 {
            return;
        }
        let now = Instant::now();
        state.pause += (now - turn.began) * DELAY_FACTOR;
        if state.pause >= MIN_PAUSE {
            state.resume_at = Some(now + state.pause.min(MAX_PAUSE));
            state.pause = Duration::ZERO;
        }
    }
}

#[derive(Debug)]
struct ActiveTurn {
    began: Instant,
    _permit: Option<OwnedSemaphorePermit>,
}

pub(crate) struct QueuedBody {
    queue: Arc<AddressQueue>,
    position: QueuePosition,
    received: usize,
}

#[derive(Default)]
enum QueuePosition {
    #[default]
    None,
    Waiting(Pin<Box<dyn Future<Output = ActiveTurn> + Send + Sync>>),
    Active(ActiveTurn),
}

impl QueuedBody {
    pub(crate) fn new(queue: Arc<AddressQueue>) -> Self {
        queue.state.lock().bodies += 1;
        Self {
            queue,
            position: QueuePosition::None,
            received: 0,
        }
    }

    pub(crate) fn poll_turn(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            self.position = match &mut self.position {
                QueuePosition::Active(_) => return Poll::Ready(()),
                QueuePosition::None if !self.queue.is_contended() => return Poll::Ready(()),
                QueuePosition::None => {
                    QueuePosition::Waiting(Box::pin(self.queue.clone().start_turn()))
                }
                QueuePosition::Waiting(turn) => {
                    QueuePosition::Active(ready!(turn.as_mut().poll(cx)))
                }
            }
        }
    }

    pub(crate) fn receive(&mut self, bytes: usize) {
        self.received += bytes;
        if self.received >= SHARE_BYTES {
            self.release();
        }
    }

    pub(crate) fn release(&mut self) {
        self.received = 0;
        if let QueuePosition::Active(turn) = mem::take(&mut self.position) {
            self.queue.end_turn(&turn);
        }
    }
}

impl Drop for QueuedBody {
    fn drop(&mut self) {
        self.release();
        self.queue.state.lock().bodies -= 1;
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use tokio::time::advance;

    use super::*;

    fn queue(senders: usize) -> Arc<AddressQueue> {
        Arc::new(AddressQueue::new(1, Arc::new(AtomicUsize::new(senders))))
    }

    fn bodies(queue: &Arc<AddressQueue>) -> [QueuedBody; 3] {
        std::array::from_fn(|_| QueuedBody::new(queue.clone()))
    }

    fn can_read(body: &mut QueuedBody) -> bool {
        body.poll_turn(&mut Context::from_waker(Waker::noop()))
            .is_ready()
    }

    #[tokio::test(start_paused = true)]
    async fn bodies_take_turns_after_their_share() {
        let queue = queue(2);
        let [mut first, mut second, mut third] = bodies(&queue);
        assert!(can_read(&mut first));
        assert!(!can_read(&mut second));
        assert!(!can_read(&mut third));
        first.receive(SHARE_BYTES - 1);
        assert!(can_read(&mut first) && !can_read(&mut second));
        first.receive(1);
        assert!(can_read(&mut second));
        // The third has waited longer than the first.
        assert!(!can_read(&mut first) && !can_read(&mut third));
        // A silent body releases its turn.
        second.release();
        assert!(can_read(&mut third) && !can_read(&mut first));
        third.release();
        assert!(can_read(&mut first));
        first.release();
        assert_eq!(queue.turns.available_permits(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_dropped_body_makes_way() {
        let queue = queue(2);
        let [mut first, mut second, mut third] = bodies(&queue);
        assert!(can_read(&mut first));
        assert!(!can_read(&mut second) && !can_read(&mut third));
        // The second is activated and dropped before it is polled.
        drop(first);
        drop(second);
        assert!(can_read(&mut third));
        let mut fourth = QueuedBody::new(queue.clone());
        assert!(!can_read(&mut fourth));
        drop(fourth);
        drop(third);
        assert_eq!(queue.turns.available_permits(), 1);
        assert_eq!(queue.state.lock().bodies, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn bodies_do_not_wait_while_one_address_sends() {
        let queue = queue(1);
        for mut body in bodies(&queue) {
            assert!(can_read(&mut body));
        }
        assert_eq!(queue.turns.available_permits(), 1);
    }

    /// Returns the wait of an address with three bodies after a turn that took `took`.
    async fn pause_after(queue: &Arc<AddressQueue>, took: Duration) -> Duration {
        let [mut first, mut second, _third] = bodies(queue);
        assert!(can_read(&mut first) && !can_read(&mut second));
        advance(took).await;
        first.release();
        let released = Instant::now();
        std::future::poll_fn(|cx| second.poll_turn(cx)).await;
        released.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_pauses_longer_than_its_turns_take() {
        let turn = Duration::from_millis(2);
        assert!(pause_after(&queue(2), turn).await >= DELAY_FACTOR * turn);
        // The pause is limited, however long the turn took.
        let long = pause_after(&queue(2), Duration::from_secs(9)).await;
        assert!(long <= MAX_PAUSE + MIN_PAUSE, "{long:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn short_turns_are_added_up() {
        let queue = queue(2);
        let turn = MIN_PAUSE * 2 / 3 / DELAY_FACTOR;
        assert_eq!(pause_after(&queue, turn).await, Duration::ZERO);
        assert!(pause_after(&queue, turn).await >= MIN_PAUSE);
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_with_one_body_does_not_pause() {
        let queue = queue(2);
        let mut body = QueuedBody::new(queue.clone());
        for _ in 0..3 {
            assert!(can_read(&mut body));
            advance(Duration::from_millis(5)).await;
            body.release();
        }
        assert!(can_read(&mut body));
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_ends_with_the_other_senders() {
        let queue = queue(2);
        let [mut first, mut second, _third] = bodies(&queue);
        assert!(can_read(&mut first) && !can_read(&mut second));
        advance(Duration::from_millis(5)).await;
        first.release();
        queue.senders.store(1, Relaxed);
        assert!(can_read(&mut second));
    }
}
