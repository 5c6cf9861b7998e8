//! Leases in PostgreSQL.
//!
//! A row of the table `leases` holds name, owner, expiry and fence. The row of a released lease is
//! retained for a while, so that the fences of a name increase by one. After the row is removed, a new
//! one starts in a block of fences that no row has used. A node can wait for a lease: the row names it,
//! and notifications make the holder yield and inform the waiter that the lease is reserved for it. They
//! are sent to the node that they concern, and only while a node waits.
//!
//! Behind PgBouncer in transaction mode there are no notifications: a waiter repeats its request, and a
//! holder learns of it when it renews its leases. No call needs a session.

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use landfall::{lease::Fence, upload::UploadId};
use landfall_state::sql::{
    Connections, DatabaseError, Durability, Listener, Migration, Statement, millis, signed,
    unsigned,
};
use parking_lot::Mutex;
use tokio::{
    runtime::Runtime,
    sync::{Notify, OnceCell},
    time::{Instant, sleep, timeout},
};

use crate::{
    locker::RemoteLocker,
    service::{
        Acquisition, GrantedLease, LeaseService, Message, Renewal, WaitingRequest, node_name,
    },
    settings::{LeaseSettings, SettingsError},
    table::{LeaseTable, OwnedLease, QueuedRelease},
    thread::LeaseThread,
};

const MIGRATIONS: &[Migration] = &[
    Migration::expand("", include_str!("../../migrations/0001-leases.sql")),
    Migration::expand("", include_str!("../../migrations/0002-settled.sql")),
];
/// The channel of nodes of earlier releases, which listen to no other one; the name of a node is appended.
const CHANNEL: &str = "landfall_leases";
/// Other parts of the server may have leases as well.
const PREFIX: &str = "upload/";
const HANDOFF_WINDOW: Duration = Duration::from_millis(200);
/// Only the first waiter is notified.
const SECOND_WAITER_INTERVAL: Duration = Duration::from_millis(100);
/// Another statement inserted the row at the same time.
const CONFLICT_DELAY: Duration = Duration::from_millis(5);
const CHECK_TIMEOUT: Duration = Duration::from_secs(10);
const RETRY_DELAY: Duration = Duration::from_millis(250);
const PURGE_INTERVAL: Duration = Duration::from_secs(600);
/// After that, the next lease of the upload has a fence in another block, which costs the store some calls.
const RETENTION: Duration = Duration::from_secs(3600);

/// A locker that stores leases in PostgreSQL.
///
/// A request for a lease that another node holds writes the name of its node into the row and notifies
/// the holder. The connections are those of the program ([`shared`](PostgresLocker::shared)), or at most five
/// of the lease thread.
///
/// # Cost
/// Two statements for each lease: one acquires and one releases it; concurrent releases share a
/// statement. Every quarter of the [`ttl`](LeaseSettings::ttl) one statement renews all leases of the
/// node that are older than an eighth of it. An upload has one row in the table `leases`, which is
/// removed an hour after its last lease.
///
/// # Fencing tokens
/// The leases of one upload are numbered consecutively: the next number proves that no other node had
/// the lease in between. An upload without a row starts in a block of numbers that is greater than all
/// before it.
///
/// # Availability
/// A restart of PostgreSQL loses no lease. If the table is emptied, as that of a new database, no lease is
/// granted for one lifetime, until holders have noticed or expired. A failover to a standby that lags behind, or a
/// backup that is restored while nodes run, may lose leases that nobody misses: two nodes hold one until the next
/// renewal. Use synchronous replication.
///
/// All nodes of a cluster use the same database and schema; other clusters use different ones.
/// Through PgBouncer in transaction mode (`statement-cache-capacity=0` in the URL) no notification arrives: a
/// holder yields up to a quarter of the [`ttl`](LeaseSettings::ttl) later, and the waiter gets the lease up to a
/// [`poll_interval`](LeaseSettings::poll_interval) after that.
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use landfall::{Composer, store::file::FileStore};
/// use landfall_leases::{LeaseSettings, PostgresLocker};
///
/// let url = "postgres://landfall@127.0.0.1/landfall";
/// let locker = PostgresLocker::new(url, LeaseSettings::postgres())?;
/// let composer = Composer::join(FileStore::new("/srv/uploads")?).with_locker(locker.clone());
/// // …
/// locker.close().await;
/// # Ok(()) }
/// ```
pub type PostgresLocker = RemoteLocker<PostgresLeases>;

