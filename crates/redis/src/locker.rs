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
        remote::{Attempt, LeaseStats, LeaseTable, LeaseThread, Rejection},
    },
    upload::UploadId,
};
use tokio::time::timeout;

use crate::{
    connection::{ConnectionError, RedisConnection, field},
    renewer::Shared,
    scripts::{AcquireReply, Scripts, YieldRequest, parse_offset},
    settings::{RedisSettings, SettingsError},
};

/// A locker that stores leases in Redis (6 or newer) or Valkey, for nodes that share a store.
///
/// Within the node it is a [`MemoryLocker`](landfall::lease::MemoryLocker): requests wait for an
/// upload in memory, and only the first one calls Redis. A request for a lease that another node
/// holds sends a message to that node to yield. When the holder releases the lease, it is reserved
/// for the waiter, which receives a message. Messages may be lost: the waiter repeats its request
/// every [`poll_interval`](RedisSettings::poll_interval), and when the lease expires.
///
/// Clones share the leases. A separate thread renews them even if the program's runtimes are busy;
/// it ends with the last clone and the last lease. Waiting needs a tokio runtime with its timer
/// enabled.
///
/// # Cost
/// Two calls for each lease: one acquires and one releases it; concurrent calls share a packet. A
/// lease held for longer than a quarter of its [`ttl`](RedisSettings::ttl) is renewed at that
/// interval, in batches of 256: with 10,000 concurrent uploads and the default of 5 seconds, Redis
/// executes 8,000 small scripts a second, in 32 packets. A lease takes some 200 bytes in Redis, and
/// its fence as many for a day.
///
/// # Fencing tokens
/// The leases of one upload are numbered consecutively: the next number proves that no other node
/// had the lease in between. If there is no number, because the upload is new, was idle for a day,
/// or Redis has lost its state, the count starts from the clock of Redis in nanoseconds, so that
/// numbers never decrease.
///
/// # Availability
/// While Redis is unavailable, a request fails with [`LeaseError::Unavailable`] within
/// [`timeout`](RedisSettings::timeout), or at once if the outage has lasted longer. A holder
/// continues until four fifths of the lifetime have passed since its last renewal was sent, by its
/// local clock; then its lease is [lost](landfall::lease::YieldReason::LeaseLost), a fifth before it could
/// expire. If Redis returns sooner, the lease is renewed.
///
/// A restart, or a failover to a replica, is detected by the server's run id. Leases from before it
/// are ignored, since they may be outdated: holders write theirs again, and no node gets an unknown
/// lease until those of the previous primary have expired. So the first lease after a start or a
/// failover of Redis may take one lifetime. If the state vanishes without either (`FLUSHALL`,
/// eviction), two nodes can hold a lease for a third of a lifetime; the store then rejects the
/// older fence.
///
/// Redis needs `maxmemory-policy noeviction` (its default), a single primary, and the permission to
/// run scripts and `INFO`, `PUBLISH` and `SUBSCRIBE`. Cluster mode and Sentinel are not supported.
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
pub struct RedisLocker(Arc<LockerInner>);

struct LockerInner {
    shared: Arc<Shared>,
    max_fence: AtomicU64,
    _thread: LeaseThread,
}

/// The server at the address, as found by [`RedisLocker::check`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerInfo {
    /// `redis` or `valkey`.
    pub name: String,
    /// The version.
    pub version: String,
    /// The eviction policy, if it can evict leases when the memory is full.
    pub eviction_policy: Option<String>,
}

impl RedisLocker {
    /// Creates a locker on the Redis server at `address`, and starts to connect.
    ///
    /// The address is `redis://[user:password@]host[:port][/db]`, `rediss://` for TLS (feature
    /// `tls`), or `redis+unix:///path/of/socket[?db=…&user=…&pass=…]`. Use
    /// [`RedisLocker::check`] to wait for the connection.
    ///
    /// # Errors
    /// [`SettingsError`], but never because Redis is unavailable.
    pub fn new(address: &str, settings: RedisSettings) -> Result<Self, SettingsError> {
        settings.check()?;
        let owner = format!("{:016x}", rand::random::<u64>());
        let table = Arc::new(LeaseTable::new(settings.ttl));
        let scripts = Arc::new(Scripts::new(&settings, &owner));
        let on_message = {
            let table = Arc::clone(&table);
            Arc::new(move |message: &[u8]| handle_message(&table, &owner, message))
        };
        let connection =
            RedisConnection::new(address, &settings, Arc::clone(&scripts), on_message)?;
        let shared = Arc::new(Shared {
            table,
            connection: Arc::new(connection),
            scripts,
            settings,
        });
        let runtime = LeaseThread::runtime().map_err(SettingsError::Thread)?;
        let node = Arc::clone(&shared);
        let thread = LeaseThread::start(runtime, |stop| node.run(stop));
        Ok(Self(Arc::new(LockerInner {
            shared,
            max_fence: AtomicU64::new(0),
            _thread: thread.map_err(SettingsError::Thread)?,
        })))
    }

