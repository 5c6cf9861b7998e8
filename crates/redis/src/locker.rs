//! The locker.

use std::{
    any::Any,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use async_trait::async_trait;
use landfall::{
    lease::{
        Lease, LeaseError, Locker,
        remote::{self, LeaseStats, LeaseTable, Rejection},
    },
    upload::UploadId,
};
use tokio::{sync::watch, time::timeout};

use crate::{
    keeper::Keeper,
    link::{Link, LinkError, field},
    scripts::{Answer, Ask, LeaseId, Scripts, parse_offset},
    settings::{RedisSettings, SettingsError},
};

type Table = LeaseTable<LeaseId>;
type Attempt = remote::Attempt<LeaseId>;

/// Leases kept in Redis (6 or newer) or Valkey, for nodes that share a store.
///
/// Within the node it is a [`MemoryLocker`](landfall::lease::MemoryLocker): requests of one node
/// queue up for an upload in its memory, and only the first of them speaks to Redis. Who finds the lease with another node asks
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
    table: Arc<Table>,
    link: Arc<Link>,
    scripts: Arc<Scripts>,
    settings: RedisSettings,
    numbers: AtomicU64,
    /// The greatest fence seen.
    newest: AtomicU64,
    stop: watch::Sender<bool>,
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
        let table = Arc::new(LeaseTable::new(settings.ttl));
        let scripts = Arc::new(Scripts::new(&settings, &owner));
        let hear = {
            let table = Arc::clone(&table);
            Arc::new(move |message: &[u8]| hear(&table, &owner, message))
        };
        let link = Arc::new(Link::new(address, &settings, Arc::clone(&scripts), hear)?);
        let (stop, stopped) = watch::channel(false);
        let keeper = Keeper {
            table: Arc::clone(&table),
            link: Arc::clone(&link),
            scripts: Arc::clone(&scripts),
            settings: settings.clone(),
        };
        keeper.start(stopped)?;
        Ok(Self(Arc::new(Node {
            table,
            link,
            scripts,
            settings,
            numbers: AtomicU64::new(1),
            newest: AtomicU64::new(0),
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
        let attempt = self.attempt(&UploadId::random(), None);
        self.0.take(&attempt, Ask::Nothing).await?;
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

    /// Returns statistics.
    #[must_use]
    pub fn stats(&self) -> LeaseStats {
        self.0.table.stats(self.0.link.is_up())
    }

    /// Waits until Redis has released the leases that were dropped, for [`RedisSettings::patience`]
    /// at most: other nodes would have to wait until they expire.
    ///
    /// # Cancel safety
    /// May be dropped.
    pub async fn close(&self) {
        let _ = timeout(self.0.settings.patience, self.0.table.all_released()).await;
    }

    fn attempt(&self, id: &UploadId, local: Option<Lease>) -> Attempt {
        let number = self.0.numbers.fetch_add(1, Ordering::Relaxed);
        let locker = Arc::clone(&self.0) as Arc<dyn Any + Send + Sync>;
        Attempt::new(&self.0.table, locker, id, LeaseId(number), local)
    }

    /// Acquires the lease in Redis for a request that has it within this node.
    async fn acquire_now(&self, local: Lease, id: &UploadId, ask: Ask) -> Result<Lease, Rejection> {
        let attempt = self.attempt(id, Some(local));
        match self.0.take(&attempt, ask).await {
            Ok((Answer::Granted(fence), sent)) => attempt.granted(fence, sent),
            Ok((Answer::Busy(left), _)) => Err(attempt.held(self.0.settings.poll, left)),
            Err(error) => Err(self.0.table.unavailable(error)),
        }
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

#[async_trait]
impl Locker for RedisLocker {
    async fn acquire(&self, id: &UploadId, wait: Duration) -> Result<Lease, LeaseError> {
        let attempt = |local| self.acquire_now(local, id, Ask::Yield(None));
        self.0.table.acquire(id, None, wait, attempt).await
    }

    async fn acquire_at(
        &self,
        id: &UploadId,
        offset: u64,
        wait: Duration,
    ) -> Result<Lease, LeaseError> {
        let offset = Some(offset);
        let attempt = |local| self.acquire_now(local, id, Ask::Yield(offset));
        self.0.table.acquire(id, offset, wait, attempt).await
    }

    async fn try_acquire(&self, id: &UploadId) -> Result<Lease, LeaseError> {
        let attempt = |local| self.acquire_now(local, id, Ask::Nothing);
        self.0.table.try_acquire(id, attempt).await
    }
}

impl Node {
    async fn take(&self, attempt: &Attempt, ask: Ask) -> Result<(Answer, Instant), LinkError> {
        let newest = self.newest.load(Ordering::Relaxed);
        let call = self.link.call(|up| {
            self.scripts
                .acquire(up.run(), attempt.id(), *attempt.owner(), newest, ask)
        });
        let (answer, sent) = call.await?;
        let answer = Scripts::answer(answer);
        if let Answer::Granted(fence) = answer {
            self.newest.fetch_max(fence.0, Ordering::Relaxed);
        }
        Ok((answer, sent))
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.stop.send_replace(true);
    }
}

/// Understands what other nodes say: `ask OWNER:NUMBER OFFSET ID` to the one who has the lease, `free ID`
/// to those who wait for it.
fn hear(table: &Table, owner: &str, message: &[u8]) {
    let Ok(message) = std::str::from_utf8(message) else {
        return;
    };
    if let Some(id) = message.strip_prefix("free ") {
        if let Ok(id) = UploadId::new(id) {
            table.wake(&id);
        }
    } else if let Some(ask) = message.strip_prefix("ask ")
        && let Some(ask) = ask.strip_prefix(owner)
        && let Some((number, ask)) = ask.strip_prefix(':').and_then(|ask| ask.split_once(' '))
        && let Some((offset, id)) = ask.split_once(' ')
        && let Some(offset) = parse_offset(offset)
        && let (Ok(number), Ok(id)) = (number.parse(), UploadId::new(id))
    {
        table.request_yield(&id, &LeaseId(number), offset);
    }
}
