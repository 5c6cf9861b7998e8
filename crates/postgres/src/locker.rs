//! The locker.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use async_trait::async_trait;
use landfall::{
    lease::{Asked, Fence, Held, Lease, LeaseError, Locker, MemoryLocker},
    upload::UploadId,
};
use landfall_database::{Acquisition, Connections, DatabaseError, LeaseOwner, Leases};
use tokio::{
    runtime::Handle,
    sync::{oneshot, watch},
    time::{sleep, timeout},
};

use crate::{
    keeper::{self, Shared},
    settings::{PostgresSettings, SettingsError},
};

/// Interval at which a waiter repeats its request while another node is the next one.
const SECOND_WAITER_INTERVAL: Duration = Duration::from_millis(100);

/// Time limit of the first check, in which a pool finds out why it cannot connect.
const CHECK_TIMEOUT: Duration = Duration::from_secs(10);

/// A locker that stores leases in PostgreSQL, for nodes that share a store.
///
/// Within the node it is a [`MemoryLocker`]: requests of one node wait for an upload in its memory,
/// and only the first of them calls PostgreSQL. A request for a lease that another node holds writes
/// the name of its node into the row and notifies the holder. When the holder has released the lease,
/// it is reserved for the waiter, which is notified. Notifications may be lost: the waiter repeats its
/// request every [`poll_interval`](PostgresSettings::poll_interval), and when the lease expires.
///
/// Clones share the leases. A thread of its own has the connections, five of them; it ends with the
/// last clone and the last lease. Waiting needs a tokio runtime with its timer on.
///
/// # Cost
/// Two statements for each lease, one to acquire and one to release it; releases of the same moment
/// share a statement. Every quarter of the [`ttl`](PostgresSettings::ttl) one statement renews all
/// leases of the node that are older than an eighth of it. An upload has one row in the table
/// `leases`, which is removed an hour after its last lease.
///
/// # Fences
/// The leases of one upload are numbered one by one: the next number proves that no other node had
/// the lease in between. An upload without a row starts in a block of numbers that is greater than
/// all before it.
///
/// # Availability
/// Without PostgreSQL a request gets [`LeaseError::Unavailable`] within
/// [`timeout`](PostgresSettings::timeout), at once if PostgreSQL has not been available for longer. A
/// holder continues until four fifths of the lifetime have passed since its last renewal was sent,
/// by the clock of its own machine; then its lease is [lost](landfall::lease::Asked::Lost). A restart
/// of PostgreSQL loses no lease. A failover to a standby that lags behind may: use synchronous
/// replication.
///
/// Nodes of one cluster use the same database and schema; other clusters use other ones. Only the
/// clock of the database decides whether a lease has expired. PgBouncer works in session mode only:
/// LISTEN needs a session.
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use std::time::Duration;
/// use landfall::{lease::Locker, upload::UploadId};
/// use landfall_postgres::{PostgresLocker, PostgresSettings};
///
/// let url = "postgres://landfall@127.0.0.1/landfall";
/// let locker = PostgresLocker::new(url, PostgresSettings::default())?;
/// let lease = locker.acquire(&UploadId::random(), Duration::from_secs(20)).await?;
/// drop(lease);
/// locker.close().await;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct PostgresLocker(Arc<Node>);

struct Node {
    local: MemoryLocker,
    shared: Arc<Shared>,
    keeper: Handle,
    granted: AtomicU64,
    waited: AtomicU64,
    unavailable: AtomicU64,
    /// The table exists, and notifications arrived once.
    is_checked: AtomicBool,
    stop: watch::Sender<bool>,
}

/// Statistics of a locker.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Leases held now.
    pub held: usize,
    /// Leases granted.
    pub granted: u64,
    /// Leases that another node released first.
    pub waited: u64,
    /// Leases lost: not renewed in time, or acquired by another node.
    pub lost: u64,
    /// Requests for a lease that failed because of PostgreSQL.
    pub unavailable: u64,
    /// The last call succeeded, and notifications arrive.
    pub connected: bool,
}

