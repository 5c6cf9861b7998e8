//! The lease thread: it renews and releases leases, receives notifications, and stops holders whose
//! lease is about to expire.
//!
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use landfall::{lease::remote::LeaseTable, upload::UploadId};
use landfall_state::sql::{Connections, DatabaseError};
use parking_lot::Mutex;
use tokio::{
    sync::{Notify, OnceCell, watch},
    time::{sleep, timeout},
};

use crate::{
    leases::{Leases, Notice},
    settings::PostgresSettings,
};

const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(1);
const RETRY_DELAY: Duration = Duration::from_millis(250);
const PURGE_INTERVAL: Duration = Duration::from_secs(600);
/// After that, the next lease of the upload has a fence in another block, which costs the store some calls.
const RETENTION: Duration = Duration::from_secs(3600);

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) table: Arc<LeaseTable>,
    pub(crate) leases: Leases,
    pub(crate) settings: PostgresSettings,
    /// Since the last successful call to PostgreSQL.
    down_since: Mutex<Option<Instant>>,
    failed: Notify,
    migrated: OnceCell<()>,
    is_subscribed: AtomicBool,
    /// Notified when notifications were lost.
    renew_now: Notify,
}

impl Shared {
    pub(crate) fn new(connections: Connections, settings: PostgresSettings) -> Self {
        let node = format!("{:016x}", rand::random::<u64>());
        Self {
            table: Arc::new(LeaseTable::new(settings.ttl)),
            leases: Leases::new(connections, node),
            settings,
            down_since: Mutex::default(),
            failed: Notify::new(),
            migrated: OnceCell::new(),
            is_subscribed: AtomicBool::new(false),
            renew_now: Notify::new(),
        }
    }

    pub(crate) async fn call<T>(
        &self,
        limit: Duration,
        call: impl Future<Output = Result<T, DatabaseError>>,
    ) -> Result<T, DatabaseError> {
        let result = timeout(limit, call).await;
        let result = result.unwrap_or(Err(DatabaseError::Timeout(limit)));
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

    pub(crate) fn down_for(&self) -> Option<Duration> {
        self.down_since.lock().map(|since| since.elapsed())
    }

    pub(crate) async fn migrate(&self) -> Result<(), DatabaseError> {
        let migrated = self.migrated.get_or_try_init(|| self.leases.migrate());
        migrated.await.copied()
    }

    pub(crate) fn is_connected(&self) -> bool {
        self.down_for().is_none() && self.is_subscribed.load(Ordering::Relaxed)
    }
}

impl Shared {
    pub(crate) async fn run(self: Arc<Self>, mut stop: watch::Receiver<bool>) {
        let work = async {
            tokio::join!(
                self.table.expire(),
                self.renew(),
                self.release(),
                self.receive(),
                self.probe(),
                self.purge(),
            );
        };
        tokio::select! {
            () = work => {}
            _ = stop.wait_for(|stop| *stop) => {}
        }
        // Leases that are not released now expire.
        let _ = timeout(SHUTDOWN_TIMEOUT, self.send_releases()).await;
        let _ = timeout(SHUTDOWN_TIMEOUT, self.leases.connections.close()).await;
    }

    /// Renews all leases in one statement, every quarter of their lifetime.
    async fn renew(&self) {
        let interval = self.settings.ttl / 4;
        let limit = (self.settings.timeout / 2).min(self.settings.ttl / 5);
        let mut wait = interval;
        loop {
            let age = tokio::select! {
                () = sleep(wait) => interval / 2,
                () = self.renew_now.notified() => Duration::ZERO,
            };
            wait = interval;
            if let Err(error) = self.renew_older_than(age, limit).await {
                tracing::warn!(%error, "failed to renew leases");
                wait = RETRY_DELAY.min(interval);
            }
        }
    }

    async fn renew_older_than(&self, age: Duration, limit: Duration) -> Result<(), DatabaseError> {
        let due = self.table.due(age);
        if due.is_empty() {
            return Ok(());
        }
        let sent = Instant::now();
        let renew = self.leases.renew(&due, self.settings.ttl);
        let renewed = self.call(limit, renew).await?;
        for lease in &due {
            let Some(waiting) = renewed.get(&lease.id) else {
                self.table.lost(lease);
                continue;
            };
            self.table.renewed(lease, sent);
            // The notification may have been lost.
            if let Some(request) = waiting {
                self.table
                    .request_yield(&lease.id, lease.number, request.offset);
            }
        }
        Ok(())
    }

    async fn release(&self) {
        loop {
            self.table.release_queued().await;
            while let Err(error) = self.send_releases().await {
                tracing::warn!(%error, "failed to release leases: they expire");
                sleep(RETRY_DELAY).await;
            }
        }
    }

    async fn send_releases(&self) -> Result<(), DatabaseError> {
        loop {
            let batch = self.table.releases(usize::MAX);
            if batch.is_empty() {
                return Ok(());
            }
            let limit = self.settings.timeout / 2;
            self.call(limit, self.leases.release(&batch)).await?;
            self.table.discard_releases(batch.len());
        }
    }

    async fn receive(&self) {
        loop {
            if let Err(error) = self.receive_until_lost().await {
                tracing::debug!(%error, "notifications about leases are interrupted");
            }
            self.is_subscribed.store(false, Ordering::Relaxed);
            sleep(RETRY_DELAY).await;
        }
    }

    async fn receive_until_lost(&self) -> Result<(), DatabaseError> {
        self.migrate().await?;
        let mut notices = self.leases.subscribe().await?;
        self.is_subscribed.store(true, Ordering::Relaxed);
        // Notifications may have been lost meanwhile.
        self.table.wake_all();
        self.renew_now.notify_one();
        loop {
            match self.leases.notice(&notices.receive().await?) {
                Some(Notice::Yield(id, number, request)) => {
                    self.table.request_yield(&id, number, request.offset);
                }
                Some(Notice::Reserved(id)) => self.table.wake(&id),
                None => {}
            }
        }
    }

    async fn probe(&self) {
        // It affects no row: no lease has this number.
        let none = [(UploadId::random(), 0)];
        loop {
            self.failed.notified().await;
            while self.down_for().is_some() {
                sleep(RETRY_DELAY).await;
                let probe = self.leases.release(&none);
                let _ = self.call(self.settings.timeout / 2, probe).await;
            }
            // Repeat the renewals that failed meanwhile.
            self.renew_now.notify_one();
        }
    }

    async fn purge(&self) {
        loop {
            // Jitter keeps nodes from purging at the same time.
            let interval = PURGE_INTERVAL.mul_f64(rand::random_range(0.5..1.5));
            sleep(interval).await;
            if let Err(error) = self.leases.purge(RETENTION).await {
                tracing::warn!(%error, "failed to purge the table of leases");
            }
        }
    }
}
