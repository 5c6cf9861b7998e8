//! Bodies of one address take turns while other addresses send too.
//!
//! Tasks of a runtime run one after the other, so a client with many connections would get many times
//! what a client with one gets. While several addresses send, at most as many bodies of one address
//! are read at a time as there are threads; the others wait. A body that has had its share, or has
//! nothing to read, lets the next one read. Nobody waits while a single address sends.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{
            AtomicBool, AtomicUsize,
            Ordering::{Acquire, Relaxed, Release},
        },
    },
    task::{Context, Poll},
};

use atomic_waker::AtomicWaker;

/// What a body may bring until the next one is read: less than what is stored with one call, so that
/// nobody waits for the disk of another.
const SHARE_BYTES: usize = 128 * 1024;

/// The bodies of one address.
#[derive(Debug)]
pub(super) struct AddressQueue {
    max_active: usize,
    /// How many addresses send bodies.
    senders: Arc<AtomicUsize>,
    state: Mutex<QueueState>,
}

#[derive(Debug, Default)]
struct QueueState {
    active: usize,
    waiting: VecDeque<Arc<Waiter>>,
}

#[derive(Debug, Default)]
struct Waiter {
    is_active: AtomicBool,
    waker: AtomicWaker,
}

impl AddressQueue {
    pub(super) fn new(max_active: usize, senders: Arc<AtomicUsize>) -> Self {
        Self {
            max_active: max_active.max(1),
            senders,
            state: Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, QueueState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets the next body be read instead of an active one.
    fn advance(&self, mut state: MutexGuard<'_, QueueState>) {
        let Some(next) = state.waiting.pop_front() else {
            state.active -= 1;
            return;
        };
        next.is_active.store(true, Release);
        drop(state);
        next.waker.wake();
    }
}

/// A body's place in the queue of its address.
#[derive(Debug)]
pub(super) struct QueuedBody {
    queue: Arc<AddressQueue>,
    waiter: Option<Arc<Waiter>>,
    is_active: bool,
    /// Bytes read since it became active.
    received: usize,
}

impl QueuedBody {
    pub(super) fn new(queue: Arc<AddressQueue>) -> Self {
        Self {
            queue,
            waiter: None,
            is_active: false,
            received: 0,
        }
    }

    /// Resolves when the body may be read.
    pub(super) fn poll_turn(&mut self, cx: &Context<'_>) -> Poll<()> {
        if self.is_active {
            return Poll::Ready(());
        }
        if let Some(waiter) = &self.waiter {
            waiter.waker.register(cx.waker());
            if !waiter.is_active.load(Acquire) {
                return Poll::Pending;
            }
            self.waiter = None;
            self.is_active = true;
            return Poll::Ready(());
        }
        if self.queue.senders.load(Relaxed) < 2 {
            return Poll::Ready(());
        }
        let mut state = self.queue.lock();
        if state.active < self.queue.max_active {
            state.active += 1;
            self.is_active = true;
            return Poll::Ready(());
        }
        let waiter = Arc::new(Waiter::default());
        waiter.waker.register(cx.waker());
        state.waiting.push_back(waiter.clone());
        self.waiter = Some(waiter);
        Poll::Pending
    }

    /// Counts bytes that were read.
    pub(super) fn receive(&mut self, bytes: usize) {
        self.received += bytes;
        if self.received >= SHARE_BYTES {
            self.release();
        }
    }

    /// Lets the next body be read.
    pub(super) fn release(&mut self) {
        self.received = 0;
        if std::mem::take(&mut self.is_active) {
            self.queue.advance(self.queue.lock());
        }
    }
}

impl Drop for QueuedBody {
    fn drop(&mut self) {
        self.release();
        if let Some(waiter) = self.waiter.take() {
            let mut state = self.queue.lock();
            if waiter.is_active.load(Acquire) {
                self.queue.advance(state);
            } else {
                state.waiting.retain(|other| !Arc::ptr_eq(other, &waiter));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    fn queue(senders: usize) -> Arc<AddressQueue> {
        Arc::new(AddressQueue::new(1, Arc::new(AtomicUsize::new(senders))))
    }

    fn bodies(queue: &Arc<AddressQueue>) -> [QueuedBody; 3] {
        std::array::from_fn(|_| QueuedBody::new(queue.clone()))
    }

    fn may_read(body: &mut QueuedBody) -> bool {
        body.poll_turn(&Context::from_waker(Waker::noop()))
            .is_ready()
    }

    #[test]
    fn bodies_take_turns_after_their_share() {
        let queue = queue(2);
        let [mut first, mut second, mut third] = bodies(&queue);
        assert!(may_read(&mut first));
        assert!(!may_read(&mut second));
        assert!(!may_read(&mut third));
        first.receive(SHARE_BYTES - 1);
        assert!(may_read(&mut first) && !may_read(&mut second));
        first.receive(1);
        assert!(may_read(&mut second));
        // Behind the third, which has waited for longer.
        assert!(!may_read(&mut first) && !may_read(&mut third));
        // Silent: it keeps nothing.
        second.release();
        assert!(may_read(&mut third) && !may_read(&mut first));
        third.release();
        assert!(may_read(&mut first));
        first.release();
        assert_eq!(queue.lock().active, 0);
    }

    #[test]
    fn a_dropped_body_makes_way() {
        let queue = queue(2);
        let [mut first, mut second, mut third] = bodies(&queue);
        assert!(may_read(&mut first));
        assert!(!may_read(&mut second) && !may_read(&mut third));
        // The second gets its turn and is dropped before it knows.
        drop(first);
        drop(second);
        assert!(may_read(&mut third));
        let mut fourth = QueuedBody::new(queue.clone());
        assert!(!may_read(&mut fourth));
        drop(fourth);
        drop(third);
        let state = queue.lock();
        assert_eq!((state.active, state.waiting.len()), (0, 0));
    }

    #[test]
    fn nobody_waits_where_one_address_sends() {
        let queue = queue(1);
        for mut body in bodies(&queue) {
            assert!(may_read(&mut body));
        }
        assert_eq!(queue.lock().active, 0);
    }
}
