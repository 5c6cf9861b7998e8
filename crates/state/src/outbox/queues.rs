//! Deliveries in memory: a queue per ordering key, and retries.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use landfall_hooks::Message;
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;

/// Others stay in the database.
const MAX_EVENTS: usize = 4096;
/// Of JSON; in memory they use about twice as much.
const MAX_BYTES: usize = 16 << 20;

#[derive(Debug, Clone)]
pub(super) struct ClaimedEvent {
    pub(super) event: Arc<str>,
    pub(super) key: Arc<str>,
    pub(super) message: Arc<Message>,
    pub(super) bytes: usize,
    pub(super) attempts: i64,
    /// Those before an operator had it retried.
    pub(super) earlier_attempts: i64,
    /// With it, the event is a retry, outside its key's queue.
    pub(super) first_failed_at: Option<i64>,
}

impl ClaimedEvent {
    pub(super) const fn is_retry(&self) -> bool {
        self.first_failed_at.is_some()
    }
}

#[derive(Debug, Default)]
struct OrderedQueue {
    queue: VecDeque<ClaimedEvent>,
    /// True also for a head that has failed and is about to be released.
    busy: bool,
}

#[derive(Debug, Default)]
struct RouteQueues {
    ordered: HashMap<Arc<str>, OrderedQueue>,
    ready: VecDeque<Arc<str>>,
    waiting: VecDeque<Arc<str>>,
    retries: HashMap<Arc<str>, ClaimedEvent>,
    events: usize,
    bytes: usize,
}

impl RouteQueues {
    fn add(&mut self, event: &ClaimedEvent) {
        self.events += 1;
        self.bytes += event.bytes;
    }

    fn subtract(&mut self, event: &ClaimedEvent) {
        self.events -= 1;
        self.bytes -= event.bytes;
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Allowed {
    pub(super) first: bool,
    pub(super) retries: bool,
}

/// The writer alone adds deliveries, so that they are in the database's order.
#[derive(Debug)]
pub(super) struct DeliveryQueues {
    routes: Vec<Mutex<RouteQueues>>,
    ready: Vec<Notify>,
    has_backlog: AtomicBool,
    /// Notified of free capacity, and of new deliveries in the database.
    pub(super) claimable: Notify,
}

impl DeliveryQueues {
    pub(super) fn new(routes: usize) -> Self {
        Self {
            routes: (0..routes).map(|_| Mutex::default()).collect(),
            ready: (0..routes).map(|_| Notify::new()).collect(),
            has_backlog: AtomicBool::new(false),
            claimable: Notify::new(),
        }
    }

    fn lock(&self, route: usize) -> MutexGuard<'_, RouteQueues> {
        self.routes[route].lock()
    }

    fn max_events(&self) -> usize {
        (MAX_EVENTS / self.routes.len().max(1)).max(1)
    }

    fn max_bytes(&self) -> usize {
        MAX_BYTES / self.routes.len().max(1)
    }

    /// Each route has its own share.
    pub(super) fn capacity(&self, route: usize) -> usize {
        let queues = self.lock(route);
        let capacity = if queues.bytes >= self.max_bytes() {
            0
        } else {
            self.max_events().saturating_sub(queues.events)
        };
        if capacity == 0 {
            self.has_backlog.store(true, Ordering::Release);
        }
        capacity
    }

    pub(super) fn retries(&self, route: usize) -> usize {
        self.lock(route).retries.len()
    }

    pub(super) fn is_idle(&self, route: usize) -> bool {
        let queues = self.lock(route);
        queues.ready.is_empty() && queues.waiting.is_empty()
    }

    /// Adds the delivery to its key's queue, or to the retries.
    pub(super) fn push(&self, route: usize, event: ClaimedEvent) {
        let mut queues = self.lock(route);
        queues.add(&event);
        if event.is_retry() {
            queues.waiting.push_back(event.event.clone());
            queues.retries.insert(event.event.clone(), event);
        } else {
            let key = event.key.clone();
            let ordered = queues.ordered.entry(key.clone()).or_default();
            let was_idle = ordered.queue.is_empty() && !ordered.busy;
            ordered.queue.push_back(event);
            if !was_idle {
                return;
            }
            queues.ready.push_back(key);
        }
        drop(queues);
        self.ready[route].notify_one();
    }

    /// Marks the delivery as started. Cancel safe: if dropped, no delivery has started.
    pub(super) async fn next(&self, route: usize, allowed: Allowed) -> ClaimedEvent {
        loop {
            if let Some(found) = self.take(route, allowed) {
                return found;
            }
            self.ready[route].notified().await;
        }
    }

    fn take(&self, route: usize, allowed: Allowed) -> Option<ClaimedEvent> {
        let mut queues = self.lock(route);
        let queues = &mut *queues;
        while allowed.first
            && let Some(key) = queues.ready.pop_front()
        {
            // Released keys may still be listed.
            if let Some(ordered) = queues.ordered.get_mut(&key)
                && !ordered.busy
                && let Some(head) = ordered.queue.front()
            {
                ordered.busy = true;
                return Some(head.clone());
            }
        }
        while allowed.retries
            && let Some(event) = queues.waiting.pop_front()
        {
            if let Some(retry) = queues.retries.get(&event) {
                return Some(retry.clone());
            }
        }
        None
    }

    /// The next delivery of the key may then start.
    pub(super) fn advance(&self, route: usize, delivered: &ClaimedEvent) {
        let mut queues = self.lock(route);
        if delivered.is_retry() {
            let Some(retry) = queues.retries.remove(&delivered.event) else {
                return;
            };
            queues.subtract(&retry);
            drop(queues);
            self.claimable.notify_one();
            return;
        }
        let Some(ordered) = queues.ordered.get_mut(&delivered.key) else {
            return;
        };
        let is_head = |head: &ClaimedEvent| head.event == delivered.event;
        if !ordered.queue.front().is_some_and(is_head) {
            return;
        }
        ordered.busy = false;
        let head = ordered.queue.pop_front();
        let is_empty = ordered.queue.is_empty();
        if is_empty {
            queues.ordered.remove(&delivered.key);
        } else {
            queues.ready.push_back(delivered.key.clone());
        }
        if let Some(head) = head {
            queues.subtract(&head);
        }
        let has_capacity =
            queues.events <= self.max_events() / 2 && queues.bytes < self.max_bytes() / 2;
        drop(queues);
        if !is_empty {
            self.ready[route].notify_one();
        }
        if has_capacity && self.has_backlog.swap(false, Ordering::AcqRel) {
            self.claimable.notify_one();
        }
    }

    pub(super) fn get(&self, route: usize, key: &Arc<str>, event: &str) -> Option<ClaimedEvent> {
        let queues = self.lock(route);
        if let Some(retry) = queues.retries.get(event) {
            return Some(retry.clone());
        }
        let head = queues.ordered.get(key)?.queue.front()?;
        (&*head.event == event).then(|| head.clone())
    }

    /// A retry alone, or a first attempt with all of its key.
    pub(super) fn remove(&self, route: usize, failed: &ClaimedEvent) {
        let mut queues = self.lock(route);
        let removed = if failed.is_retry() {
            queues.retries.remove(&failed.event).into_iter().collect()
        } else {
            let ordered = queues.ordered.remove(&failed.key);
            ordered.map(|ordered| ordered.queue).unwrap_or_default()
        };
        for event in &removed {
            queues.subtract(event);
        }
    }

    pub(super) fn clear(&self) {
        for route in 0..self.routes.len() {
            *self.lock(route) = RouteQueues::default();
        }
    }
}

#[cfg(test)]
mod tests;
