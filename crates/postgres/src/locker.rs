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
        remote::{Attempt, LeaseStats, LeaseThread, Rejection},
    },
    upload::UploadId,
};
use landfall_state::sql::{Connections, DatabaseError};
use tokio::{sync::oneshot, time::timeout};

use crate::{
    leases::{Acquisition, WaitingRequest},
    renewer::Shared,
    settings::{PostgresSettings, SettingsError},
};

const SECOND_WAITER_INTERVAL: Duration = Duration::from_millis(100);

const CHECK_TIMEOUT: Duration = Duration::from_secs(10);

/// A locker that stores leases in PostgreSQL, for nodes that share a store.
///
/// Within the node it is a [`MemoryLocker`](landfall::lease::MemoryLocker): requests wait for an
/// upload in memory, and only the first one calls PostgreSQL. A request for a lease that another
/// node holds writes the name of its node into the row and notifies the holder. When the holder
/// releases the lease, it is reserved for the waiter, which is notified. Notifications may be lost:
/// the waiter repeats its request every [`poll_interval`](PostgresSettings::poll_interval), and
/// when the lease expires.
///
/// Clones share the leases. A separate thread owns the connections, at most five; it ends with the
/// last clone and the last lease. Waiting needs a tokio runtime with its timer enabled.
///
/// # Cost
/// Two statements for each lease: one acquires and one releases it; concurrent releases share a
/// statement. Every quarter of the [`ttl`](PostgresSettings::ttl) one statement renews all leases
/// of the node that are older than an eighth of it. An upload has one row in the table `leases`,
/// which is removed an hour after its last lease.
///
/// # Fencing tokens
/// The leases of one upload are numbered consecutively: the next number proves that no other node
/// had the lease in between. An upload without a row starts in a block of numbers that is greater
/// than all before it.
///
/// # Availability
/// While PostgreSQL is unavailable, a request fails with [`LeaseError::Unavailable`] within
/// [`timeout`](PostgresSettings::timeout), or at once if the outage has lasted longer. A holder
/// continues until four fifths of the lifetime have passed since its last renewal was sent, by its
/// local clock; then its lease is [lost](landfall::lease::YieldReason::LeaseLost). A restart of PostgreSQL
/// loses no lease. A failover to a lagging standby may: use synchronous replication.
///
/// All nodes of a cluster use the same database and schema; other clusters use different ones. Only
/// the clock of the database decides whether a lease has expired. PgBouncer works in session mode
/// only: LISTEN needs a session.
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
pub struct PostgresLocker(Arc<LockerInner>);

struct LockerInner {
    shared: Arc<Shared>,
    thread: LeaseThread,
    is_checked: AtomicBool,
}

impl PostgresLocker {
    /// Creates a locker in the database at `url`, and starts to connect.
    ///
    /// The URL is `postgres://user:password@host/name` with libpq's parameters. Use
    /// [`check`](Self::check) to wait for the connection.
    ///
    /// # Errors
    /// [`SettingsError`], but never because PostgreSQL is unavailable.
    pub fn new(url: &str, settings: PostgresSettings) -> Result<Self, SettingsError> {
        settings.check()?;
        let runtime = LeaseThread::runtime().map_err(SettingsError::Thread)?;
        let connections = {
            let _guard = runtime.enter();
            Connections::sessions(url).map_err(SettingsError::Url)?
        };
        let connections = if settings.can_migrate {
            connections
        } else {
            connections.without_migrations()
        };
        let shared = Arc::new(Shared::new(connections, settings));
        let node = Arc::clone(&shared);
        let thread = LeaseThread::start(runtime, |stop| node.run(stop));
        Ok(Self(Arc::new(LockerInner {
            shared,
            thread: thread.map_err(SettingsError::Thread)?,
            is_checked: AtomicBool::new(false),
        })))
    }

    /// Checks that PostgreSQL can be used, by acquiring a lease.
    ///
    /// The first call creates the table if it is missing, and checks that notifications arrive.
    ///
    /// # Errors
    /// The reason why PostgreSQL cannot be used.
    ///
    /// # Cancel safety
    /// Safe to cancel.
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

    /// Returns statistics about the leases of this node.
    #[must_use]
    pub fn stats(&self) -> LeaseStats {
        let shared = &self.0.shared;
        shared.table.stats(shared.is_connected())
    }

    /// Waits until the database has released the dropped leases.
    ///
    /// It waits [`PostgresSettings::timeout`] at most; leases that were not released expire.
    ///
    /// # Cancel safety
    /// Safe to cancel.
    pub async fn close(&self) {
        let shared = &self.0.shared;
        let _ = timeout(shared.settings.timeout, shared.table.all_released()).await;
    }

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
                let poll = if is_next {
                    settings.poll_interval
                } else {
                    SECOND_WAITER_INTERVAL
                };
                Err(attempt.held(poll, remaining))
            }
            Err(error) => Err(table.unavailable(error)),
        }
    }

    /// If the caller is cancelled, the attempt is dropped after the response: a release sent before the
    /// response could arrive before the call.
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
        let attempt = Attempt::new(&shared.table, locker, id, local);
        let sent = Instant::now();
        let call = async move {
            let settings = &shared.settings;
            let waits_for = request.map(|request| (settings.poll_interval * 4, request));
            let (id, number) = (attempt.id(), attempt.number());
            let acquired = shared.leases.acquire(id, number, settings.ttl, waits_for);
            let acquired = acquired.await?;
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
    async fn acquire_at(
        &self,
        id: &UploadId,
        offset: Option<u64>,
        wait: Duration,
    ) -> Result<Lease, LeaseError> {
        let attempt = |local| self.acquire_now(local, id, Some(WaitingRequest { offset }));
        self.0.shared.table.acquire(id, offset, wait, attempt).await
    }

    async fn try_acquire(&self, id: &UploadId) -> Result<Lease, LeaseError> {
        let attempt = |local| self.acquire_now(local, id, None);
        self.0.shared.table.try_acquire(id, attempt).await
    }
}

impl LockerInner {
    async fn spawn<T: Send + 'static>(
        &self,
        limit: Duration,
        call: impl Future<Output = Result<T, DatabaseError>> + Send + 'static,
    ) -> Result<T, DatabaseError> {
        let (send, result) = oneshot::channel();
        let shared = Arc::clone(&self.shared);
        self.thread.handle().spawn(async move {
            let _ = send.send(shared.call(limit, call).await);
        });
        result.await.unwrap_or(Err(DatabaseError::Closed))
    }
}
