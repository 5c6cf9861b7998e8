//! The frame of all backends: asks for leases, and one thread renews and releases them. It knows no
//! service, only [`LeaseService`].

use std::{any::Any, fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use landfall::{
    lease::{Lease, LeaseError, LeaseTerms, Locker},
    upload::UploadId,
};
use tokio::{
    runtime::Runtime,
    sync::watch,
    time::{self, Instant},
};

use crate::{
    attempt::Attempt,
    service::{Acquisition, LeaseService, Renewal, WaitingRequest},
    settings::{LeaseSettings, SettingsError},
    table::{LeaseStats, LeaseTable, Rejection},
    thread::LeaseThread,
};

const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(2);
const RETRY_DELAY: Duration = Duration::from_millis(250);

/// A locker whose leases are in a service that several nodes use.
///
/// Within the node it is a [`MemoryLocker`](landfall::lease::MemoryLocker): requests wait for an
/// upload in memory, and only the first one calls the service. A request for a lease that another node
/// holds makes the service send a message to the holder. When the holder releases the lease, it is
/// reserved for the waiter, which gets a message. Messages may be lost: the waiter repeats its request every
/// [`poll_interval`](LeaseSettings::poll_interval), and when the lease expires.
///
/// Clones share the leases. A separate thread renews them even if the program's runtimes are busy; it
/// ends with the last clone and the last lease. Waiting needs a tokio runtime with its timer enabled.
///
/// While the service is unavailable, a request fails with [`LeaseError::Unavailable`] within
/// [`timeout`](LeaseSettings::timeout), or at once if the outage has lasted longer. A holder continues
/// until four fifths of the lifetime have passed since its last renewal was sent, by its local clock;
/// then its lease is [lost](landfall::lease::YieldReason::LeaseLost), a fifth before it could expire.
pub struct RemoteLocker<S: LeaseService>(Arc<LockerThread<S>>);

struct LockerThread<S> {
    node: Arc<Node<S>>,
    thread: LeaseThread,
}

/// The state of the locker, which its thread shares.
struct Node<S> {
    service: S,
    table: Arc<LeaseTable>,
    settings: LeaseSettings,
}

impl<S: LeaseService> RemoteLocker<S> {
    /// Starts the thread, with a service whose connections belong to its `runtime`.
    pub(crate) fn start(
        runtime: Runtime,
        service: S,
        settings: LeaseSettings,
    ) -> Result<Self, SettingsError> {
        let node = Node::new(service, settings);
        let own = Arc::clone(&node);
        let thread = LeaseThread::start(runtime, |stop| own.run(stop));
        let thread = thread.map_err(SettingsError::Thread)?;
        Ok(Self(Arc::new(LockerThread { node, thread })))
    }

    /// Like [`start`](Self::start), in the current runtime.
    #[cfg(feature = "bucket")]
    pub(crate) fn start_here(service: S, settings: LeaseSettings) -> Self {
        let node = Node::new(service, settings);
        let own = Arc::clone(&node);
        let thread = LeaseThread::here(|stop| own.run(stop));
        Self(Arc::new(LockerThread { node, thread }))
    }

    /// Checks that the service can be used, by acquiring and releasing a lease.
    ///
    /// # Errors
    /// The reason why it cannot be used.
    ///
    /// # Cancel safety
    /// Safe to cancel.
    pub async fn check(&self) -> Result<S::Info, S::Error> {
        let node = Arc::clone(&self.0.node);
        let info = self.spawn(async move { node.service.check().await });
        let info = info.await?;
        self.call(&UploadId::random(), None, None).await?;
        Ok(info)
    }

    /// Returns statistics about the leases of this node.
    #[must_use]
    pub fn stats(&self) -> LeaseStats {
        let node = &self.0.node;
        node.table.stats(node.service.is_connected())
    }

    /// Waits until the service has released the dropped leases. Call it at shutdown.
    ///
    /// It waits [`LeaseSettings::timeout`] at most; leases that were not released expire. The locker
    /// stays usable.
    ///
    /// # Cancel safety
    /// Safe to cancel.
    pub async fn close(&self) {
        let node = Arc::clone(&self.0.node);
        let released = time::timeout(node.settings.timeout, node.table.all_released()).await;
        if released.is_ok() {
            let retired = async move { node.service.retire().await };
            let _ = self.0.thread.handle().spawn(retired).await;
        }
    }

    #[cfg(feature = "bucket")]
    pub(crate) fn service(&self) -> &S {
        &self.0.node.service
    }

    async fn acquire_now(
        &self,
        local: Lease,
        id: &UploadId,
        request: Option<WaitingRequest>,
    ) -> Result<Lease, Rejection> {
        match self.call(id, Some(local), request).await {
            Ok((attempt, Acquisition::Granted(granted))) => {
                let number = attempt.number();
                let lease = attempt.granted(&granted)?;
                let node = &self.0.node;
                let confirmed = node.service.confirm(id, number);
                confirmed.map_err(|error| node.table.unavailable(error))?;
                if let Some(request) = granted.waiting {
                    lease.signal().request(request.offset);
                }
                Ok(lease)
            }
            Ok((attempt, Acquisition::Held { remaining, poll })) => {
                Err(attempt.held(poll, remaining))
            }
            Err(error) => Err(self.0.node.table.unavailable(error)),
        }
    }

    async fn call(
        &self,
        id: &UploadId,
        local: Option<Lease>,
        request: Option<WaitingRequest>,
    ) -> Result<(Attempt, Acquisition), S::Error> {
        let node = Arc::clone(&self.0.node);
        let locker = Arc::clone(&self.0) as Arc<dyn Any + Send + Sync>;
        let attempt = Attempt::new(&node.table, locker, id, local);
        self.spawn(async move {
            let (id, number) = (attempt.id(), attempt.number());
            let acquired = node.service.acquire(id, number, request).await?;
            Ok((attempt, acquired))
        })
        .await
    }

    /// Runs a call in the lease thread, which owns the connections. If the caller is cancelled, the call
    /// ends there: a release sent before the response could arrive before the call.
    async fn spawn<T: Send + 'static>(
        &self,
        call: impl Future<Output = Result<T, S::Error>> + Send + 'static,
    ) -> Result<T, S::Error> {
        let call = self.0.thread.handle().spawn(call);
        call.await.unwrap_or_else(|_| Err(S::ended()))
    }
}

