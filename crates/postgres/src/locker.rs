//! The locker.

use std::{
    any::Any,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use async_trait::async_trait;
use landfall::{
    lease::{
        Fence, Lease, LeaseError, Locker,
        remote::{self, LeaseStats, Rejection},
    },
    upload::UploadId,
};
use landfall_database::{
    Acquisition, Connections, DatabaseError, LeaseOwner, Leases, WaitingRequest,
};
use tokio::{
    runtime::Handle,
    sync::{oneshot, watch},
    time::timeout,
};

use crate::{
    keeper::{self, Shared},
    settings::{PostgresSettings, SettingsError},
};

type Attempt = remote::Attempt<LeaseOwner>;

/// Interval at which a waiter repeats its request while another node is the next one.
const SECOND_WAITER_INTERVAL: Duration = Duration::from_millis(100);

/// Time limit of the first check, in which a pool finds out why it cannot connect.
const CHECK_TIMEOUT: Duration = Duration::from_secs(10);

/// A locker that stores leases in PostgreSQL, for nodes that share a store.
///
/// Within the node it is a [`MemoryLocker`](landfall::lease::MemoryLocker): requests of one node wait for an upload in its memory,
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
    shared: Arc<Shared>,
    keeper: Handle,
    /// The table exists, and notifications arrived once.
    is_checked: AtomicBool,
    stop: watch::Sender<bool>,
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
            shared,
            keeper,
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
        self.call(&UploadId::random(), None, None).await.map(drop)
    }

    /// Returns statistics.
    #[must_use]
    pub fn stats(&self) -> LeaseStats {
        let Shared { table, .. } = &*self.0.shared;
        table.stats(self.0.shared.is_connected())
    }

    /// Waits until the database has released the leases that were dropped, for
    /// [`PostgresSettings::timeout`] at most: other nodes would have to wait until they expire.
    ///
    /// # Cancel safety
    /// May be dropped.
    pub async fn close(&self) {
        let Shared {
            table, settings, ..
        } = &*self.0.shared;
        let _ = timeout(settings.timeout, table.all_released()).await;
    }

    /// Acquires the lease in the database for a request that has it within this node.
    async fn acquire_now(
        &self,
        local: Lease,
        id: &UploadId,
        request: Option<WaitingRequest>,
    ) -> Result<Lease, Rejection> {
        let Shared {
            table, settings, ..
        } = &*self.0.shared;
        match self.call(id, Some(local), request).await {
            Ok((attempt, Acquisition::Granted { fence, waiting }, sent)) => {
                let lease = attempt.granted(Fence(fence), sent)?;
                if let Some(request) = waiting {
                    lease.signal().request(request.offset);
                }
                Ok(lease)
            }
            Ok((attempt, Acquisition::Held { remaining, is_next }, _)) => {
                // Only the next node is notified.
                let poll = match is_next {
                    true => settings.poll_interval,
                    false => SECOND_WAITER_INTERVAL,
                };
                Err(attempt.held(poll, remaining))
            }
            Err(error) => Err(table.unavailable(error)),
        }
    }

    /// Calls the database. If the caller is gone, the response is dropped after the call, and with
    /// it the attempt: a release before the response could be overtaken by the call.
    async fn call(
        &self,
        id: &UploadId,
        local: Option<Lease>,
        request: Option<WaitingRequest>,
    ) -> Result<(Attempt, Acquisition, Instant), DatabaseError> {
        let shared = Arc::clone(&self.0.shared);
        let limit = shared.settings.timeout;
        if shared.down_for().is_some_and(|down| down > limit) {
            return Err(DatabaseError::NoConnection {
                timeout: limit,
                reason: "PostgreSQL is not available".to_owned(),
            });
        }
        let locker = Arc::clone(&self.0) as Arc<dyn Any + Send + Sync>;
        let attempt = Attempt::new(&shared.table, locker, id, shared.next_owner(), local);
        let sent = Instant::now();
        let call = async move {
            let settings = &shared.settings;
            let name = keeper::name(attempt.id());
            let waits_for = request.map(|request| (settings.poll_interval * 4, request));
            let acquired = shared
                .leases
                .acquire(&name, attempt.owner(), settings.ttl, waits_for)
                .await?;
            Ok((attempt, acquired, sent))
        };
        self.0.spawn(limit, call).await
    }
}

impl fmt::Debug for PostgresLocker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresLocker")
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl Locker for PostgresLocker {
    async fn acquire(&self, id: &UploadId, wait: Duration) -> Result<Lease, LeaseError> {
        let request = WaitingRequest { offset: None };
        let attempt = |local| self.acquire_now(local, id, Some(request));
        self.0.shared.table.acquire(id, None, wait, attempt).await
    }

    async fn acquire_at(
        &self,
        id: &UploadId,
        offset: u64,
        wait: Duration,
    ) -> Result<Lease, LeaseError> {
        let offset = Some(offset);
        let attempt = |local| self.acquire_now(local, id, Some(WaitingRequest { offset }));
        self.0.shared.table.acquire(id, offset, wait, attempt).await
    }

    async fn try_acquire(&self, id: &UploadId) -> Result<Lease, LeaseError> {
        let attempt = |local| self.acquire_now(local, id, None);
        self.0.shared.table.try_acquire(id, attempt).await
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