impl PostgresLocker {
    /// Creates a locker in the database at `url`, and starts to connect.
    ///
    /// The URL is `postgres://user:password@host/name` with libpq's parameters. Use
    /// [`check`](Self::check) to wait for the connection: the first call creates the table if it is
    /// missing, and checks that notifications arrive.
    ///
    /// # Errors
    /// [`SettingsError`], but never because PostgreSQL is unavailable.
    pub fn new(url: &str, settings: LeaseSettings) -> Result<Self, SettingsError> {
        settings.check()?;
        let runtime = LeaseThread::runtime().map_err(SettingsError::Thread)?;
        let connections = {
            let _guard = runtime.enter();
            let max = Connections::DEFAULT_MAX;
            Connections::to_postgres(url, Durability::PowerLoss, max).map_err(SettingsError::Url)?
        };
        Self::with_connections(runtime, connections, settings)
    }

    /// Like [`new`](Self::new), with connections to PostgreSQL that other parts of the program use as well. They
    /// must stay open until the locker is [closed](Self::close).
    ///
    /// # Errors
    /// [`SettingsError`].
    pub fn shared(
        connections: &Connections,
        settings: LeaseSettings,
    ) -> Result<Self, SettingsError> {
        settings.check()?;
        let runtime = LeaseThread::runtime().map_err(SettingsError::Thread)?;
        Self::with_connections(runtime, connections.urgent(), settings)
    }

    fn with_connections(
        runtime: Runtime,
        connections: Connections,
        settings: LeaseSettings,
    ) -> Result<Self, SettingsError> {
        // Nodes of earlier releases have hexadecimal names.
        let node = format!("n{}", node_name());
        let service = PostgresLeases::new(connections, node, settings.clone());
        Self::start(runtime, service, settings)
    }
}

/// The connections of a [`PostgresLocker`].
pub struct PostgresLeases {
    connections: Connections,
    /// Contains neither `:` nor white space.
    node: String,
    settings: LeaseSettings,
    /// Since the last successful call.
    down_since: Mutex<Option<Instant>>,
    failed: Notify,
    migrated: OnceCell<()>,
    is_checked: AtomicBool,
    is_subscribed: AtomicBool,
}

impl PostgresLeases {
    fn new(connections: Connections, node: String, settings: LeaseSettings) -> Self {
        let connections = match settings.can_migrate {
            true => connections,
            false => connections.without_migrations(),
        };
        Self {
            connections,
            node,
            settings,
            down_since: Mutex::default(),
            failed: Notify::new(),
            migrated: OnceCell::new(),
            is_checked: AtomicBool::new(false),
            is_subscribed: AtomicBool::new(false),
        }
    }

    async fn call<T>(
        &self,
        limit: Duration,
        call: impl Future<Output = Result<T, DatabaseError>>,
    ) -> Result<T, DatabaseError> {
        let result = timeout(limit, call).await.unwrap_or_else(|_| {
            Err(match self.connections.connect_error() {
                Some(reason) => DatabaseError::NoConnection {
                    timeout: limit,
                    reason,
                },
                None => DatabaseError::Timeout(limit),
            })
        });
        let mut down_since = self.down_since.lock();
        match &result {
            Err(error) if !error.is_statement_error() => {
                down_since.get_or_insert_with(Instant::now);
                self.failed.notify_one();
            }
            _ => *down_since = None,
        }
        result
    }

    /// Returns a statement with the time of the database for `:now`: after waiting for a row it is
    /// early, which is safe.
    fn statement(&self, sql: &str) -> Statement {
        Statement::new(sql.replace(":now", self.connections.now_sql()))
    }

    /// Returns a statement for leases of this node.
    fn batch<'a>(
        &self,
        sql: &str,
        leases: impl Iterator<Item = (&'a UploadId, u64)>,
        span: Duration,
    ) -> Statement {
        let (names, owners): (Vec<_>, Vec<_>) = leases
            .map(|(id, number)| (name(id), format!("{}:{number}", self.node)))
            .unzip();
        let statement = self.statement(sql).with(names.join(" "));
        statement.with(owners.join(" ")).with(millis(span))
    }

    async fn migrate(&self) -> Result<(), DatabaseError> {
        let migrate = || self.connections.migrate("leases", MIGRATIONS);
        self.migrated.get_or_try_init(migrate).await.copied()
    }