impl PostgresLocker {
    /// Creates a locker in the database at `url`: `postgres://user:password@host/name`, with libpq's
    /// parameters.
    ///
    /// Starts to connect without waiting for it: see [`check`](Self::check).
    ///
    /// # Errors
    /// [`SettingsError`], never because PostgreSQL is not available.
    pub fn new(url: &str, settings: PostgresSettings) -> Result<Self, SettingsError> {
        settings.check()?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(SettingsError::Thread)?;
        let connections = {
            let _guard = runtime.enter();
            Connections::sessions(url).map_err(SettingsError::Url)?
        };
        let connections = match settings.may_migrate {
            true => connections,
            false => connections.without_migrations(),
        };
        let shared = Arc::new(Shared::new(Leases::new(connections), settings));
        let (stop, stopped) = watch::channel(false);
        let keeper = keeper::start(Arc::clone(&shared), stopped, runtime)?;
        Ok(Self(Arc::new(Node {
            local: MemoryLocker::new(),
            shared,
            keeper,
            granted: AtomicU64::new(0),
            waited: AtomicU64::new(0),
            unavailable: AtomicU64::new(0),
            is_checked: AtomicBool::new(false),
            stop,
        })))
    }

    /// Checks that PostgreSQL can be used, by acquiring a lease. The first time it makes the table if
    /// it is missing, and checks that notifications arrive.
    ///
    /// # Errors
    /// The reason why it cannot be used.
    ///
    /// # Cancel safety
    /// May be dropped.
    pub async fn check(&self) -> Result<(), DatabaseError> {
        let shared = Arc::clone(&self.0.shared);
        if !self.0.is_checked.load(Ordering::Relaxed) {
            let check = async move {
                // PgBouncer in transaction mode would fail in other ways later.
                drop(shared.leases.subscribe().await?);
                shared.migrate().await
            };
            self.0.spawn(CHECK_TIMEOUT, check).await?;
            self.0.is_checked.store(true, Ordering::Relaxed);
        }
        let attempt = Attempt::new(&self.0, &UploadId::random(), None);
        attempt.acquire(false).await.map(drop)
    }

    /// Returns statistics.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Stats {
            held: self.0.shared.table.len(),
            granted: count(&self.0.granted),
            waited: count(&self.0.waited),
            lost: self.0.shared.table.times_lost(),
            unavailable: count(&self.0.unavailable),
            connected: self.0.shared.is_connected(),
        }
    }

    /// Waits until the database has released the leases that were dropped, for
    /// [`PostgresSettings::timeout`] at most: other nodes would have to wait until they expire.
    ///
    /// # Cancel safety
    /// May be dropped.
    pub async fn close(&self) {
        let released = async {
            loop {
                let sent = self.0.shared.sent.notified();
                tokio::pin!(sent);
                sent.as_mut().enable();
                if self.0.shared.table.is_released() {
                    return;
                }
                sent.await;
            }
        };
        let _ = timeout(self.0.shared.settings.timeout, released).await;
    }

    /// Acquires the lease in the database for a request that has it within this node.
    async fn acquire_now(
        &self,
        local: Lease,
        id: &UploadId,
        waits: bool,
    ) -> Result<Lease, Rejection> {
        let signal = local.signal().clone();
        let attempt = Attempt::new(&self.0, id, Some(local));
        let unavailable = |error| {
            self.0.unavailable.fetch_add(1, Ordering::Relaxed);
            Err(Rejection::Failed(LeaseError::Unavailable(error)))
        };
        let (mut attempt, acquisition, sent) = match attempt.acquire(waits).await {
            Ok(acquired) => acquired,
            Err(error) => return unavailable(Box::new(error)),
        };
        let (fence, is_wanted) = match acquisition {
            Acquisition::Granted { fence, is_wanted } => (fence, is_wanted),
            Acquisition::Held { remaining, is_next } => {
                attempt.is_acquired = false;
                // Only the next node is notified.
                let poll = match is_next {
                    true => self.0.shared.settings.poll_interval,
                    false => SECOND_WAITER_INTERVAL,
                };
                let retry = poll.min(remaining + Duration::from_millis(1));
                return match attempt.local.take() {
                    Some(local) => Err(Rejection::Held(local, retry)),
                    None => Err(Rejection::Failed(LeaseError::Held)),
                };
            }
        };
        let owner = attempt.owner.clone();
        if !(self.0.shared.table).insert(id, owner, signal.clone(), sent) {
            return unavailable("PostgreSQL responded too late".into());
        }
        self.0.granted.fetch_add(1, Ordering::Relaxed);
        if is_wanted {
            signal.raise(Asked::Yield);
        }
        Ok(Lease::new(Fence(fence), signal, Box::new(attempt)))
    }
}

