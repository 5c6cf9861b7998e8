//! The leases of this node.

use std::{
    collections::{HashMap, VecDeque, hash_map::Entry},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use landfall::{
    lease::{Asked, Fence, YieldSignal},
    upload::UploadId,
};
use tokio::sync::Notify;

/// The most releases that wait to be sent. Beyond it leases lapse instead.
const MOST_RELEASES: usize = 1 << 16;

/// Tells the leases that one node took from each other: a later one has a greater number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Token(u64);

impl Token {
    /// The token of this node with a number that came back from Redis.
    pub(crate) fn numbered(number: u64) -> Self {
        Self(number)
    }

    pub(crate) fn number(self) -> u64 {
        self.0
    }

    /// As it stands in Redis.
    pub(crate) fn text(self, owner: &str) -> String {
        format!("{owner}:{}", self.0)
    }
}

/// A lease as it is renewed.
#[derive(Debug, Clone)]
pub(crate) struct Renewal {
    pub(crate) id: UploadId,
    pub(crate) token: Token,
    pub(crate) fence: Fence,
}

/// A lease to be given up.
#[derive(Debug, Clone)]
pub(crate) struct Release {
    pub(crate) id: UploadId,
    pub(crate) token: Token,
    since: Instant,
}

/// Everything this node holds or waits for in Redis.
#[derive(Debug)]
pub(crate) struct Table {
    ttl: Duration,
    numbers: AtomicU64,
    /// The greatest fence seen.
    newest: AtomicU64,
    held: Mutex<HashMap<UploadId, Held>>,
    waiters: Mutex<HashMap<UploadId, Arc<Notify>>>,
    releases: Mutex<VecDeque<Release>>,
    times_lost: AtomicU64,
    /// Told when there is a lease after there was none.
    pub(crate) first: Notify,
    /// Told when there is something to release.
    pub(crate) released: Notify,
}

#[derive(Debug)]
struct Held {
    token: Token,
    fence: Fence,
    signal: YieldSignal,
    /// When the last call that prolonged it was sent: Redis counts from later.
    sent: Instant,
    lost: bool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic under one of these locks leaves the map whole, so poisoning says nothing.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Table {
    pub(crate) fn new(ttl: Duration) -> Self {
        Self {
            ttl,
            numbers: AtomicU64::new(1),
            newest: AtomicU64::new(0),
            held: Mutex::default(),
            waiters: Mutex::default(),
            releases: Mutex::default(),
            times_lost: AtomicU64::new(0),
            first: Notify::new(),
            released: Notify::new(),
        }
    }

    pub(crate) fn token(&self) -> Token {
        Token(self.numbers.fetch_add(1, Ordering::Relaxed))
    }

    pub(crate) fn newest(&self) -> Fence {
        Fence(self.newest.load(Ordering::Relaxed))
    }

    /// After this long without a renewal the holder has to stop: a fifth of the lifetime is left for
    /// the write on its way, and for clocks that run at different speeds.
    pub(crate) fn trusted(&self) -> Duration {
        self.ttl * 4 / 5
    }

    /// Keeps a lease that Redis granted to the call sent at `sent`; false if that is too long ago.
    pub(crate) fn hold(
        &self,
        id: &UploadId,
        token: Token,
        fence: Fence,
        signal: YieldSignal,
        sent: Instant,
    ) -> bool {
        self.newest.fetch_max(fence.0, Ordering::Relaxed);
        if sent.elapsed() >= self.trusted() {
            return false;
        }
        let mut held = lock(&self.held);
        if held.is_empty() {
            self.first.notify_one();
        }
        held.insert(
            id.clone(),
            Held {
                token,
                fence,
                signal,
                sent,
                lost: false,
            },
        );
        true
    }

    /// Forgets a lease, and sees to it that Redis does.
    pub(crate) fn release(&self, id: &UploadId, token: Token) {
        if let Entry::Occupied(entry) = lock(&self.held).entry(id.clone())
            && entry.get().token == token
        {
            entry.remove();
        }
        let mut releases = lock(&self.releases);
        if releases.len() < MOST_RELEASES {
            releases.push_back(Release {
                id: id.clone(),
                token,
                since: Instant::now(),
            });
            self.released.notify_one();
        }
    }

    /// The oldest releases, at most `most`, without what has lapsed by now. They stay in the queue.
    pub(crate) fn releases(&self, most: usize) -> Vec<Release> {
        let mut releases = lock(&self.releases);
        while (releases.front()).is_some_and(|oldest| oldest.since.elapsed() >= self.ttl) {
            releases.pop_front();
        }
        releases.iter().take(most).cloned().collect()
    }

    /// The oldest releases, that many, were sent.
    pub(crate) fn forget_releases(&self, sent: usize) {
        lock(&self.releases).drain(..sent);
    }

    /// Whether everything that was given up is free in Redis.
    pub(crate) fn all_released(&self) -> bool {
        lock(&self.releases).is_empty()
    }

    /// The leases whose last renewal is at least `age` old.
    pub(crate) fn due(&self, age: Duration) -> Vec<Renewal> {
        let held = lock(&self.held);
        held.iter()
            .filter(|(_, held)| !held.lost && held.sent.elapsed() >= age)
            .map(|(id, held)| Renewal {
                id: id.clone(),
                token: held.token,
                fence: held.fence,
            })
            .collect()
    }

    /// Whether a lease has to be renewed.
    pub(crate) fn is_due(&self, age: Duration) -> bool {
        let held = lock(&self.held);
        held.values()
            .any(|held| !held.lost && held.sent.elapsed() >= age)
    }

    /// A renewal sent at `sent` succeeded.
    pub(crate) fn renewed(&self, renewal: &Renewal, sent: Instant) {
        if let Some(held) = lock(&self.held).get_mut(&renewal.id)
            && held.token == renewal.token
        {
            held.sent = held.sent.max(sent);
        }
    }

    /// Redis says that somebody else has the lease; true if that is news.
    pub(crate) fn lost(&self, renewal: &Renewal) -> bool {
        match lock(&self.held).get_mut(&renewal.id) {
            Some(held) if held.token == renewal.token && !held.lost => {
                held.lost = true;
                held.signal.raise(Asked::Lost);
                self.times_lost.fetch_add(1, Ordering::Relaxed);
                true
            }
            _ => false,
        }
    }

    /// Tells the holders of leases that were not renewed in time; says how many.
    pub(crate) fn expire(&self) -> u64 {
        let trusted = self.trusted();
        let mut expired = 0;
        for held in lock(&self.held).values_mut() {
            if !held.lost && held.sent.elapsed() >= trusted {
                held.lost = true;
                held.signal.raise(Asked::Lost);
                expired += 1;
            }
        }
        self.times_lost.fetch_add(expired, Ordering::Relaxed);
        expired
    }

    /// How many leases were lost so far.
    pub(crate) fn times_lost(&self) -> u64 {
        self.times_lost.load(Ordering::Relaxed)
    }

    /// How many leases are held, lost ones included.
    pub(crate) fn len(&self) -> usize {
        lock(&self.held).len()
    }

    /// Another node asks for the lease with this token.
    pub(crate) fn asked(&self, id: &UploadId, token: Token) {
        if let Some(held) = lock(&self.held).get(id)
            && held.token == token
        {
            held.signal.raise(Asked::Yield);
        }
    }

    /// The lease was given up by another node.
    pub(crate) fn freed(&self, id: &UploadId) {
        if let Some(waiter) = lock(&self.waiters).get(id) {
            waiter.notify_one();
        }
    }

    /// A place to hear of the lease being free. There is at most one for an upload: the node's own
    /// requests have queued up before.
    pub(crate) fn wait_for<'a>(&'a self, id: &'a UploadId) -> Waiting<'a> {
        let notify = Arc::new(Notify::new());
        lock(&self.waiters).insert(id.clone(), Arc::clone(&notify));
        Waiting {
            table: self,
            id,
            notify,
        }
    }
}

/// A place to hear of a lease being free, given up when dropped.
#[derive(Debug)]
pub(crate) struct Waiting<'a> {
    table: &'a Table,
    id: &'a UploadId,
    notify: Arc<Notify>,
}

impl Waiting<'_> {
    /// Waits for the next word since the last, at once if it came already.
    pub(crate) async fn freed(&self) {
        self.notify.notified().await;
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        lock(&self.table.waiters).remove(self.id);
    }
}