    /// Subscribes to the notifications for this node.
    async fn subscribe(&self) -> Result<Listener, DatabaseError> {
        let mut listener = self.connections.listener().await?;
        // PostgreSQL folds the case of no name that is quoted, and this one is lower case.
        listener.listen(&format!("{CHANNEL}_{}", self.node)).await?;
        listener.listen(CHANNEL).await?;
        Ok(listener)
    }

    fn message(&self, text: &str) -> Option<Message> {
        let request = |text: &str| WaitingRequest::from_column(text.parse().ok()?);
        Message::parse(text, &self.node, request, upload_id)
    }

    async fn receive(&self, table: &LeaseTable) {
        loop {
            let lost = self.receive_until_lost(table).await;
            self.is_subscribed.store(false, Ordering::Relaxed);
            match lost {
                Err(DatabaseError::NoNotifications) if !self.connections.has_notifications() => {
                    self.is_subscribed.store(true, Ordering::Relaxed);
                    return;
                }
                Err(error) => tracing::debug!(%error, "notifications about leases are interrupted"),
                Ok(()) => {}
            }
            sleep(RETRY_DELAY).await;
        }
    }

    async fn receive_until_lost(&self, table: &LeaseTable) -> Result<(), DatabaseError> {
        self.migrate().await?;
        let mut listener = self.subscribe().await?;
        self.is_subscribed.store(true, Ordering::Relaxed);
        // Notifications may have been lost meanwhile.
        table.resume();
        loop {
            if let Some(message) = self.message(&listener.receive().await?) {
                message.deliver(table);
            }
        }
    }

    async fn probe(&self, table: &LeaseTable) {
        // It affects no row: no lease has this number.
        let none = [QueuedRelease::new(UploadId::random(), 0, false)];
        loop {
            self.failed.notified().await;
            while !self.is_available() {
                sleep(RETRY_DELAY).await;
                let _ = self.release(&none).await;
            }
            // Repeat what failed meanwhile.
            table.resume();
        }
    }

    async fn purge(&self) {
        loop {
            // Jitter keeps nodes from purging at the same time.
            sleep(PURGE_INTERVAL.mul_f64(rand::random_range(0.5..1.5))).await;
            if let Err(error) = self.purge_older_than(RETENTION).await {
                tracing::warn!(%error, "failed to purge the table of leases");
            }
        }
    }

    /// Removes the rows of leases that expired or were released at least `age` ago.
    async fn purge_older_than(&self, age: Duration) -> Result<(), DatabaseError> {
        let purge =
            self.statement("DELETE FROM leases WHERE expires_at <= :now - $1 AND name <> 'since'");
        let purge = self.connections.fetch(purge.with(millis(age)));
        purge.await.map(drop)
    }
}

impl LeaseService for PostgresLeases {
    type Error = DatabaseError;
    type Info = ();

    const MAX_BATCH: usize = 10_000;
    const RENEWAL: Option<(u32, u32)> = Some((4, 8));

    async fn acquire(
        &self,
        id: &UploadId,
        number: u64,
        request: Option<WaitingRequest>,
    ) -> Result<Acquisition, DatabaseError> {
        let LeaseSettings {
            ttl,
            timeout,
            poll_interval,
            ..
        } = self.settings;
        let is_known = |since: Instant| since.elapsed() > timeout;
        if self.down_since.lock().is_some_and(is_known) {
            let reason = self.connections.connect_error();
            let reason = reason.unwrap_or_else(|| "PostgreSQL is not available".to_owned());
            return Err(DatabaseError::NoConnection { timeout, reason });
        }
        let waits_for = request.map_or(Duration::ZERO, |_| poll_interval * 4);
        let statement = self
            .statement(include_str!("acquire.sql"))
            .with(name(id))
            .with(self.node.as_str())
            .with(signed(number))
            .with(millis(ttl))
            .with(millis(waits_for))
            .with(request.map_or(0, WaitingRequest::to_column));
        let sent = Instant::now();
        let rows = self
            .call(timeout, self.connections.fetch(statement))
            .await?;
        let Some(row) = rows.first() else {
            // Without the row 'since', nobody knows who holds a lease: the table was emptied.
            let begin = include_str!("begin.sql");
            let begin = self.statement(begin).with(millis(ttl));
            self.call(timeout, self.connections.fetch(begin)).await?;
            return Ok(Acquisition::Held {
                remaining: CONFLICT_DELAY,
                poll: CONFLICT_DELAY,
            });
        };
        let wanted = row.number("wanted")?;
        Ok(match row.opt_number("fence")? {
            Some(fence) => Acquisition::Granted(GrantedLease {
                fence: Fence(unsigned(fence)),
                waiting: WaitingRequest::from_column(wanted),
                sent,
                is_settled: row.number("settled")? == 1,
            }),
            None => Acquisition::Held {
                remaining: Duration::from_millis(unsigned(row.number("remaining")?)),
                poll: match wanted {
                    0 => SECOND_WAITER_INTERVAL,
                    _ => poll_interval,
                },
            },
        })
    }