impl<S: LeaseService> Clone for RemoteLocker<S> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<S: LeaseService> fmt::Debug for RemoteLocker<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteLocker")
            .field("service", &self.0.node.service)
            .field("stats", &self.stats())
            .finish()
    }
}

#[async_trait]
impl<S: LeaseService> Locker for RemoteLocker<S> {
    async fn acquire_at(
        &self,
        id: &UploadId,
        offset: Option<u64>,
        wait: Duration,
    ) -> Result<Lease, LeaseError> {
        let attempt = |local| self.acquire_now(local, id, Some(WaitingRequest { offset }));
        self.0.node.table.acquire(id, offset, wait, attempt).await
    }

    async fn try_acquire(&self, id: &UploadId) -> Result<Lease, LeaseError> {
        let attempt = |local| self.acquire_now(local, id, None);
        self.0.node.table.try_acquire(id, attempt).await
    }
}

impl<S: LeaseService> Node<S> {
    fn new(service: S, settings: LeaseSettings) -> Arc<Self> {
        Arc::new(Self {
            service,
            table: Arc::new(LeaseTable::new(settings.ttl)),
            settings,
        })
    }

    async fn run(self: Arc<Self>, mut stop: watch::Receiver<bool>) {
        let work = async {
            tokio::join!(
                self.service.run(&self.table),
                self.table.expire(),
                self.renew(),
                self.release(),
            );
        };
        tokio::select! {
            () = work => {}
            _ = stop.wait_for(|stop| *stop) => {}
        }
        // Leases that are not released now expire.
        let _ = time::timeout(SHUTDOWN_TIMEOUT, self.send_releases()).await;
        let close = async {
            self.service.retire().await;
            self.service.close().await;
        };
        let _ = time::timeout(SHUTDOWN_TIMEOUT, close).await;
    }

    /// Renews leases, if the service does not; those that end before their first renewal cost nothing.
    async fn renew(&self) {
        let Some((interval, age)) = S::RENEWAL else {
            return;
        };
        let (interval, age) = (self.settings.ttl / interval, self.settings.ttl / age);
        let mut wait = interval;
        loop {
            // All leases after an interruption: the service may have lost them.
            let age = tokio::select! {
                () = self.table.tick(wait) => age,
                () = self.table.resumed() => Duration::ZERO,
            };
            wait = interval;
            if self.service.is_available()
                && let Err(error) = self.renew_older_than(age).await
            {
                tracing::warn!(%error, "failed to renew leases");
                wait = RETRY_DELAY.min(interval);
            }
        }
    }

    async fn renew_older_than(&self, age: Duration) -> Result<(), S::Error> {
        for batch in self.table.due(age).chunks(S::MAX_BATCH) {
            let since = LeaseTerms::now();
            let sent = Instant::now();
            let renewals = self.service.renew(batch).await?;
            for (lease, renewal) in batch.iter().zip(renewals) {
                let Renewal::Renewed(waiting) = renewal else {
                    if self.table.lose(&lease.id, lease.number) {
                        tracing::warn!(upload = %lease.id, "another node has the lease");
                    }
                    continue;
                };
                self.table.renewed(lease, (sent, since));
                // The message may have been lost.
                if let Some(WaitingRequest { offset }) = waiting {
                    self.table.request_yield(&lease.id, lease.number, offset);
                }
            }
        }
        Ok(())
    }

    async fn release(&self) {
        loop {
            self.table.release_queued().await;
            while self.service.is_available()
                && let Err(error) = self.send_releases().await
            {
                tracing::warn!(%error, "failed to release leases: they expire");
                time::sleep(RETRY_DELAY).await;
            }
        }
    }

    async fn send_releases(&self) -> Result<(), S::Error> {
        // A lease that is renewed on its own has expired after its lifetime.
        let max_age = S::RENEWAL.map_or(Duration::MAX, |_| self.settings.ttl);
        loop {
            let batch = self.table.releases(S::MAX_BATCH, max_age);
            if batch.is_empty() {
                return Ok(());
            }
            self.service.release(&batch).await?;
            self.table.discard_releases(batch.len());
        }
    }
}