impl fmt::Debug for PostgresLocker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresLocker")
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}

/// A reason why no lease was granted.
enum Rejection {
    /// Another node has it; the request is to be repeated after this long.
    Held(Lease, Duration),
    Failed(LeaseError),
}

#[async_trait]
impl Locker for PostgresLocker {
    async fn acquire(&self, id: &UploadId, wait: Duration) -> Result<Lease, LeaseError> {
        let started = Instant::now();
        let mut local = self.0.local.acquire(id, wait).await?;
        // Registers before it requests, so that no notification is missed.
        let waiter = self.0.shared.table.wait_for(id);
        let mut is_first = true;
        loop {
            let left = wait.saturating_sub(started.elapsed());
            let retry;
            (local, retry) = match self.acquire_now(local, id, true).await {
                Ok(lease) => return Ok(lease),
                Err(Rejection::Failed(error)) => return Err(error),
                Err(Rejection::Held(local, retry)) => (local, retry),
            };
            if left.is_zero() {
                return Err(LeaseError::Held);
            }
            if std::mem::take(&mut is_first) {
                self.0.waited.fetch_add(1, Ordering::Relaxed);
            }
            // Not all waiters of all nodes at once.
            let retry = retry.mul_f64(rand::random_range(1.0..1.3));
            tokio::select! {
                () = waiter.woken() => {}
                () = sleep(retry.min(left)) => {}
            }
        }
    }

    async fn try_acquire(&self, id: &UploadId) -> Result<Lease, LeaseError> {
        let local = self.0.local.try_acquire(id).await?;
        match self.acquire_now(local, id, false).await {
            Ok(lease) => Ok(lease),
            Err(Rejection::Failed(error)) => Err(error),
            Err(Rejection::Held(..)) => Err(LeaseError::Held),
        }
    }
}

impl Node {
    /// Makes a call in the runtime that has the connections. It is finished there even if this
    /// future is dropped.
    async fn spawn<T: Send + 'static>(
        &self,
        limit: Duration,
        call: impl Future<Output = Result<T, DatabaseError>> + Send + 'static,
    ) -> Result<T, DatabaseError> {
        let (send, result) = oneshot::channel();
        let shared = Arc::clone(&self.shared);
        self.keeper.spawn(async move {
            let _ = send.send(shared.call(limit, call).await);
        });
        result.await.unwrap_or(Err(DatabaseError::Closed))
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.stop.send_replace(true);
    }
}

/// A lease that the database may have granted, and the lease within this node. On drop it is
/// released in both, also if the response never arrived.
struct Attempt {
    node: Arc<Node>,
    id: UploadId,
    owner: LeaseOwner,
    local: Option<Lease>,
    is_acquired: bool,
}

impl Attempt {
    fn new(node: &Arc<Node>, id: &UploadId, local: Option<Lease>) -> Self {
        Self {
            node: Arc::clone(node),
            id: id.clone(),
            owner: node.shared.table.next_owner(),
            local,
            is_acquired: false,
        }
    }

    /// Calls the database. If the caller is gone, the response is dropped after the call, and with
    /// it this attempt: a release before the response could be overtaken by the call.
    async fn acquire(mut self, waits: bool) -> Result<(Self, Acquisition, Instant), DatabaseError> {
        let node = Arc::clone(&self.node);
        let limit = node.shared.settings.timeout;
        if node.shared.down_for().is_some_and(|down| down > limit) {
            return Err(DatabaseError::NoConnection {
                timeout: limit,
                reason: "PostgreSQL is not available".to_owned(),
            });
        }
        self.is_acquired = true;
        let sent = Instant::now();
        let shared = Arc::clone(&node.shared);
        let call = async move {
            let settings = &shared.settings;
            let name = crate::table::Table::name(&self.id);
            let waits_for = waits.then_some(settings.poll_interval * 4);
            let acquired = shared
                .leases
                .acquire(&name, &self.owner, settings.ttl, waits_for)
                .await?;
            Ok((self, acquired, sent))
        };
        node.spawn(limit, call).await
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if self.is_acquired {
            // The lease within this node is released after it.
            let table = &self.node.shared.table;
            table.release(&self.id, self.owner.clone());
        }
    }
}

impl Held for Attempt {}

impl fmt::Debug for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Attempt").field(&self.id).finish()
    }
}