    async fn renew(&self, leases: &[OwnedLease]) -> Result<Vec<Renewal>, DatabaseError> {
        let owned = leases.iter().map(|lease| (&lease.id, lease.number));
        let statement = self.batch(include_str!("renew.sql"), owned, self.settings.ttl);
        let rows = self.connections.fetch(statement);
        let mut renewed = HashMap::with_capacity(leases.len());
        for row in self.call(self.settings.renewal_timeout(), rows).await? {
            let waiting = WaitingRequest::from_column(row.number("wanted")?);
            renewed.insert(row.text("name")?, waiting);
        }
        let renewal = |lease: &OwnedLease| {
            let waiting = renewed.get(&name(&lease.id)).copied();
            waiting.map_or(Renewal::Lost, Renewal::Renewed)
        };
        Ok(leases.iter().map(renewal).collect())
    }

    async fn release(&self, leases: &[QueuedRelease]) -> Result<(), DatabaseError> {
        let owned = leases.iter().map(|lease| (&lease.id, lease.number));
        let statement = self.batch(include_str!("release.sql"), owned, HANDOFF_WINDOW);
        let settled = leases.iter();
        let settled = settled.map(|lease| if lease.is_settled { "t" } else { "f" });
        let settled = settled.collect::<Vec<_>>().join(" ");
        let released = self.connections.fetch(statement.with(settled));
        let limit = self.settings.attempt_timeout();
        self.call(limit, released).await.map(drop)
    }

    async fn check(&self) -> Result<(), DatabaseError> {
        if self.is_checked.load(Ordering::Relaxed) {
            return Ok(());
        }
        // Boxed: the futures of callers nest too deep for the compiler otherwise.
        let check = Box::pin(async {
            Box::pin(self.migrate()).await?;
            match Box::pin(self.subscribe()).await {
                Err(DatabaseError::NoNotifications) if !self.connections.has_notifications() => {
                    tracing::info!(
                        "leases of a running node are taken over seconds later: PgBouncer in transaction mode \
                         forwards no notifications"
                    );
                    Ok(())
                }
                subscribed => subscribed.map(drop),
            }
        });
        self.call(CHECK_TIMEOUT, check).await?;
        self.is_checked.store(true, Ordering::Relaxed);
        Ok(())
    }

    async fn run(&self, table: &Arc<LeaseTable>) {
        tokio::join!(self.receive(table), self.probe(table), self.purge());
    }

    async fn close(&self) {
        self.connections.close().await;
    }

    fn is_available(&self) -> bool {
        self.down_since.lock().is_none()
    }

    fn is_connected(&self) -> bool {
        self.is_available() && self.is_subscribed.load(Ordering::Relaxed)
    }

    fn ended() -> DatabaseError {
        DatabaseError::Closed
    }
}

impl fmt::Debug for PostgresLeases {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PostgresLeases")
    }
}

impl WaitingRequest {
    /// The offset plus one.
    fn to_column(self) -> i64 {
        self.offset
            .map_or(i64::MAX, |offset| signed(offset).saturating_add(1))
    }

    fn from_column(column: i64) -> Option<Self> {
        let offset = u64::try_from(column).ok()?.checked_sub(1)?;
        let offset = (column < i64::MAX).then_some(offset);
        Some(Self { offset })
    }
}

fn name(id: &UploadId) -> String {
    format!("{PREFIX}{id}")
}

fn upload_id(name: &str) -> Option<UploadId> {
    UploadId::new(name.strip_prefix(PREFIX)?).ok()
}

#[cfg(test)]
mod tests;
