//! The locker.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use landfall::{
    lease::{Held, Lease, LeaseError, Locker, MemoryLocker},
    upload::UploadId,
};
use tokio::{
    sync::{Notify, watch},
    time::{Instant, sleep, timeout},
};

use crate::{
    keeper::Keeper,
    link::{Link, LinkError, field},
    scripts::{Answer, Scripts},
    settings::{RedisSettings, SettingsError},
    table::{Table, Token},
};

/// Leases kept in Redis (6 or newer) or Valkey, for nodes that share a store.
///
/// Within the node it is a [`MemoryLocker`]: requests of one node queue up for an upload in its
/// memory, and only the first of them speaks to Redis. Who finds the lease with another node asks
/// that node over a channel to yield, and is told over the same channel when it has; the lease is
/// kept for it meanwhile. Messages may get lost: the waiter asks again every
/// [`poll`](RedisSettings::poll), and when the lease is over.
///
/// Clones share the leases. One thread of its own renews them, whatever the program's runtimes are
/// busy with; it ends with the last clone and the last lease. Waiting needs a tokio runtime with its
/// timer on.
///
/// # What it costs
/// Two calls for each lease, one to take it and one to give it up; those of a moment go together in
/// one packet. A lease held for longer than a quarter of its [`ttl`](RedisSettings::ttl) is renewed
/// that often, in batches of 256: with 10,000 uploads at once and the default of 5 seconds, 8,000
/// small scripts a second, in 32 packets. In Redis, some 200 bytes for each lease, and for a day as
/// many for its fence.
///
/// # Fences
/// The leases of one upload are numbered one by one: the next number means that nobody else had the
/// lease in between. Where there is no number, because the upload is new, was idle for a day, or
/// Redis has lost or may have lost its state, the count starts from the clock of Redis, in
/// nanoseconds, so that numbers don't go back.
///
/// # When Redis is away
/// Taking a lease gives [`LeaseError::Unavailable`] within [`patience`](RedisSettings::patience), at
/// once if Redis has been away for longer. A holder goes on until four fifths of the lifetime have
/// passed since its last renewal was sent, by the clock of its own machine; then its lease is
/// [lost](landfall::lease::Asked::Lost), a fifth before it could lapse. If Redis comes back sooner,
/// the lease is renewed and nothing was noticed.
///
/// A restart, or a failover to a replica, is noticed by the run id of the server. What it still knows
/// from before counts for nothing, since it may be old: holders put their leases back, and nobody gets
/// a lease that the new primary doesn't know of until those of the one before have lapsed. So the first
/// lease after a start of Redis or a failover may take one lifetime. If the state vanishes without
/// either (`FLUSHALL`, eviction), two nodes can believe for a third of a lifetime that they hold a
/// lease; the store then refuses the older one.
///
/// Redis needs `maxmemory-policy noeviction` (its default), one primary, and the right to run
/// scripts and `INFO`, `PUBLISH` and `SUBSCRIBE`. Cluster mode and Sentinel are not spoken.
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use std::time::Duration;
/// use landfall::{lease::Locker, upload::UploadId};
/// use landfall_redis::{RedisLocker, RedisSettings};
///
/// let locker = RedisLocker::new("redis://user:password@127.0.0.1:6379/0", RedisSettings::default())?;
/// let lease = locker.acquire(&UploadId::random(), Duration::from_secs(20)).await?;
/// drop(lease);
/// locker.close().await;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct RedisLocker(Arc<Node>);

struct Node {
    seats: MemoryLocker,
    table: Arc<Table>,
    link: Arc<Link>,
    scripts: Arc<Scripts>,
    settings: RedisSettings,
    sent: Arc<Notify>,
    granted: AtomicU64,
    waited: AtomicU64,
    unavailable: AtomicU64,
    stop: watch::Sender<bool>,
}

/// What a locker did so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Leases held at this moment.
    pub held: usize,
    /// Leases granted.
    pub granted: u64,
    /// Leases that another node had to give up first.
    pub waited: u64,
    /// Leases lost: not renewed in time, or found to be another's.
    pub lost: u64,
    /// Requests for a lease that failed because of Redis.
    pub unavailable: u64,
    /// Whether there is a connection at this moment.
    pub connected: bool,
}

/// What answers to the address, as [`RedisLocker::check`] found it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Server {
    /// `redis` or `valkey`.
    pub name: String,
    /// Its version.
    pub version: String,
    /// The eviction policy, if it is one under which leases can vanish when memory is full.
    pub evicts: Option<String>,
}