    /// Checks that Redis can be used, by acquiring and releasing a lease.
    ///
    /// # Errors
    /// The reason why Redis cannot be used.
    ///
    /// # Cancel safety
    /// Safe to cancel.
    pub async fn check(&self) -> Result<ServerInfo, ConnectionError> {
        let connection = &self.0.shared.connection;
        let (info, _): (String, _) = connection.call(|_| redis::cmd("INFO")).await?;
        let attempt = self.attempt(&UploadId::random(), None);
        self.0.acquire(&attempt, YieldRequest::None).await?;
        let valkey = field(&info, "valkey_version");
        let limited = field(&info, "maxmemory").is_some_and(|limit| limit != "0");
        let policy = field(&info, "maxmemory_policy").filter(|policy| *policy != "noeviction");
        Ok(ServerInfo {
            name: if valkey.is_some() { "valkey" } else { "redis" }.into(),
            version: valkey
                .or_else(|| field(&info, "redis_version"))
                .unwrap_or_default()
                .into(),
            eviction_policy: policy.filter(|_| limited).map(str::to_owned),
        })
    }

    /// Returns statistics about the leases of this node.
    #[must_use]
    pub fn stats(&self) -> LeaseStats {
        let Shared {
            table, connection, ..
        } = &*self.0.shared;
        table.stats(connection.is_connected())
    }

    /// Waits until Redis has released the dropped leases.
    ///
    /// It waits [`RedisSettings::timeout`] at most; leases that were not released expire.
    ///
    /// # Cancel safety
    /// Safe to cancel.
    pub async fn close(&self) {
        let shared = &self.0.shared;
        let _ = timeout(shared.settings.timeout, shared.table.all_released()).await;
    }

    fn attempt(&self, id: &UploadId, local: Option<Lease>) -> Attempt {
        let locker = Arc::clone(&self.0) as Arc<dyn Any + Send + Sync>;
        Attempt::new(&self.0.shared.table, locker, id, local)
    }

    async fn acquire_now(
        &self,
        local: Lease,
        id: &UploadId,
        request: YieldRequest,
    ) -> Result<Lease, Rejection> {
        let attempt = self.attempt(id, Some(local));
        match self.0.acquire(&attempt, request).await {
            Ok((AcquireReply::Granted(fence), sent)) => attempt.granted(fence, sent),
            Ok((AcquireReply::Held(remaining), _)) => {
                Err(attempt.held(self.0.shared.settings.poll_interval, remaining))
            }
            Err(error) => Err(self.0.shared.table.unavailable(error)),
        }
    }
}

impl fmt::Debug for RedisLocker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisLocker")
            .field("redis", &self.0.shared.connection.address())
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl Locker for RedisLocker {
    async fn acquire_at(
        &self,
        id: &UploadId,
        offset: Option<u64>,
        wait: Duration,
    ) -> Result<Lease, LeaseError> {
        let attempt = |local| self.acquire_now(local, id, YieldRequest::Yield(offset));
        self.0.shared.table.acquire(id, offset, wait, attempt).await
    }

    async fn try_acquire(&self, id: &UploadId) -> Result<Lease, LeaseError> {
        let attempt = |local| self.acquire_now(local, id, YieldRequest::None);
        self.0.shared.table.try_acquire(id, attempt).await
    }
}

impl LockerInner {
    async fn acquire(
        &self,
        attempt: &Attempt,
        request: YieldRequest,
    ) -> Result<(AcquireReply, Instant), ConnectionError> {
        let max_fence = self.max_fence.load(Ordering::Relaxed);
        let call = self.shared.connection.call(|live| {
            let (id, number) = (attempt.id(), attempt.number());
            (self.shared.scripts).acquire(live.run(), id, number, max_fence, request)
        });
        let (reply, sent) = call.await?;
        let reply = Scripts::acquire_reply(reply);
        if let AcquireReply::Granted(fence) = reply {
            self.max_fence.fetch_max(fence.0, Ordering::Relaxed);
        }
        Ok((reply, sent))
    }
}

/// Handles a message of another node: `yield OWNER:NUMBER OFFSET ID` for the holder of a lease, or
/// `free ID` for its waiters.
fn handle_message(table: &LeaseTable, owner: &str, message: &[u8]) {
    let Ok(message) = std::str::from_utf8(message) else {
        return;
    };
    if let Some(id) = message.strip_prefix("free ") {
        if let Ok(id) = UploadId::new(id) {
            table.wake(&id);
        }
    } else if let Some(request) = message.strip_prefix("yield ")
        && let Some(request) = request.strip_prefix(owner)
        && let Some(request) = request.strip_prefix(':')
        && let Some((number, request)) = request.split_once(' ')
        && let Some((offset, id)) = request.split_once(' ')
        && let Some(offset) = parse_offset(offset)
        && let (Ok(number), Ok(id)) = (number.parse(), UploadId::new(id))
    {
        table.request_yield(&id, number, offset);
    }
}