impl RedisLocker {
    /// A locker for the Redis at `address`: `redis://[user:password@]host[:port][/db]`, `rediss://`
    /// for TLS (feature `tls`), or `redis+unix:///path/of/socket[?db=…&user=…&pass=…]`.
    ///
    /// Begins to connect and does not wait for it: see [`RedisLocker::check`].
    ///
    /// # Errors
    /// [`SettingsError`], never because Redis is away.
    pub fn new(address: &str, settings: RedisSettings) -> Result<Self, SettingsError> {
        settings.check()?;
        let owner = format!("{:016x}", rand::random::<u64>());
        let table = Arc::new(Table::new(settings.ttl));
        let scripts = Arc::new(Scripts::new(&settings, &owner));
        let hear = {
            let table = Arc::clone(&table);
            Arc::new(move |message: &[u8]| hear(&table, &owner, message))
        };
        let link = Arc::new(Link::new(address, &settings, Arc::clone(&scripts), hear)?);
        let sent = Arc::new(Notify::new());
        let (stop, stopped) = watch::channel(false);
        let keeper = Keeper {
            table: Arc::clone(&table),
            link: Arc::clone(&link),
            scripts: Arc::clone(&scripts),
            settings: settings.clone(),
            sent: Arc::clone(&sent),
            due: Notify::new(),
        };
        keeper.start(stopped)?;
        Ok(Self(Arc::new(Node {
            seats: MemoryLocker::new(),
            table,
            link,
            scripts,
            settings,
            sent,
            granted: AtomicU64::new(0),
            waited: AtomicU64::new(0),
            unavailable: AtomicU64::new(0),
            stop,
        })))
    }

    /// Sees whether Redis can be used, by taking and giving up a lease that nobody else wants.
    ///
    /// # Errors
    /// What is wrong, in one sentence.
    ///
    /// # Cancel safety
    /// Nothing is lost by dropping it.
    pub async fn check(&self) -> Result<Server, LinkError> {
        let link = &self.0.link;
        let info = |section: &'static str| async move {
            let info = link.call::<String>(|_| {
                let mut info = redis::cmd("INFO");
                info.arg(section);
                info
            });
            info.await.map(|(info, _)| info)
        };
        let (server, memory) = (info("server").await?, info("memory").await?);
        let id = UploadId::random();
        let attempt = Attempt::new(&self.0, &id);
        self.0.take(&attempt, false).await?;
        let valkey = field(&server, "valkey_version");
        let limited = field(&memory, "maxmemory").is_some_and(|most| most != "0");
        let policy = field(&memory, "maxmemory_policy").filter(|policy| *policy != "noeviction");
        Ok(Server {
            name: if valkey.is_some() { "valkey" } else { "redis" }.into(),
            version: valkey
                .or_else(|| field(&server, "redis_version"))
                .unwrap_or_default()
                .into(),
            evicts: policy.filter(|_| limited).map(str::to_owned),
        })
    }

    /// What the locker did so far.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Stats {
            held: self.0.table.len(),
            granted: count(&self.0.granted),
            waited: count(&self.0.waited),
            lost: self.0.table.times_lost(),
            unavailable: count(&self.0.unavailable),
            connected: self.0.link.is_up(),
        }
    }

    /// Waits until the leases that were dropped are free in Redis, for [`RedisSettings::patience`]
    /// at most: for the end of a program, after which other nodes would have to wait for them to
    /// lapse.
    ///
    /// # Cancel safety
    /// Nothing is lost by dropping it.
    pub async fn close(&self) {
        let all = async {
            loop {
                let sent = self.0.sent.notified();
                tokio::pin!(sent);
                sent.as_mut().enable();
                if self.0.table.all_released() {
                    return;
                }
                sent.await;
            }
        };
        drop(timeout(self.0.settings.patience, all).await);
    }

    /// The lease for a seat, if Redis grants it now.
    async fn attempt(&self, seat: Lease, id: &UploadId, ask: bool) -> Result<Lease, Refusal> {
        let attempt = Attempt::new(&self.0, id);
        let (answer, sent) = match self.0.take(&attempt, ask).await {
            Ok(answer) => answer,
            Err(error) => {
                self.0.unavailable.fetch_add(1, Ordering::Relaxed);
                let error = LeaseError::Unavailable(Box::new(error));
                return Err(Refusal::Failed(error));
            }
        };
        let fence = match answer {
            Answer::Granted(fence) => fence,
            Answer::Busy(left) => {
                attempt.nothing_taken();
                return Err(Refusal::Busy(seat, left));
            }
        };
        let signal = seat.signal().clone();
        if !(self.0.table).hold(id, attempt.token, fence, signal.clone(), sent) {
            self.0.unavailable.fetch_add(1, Ordering::Relaxed);
            return Err(Refusal::Failed(LeaseError::Unavailable(
                "Redis answered too late".into(),
            )));
        }
        self.0.granted.fetch_add(1, Ordering::Relaxed);
        let held = Holding {
            attempt,
            _seat: seat,
        };
        Ok(Lease::new(fence, signal, Box::new(held)))
    }
}

impl fmt::Debug for RedisLocker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisLocker")
            .field("redis", &self.0.link.address())
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}

/// Why Redis did not grant a lease.
enum Refusal {
    /// Another node has it, for this long if it isn't renewed; the seat goes back.
    Busy(Lease, Duration),
    Failed(LeaseError),
}

#[async_trait]
impl Locker for RedisLocker {
    async fn acquire(&self, id: &UploadId, wait: Duration) -> Result<Lease, LeaseError> {
        let begun = Instant::now();
        let mut seat = self.0.seats.acquire(id, wait).await?;
        // Listens before it asks, so that no answer is missed.
        let waiting = self.0.table.wait_for(id);
        let mut first = true;
        loop {
            let left = wait.saturating_sub(begun.elapsed());
            let lapses;
            (seat, lapses) = match self.attempt(seat, id, true).await {
                Ok(lease) => return Ok(lease),
                Err(Refusal::Failed(error)) => return Err(error),
                Err(Refusal::Busy(seat, lapses)) => (seat, lapses),
            };
            if left.is_zero() {
                return Err(LeaseError::Held);
            }
            if std::mem::take(&mut first) {
                self.0.waited.fetch_add(1, Ordering::Relaxed);
            }
            // Not all waiters of all nodes at once.
            let poll = self.0.settings.poll.mul_f64(rand::random_range(0.7..1.0));
            let lapsed = lapses + Duration::from_millis(1);
            tokio::select! {
                () = waiting.freed() => {}
                () = sleep(poll.min(lapsed).min(left)) => {}
            }
        }
    }

    async fn try_acquire(&self, id: &UploadId) -> Result<Lease, LeaseError> {
        let seat = self.0.seats.try_acquire(id).await?;
        match self.attempt(seat, id, false).await {
            Ok(lease) => Ok(lease),
            Err(Refusal::Failed(error)) => Err(error),
            Err(Refusal::Busy(..)) => Err(LeaseError::Held),
        }
    }
}

impl Node {
    async fn take(
        &self,
        attempt: &Attempt,
        ask: bool,
    ) -> Result<(Answer, std::time::Instant), LinkError> {
        let newest = self.table.newest();
        let call = self.link.call(|up| {
            self.scripts
                .acquire(up.run(), &attempt.id, attempt.token, newest, ask)
        });
        let (answer, sent) = call.await?;
        Ok((Scripts::answer(answer), sent))
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.stop.send_replace(true);
    }
}

/// A lease that Redis may have granted: given up when dropped, also when the answer never came.
struct Attempt {
    node: Arc<Node>,
    id: UploadId,
    token: Token,
    taken: bool,
}

impl Attempt {
    fn new(node: &Arc<Node>, id: &UploadId) -> Self {
        Self {
            node: Arc::clone(node),
            id: id.clone(),
            token: node.table.token(),
            taken: true,
        }
    }

    /// Redis said that it did not grant it.
    fn nothing_taken(mut self) {
        self.taken = false;
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if self.taken {
            self.node.table.release(&self.id, self.token);
        }
    }
}

/// A lease and its seat; the seat goes last, so that who gets it comes after the release.
struct Holding {
    attempt: Attempt,
    _seat: Lease,
}

impl Held for Holding {}

impl fmt::Debug for Holding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Holding").field(&self.attempt.id).finish()
    }
}

/// Understands what other nodes say: `ask OWNER:NUMBER ID` to the one who has the lease, `free ID`
/// to those who wait for it.
fn hear(table: &Table, owner: &str, message: &[u8]) {
    let Ok(message) = std::str::from_utf8(message) else {
        return;
    };
    if let Some(id) = message.strip_prefix("free ") {
        if let Ok(id) = UploadId::new(id) {
            table.freed(&id);
        }
    } else if let Some(ask) = message.strip_prefix("ask ")
        && let Some(ask) = ask.strip_prefix(owner)
        && let Some((number, id)) = ask.strip_prefix(':').and_then(|ask| ask.split_once(' '))
        && let (Ok(number), Ok(id)) = (number.parse(), UploadId::new(id))
    {
        table.asked(&id, Token::numbered(number));
    }
}
