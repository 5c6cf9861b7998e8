//! Row leases: leases stored in the rows that they protect.
//!
//! Other statements on the row can require that no lease is active. With a separate table, a lease
//! acquired between that check and the write would be missed.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tokio::{
    task::AbortHandle,
    time::{sleep, timeout},
};

use super::{Connections, DatabaseError, Statement, millis};

const TIMEOUT: Duration = Duration::from_secs(10);

/// The row leases of a table with the columns `id`, `lease_owner` and `lease_expires_at`.
///
/// The expiry is in milliseconds since 1970 by the clock of the database; 0 means free. Cheap to
/// clone.
#[derive(Debug, Clone)]
pub struct RowLeases {
    connections: Connections,
    table: &'static str,
    ttl: Duration,
}

/// A row lease, renewed by a task and released on drop. It expires if the process dies.
#[derive(Debug)]
pub struct RowLease {
    inner: Arc<Inner>,
    renewal: AbortHandle,
}

#[derive(Debug)]
struct Inner {
    leases: RowLeases,
    id: String,
    owner: String,
    /// By the clock of this process; `None` once the lease is lost.
    usable_until: Mutex<Option<Instant>>,
    is_released: AtomicBool,
}

impl RowLeases {
    /// Creates the leases of a table.
    pub const fn new(connections: Connections, table: &'static str, ttl: Duration) -> Self {
        Self {
            connections,
            table,
            ttl,
        }
    }

    /// Acquires the lease of a row; `None` if another owner has it or the row does not exist.
    ///
    /// # Errors
    /// The database failed or timed out.
    ///
    /// # Cancel safety
    /// Dropped, the lease is released.
    pub async fn acquire(&self, id: &str) -> Result<Option<RowLease>, DatabaseError> {
        let inner = Arc::new(Inner {
            leases: self.clone(),
            id: id.to_owned(),
            owner: format!("{:032x}", rand::random::<u128>()),
            usable_until: Mutex::new(None),
            is_released: AtomicBool::new(false),
        });
        let acquire = self.connections.runtime().spawn(async move {
            let acquired = inner.extend(true).await;
            // The response may have been lost after the database granted the lease.
            let renewal = tokio::spawn(renew(inner.clone())).abort_handle();
            let lease = RowLease { inner, renewal };
            match acquired {
                Ok(true) => Ok(Some(lease)),
                Ok(false) => {
                    lease.inner.is_released.store(true, Ordering::Relaxed);
                    Ok(None)
                }
                Err(error) => Err(error),
            }
        });
        acquire.await.unwrap_or(Err(DatabaseError::Closed))
    }

    async fn execute(&self, statement: Statement) -> Result<u64, DatabaseError> {
        let executed = timeout(TIMEOUT, self.connections.execute(statement)).await;
        executed.unwrap_or(Err(DatabaseError::Timeout(TIMEOUT)))
    }
}

impl RowLease {
    /// Returns whether no other owner can have acquired it; false if it was not renewed in time.
    ///
    /// Check it right before each effect that cannot be undone.
    pub fn is_held(&self) -> bool {
        let until = *self.inner.usable_until.lock();
        until.is_some_and(|until| Instant::now() < until)
    }

    /// Returns the owner, for statements that require that no other one has the lease.
    #[must_use]
    pub fn owner(&self) -> &str {
        &self.inner.owner
    }

    /// Releases the lease and returns when others can acquire it; a drop releases it in the
    /// background.
    ///
    /// # Cancel safety
    /// Dropped, it is released nevertheless.
    pub async fn release(self) {
        self.renewal.abort();
        self.inner.is_released.store(true, Ordering::Relaxed);
        let inner = self.inner.clone();
        let runtime = self.inner.leases.connections.runtime();
        let _ = runtime.spawn(async move { inner.release().await }).await;
    }
}

impl Drop for RowLease {
    fn drop(&mut self) {
        self.renewal.abort();
        if self.inner.is_released.load(Ordering::Relaxed) {
            return;
        }
        let inner = self.inner.clone();
        let runtime = self.inner.leases.connections.runtime();
        runtime.spawn(async move { inner.release().await });
    }
}

impl Inner {
    /// Returns whether this is the owner. A fifth of the lifetime, counted from before the call was sent,
    /// remains for an effect that has started.
    async fn extend(&self, is_new: bool) -> Result<bool, DatabaseError> {
        let (table, ttl) = (self.leases.table, self.leases.ttl);
        let sent = Instant::now();
        let now = self.leases.connections.now_sql();
        let condition = if is_new {
            format!("lease_expires_at <= {now}")
        } else {
            "lease_owner = $1".to_owned()
        };
        let statement = Statement::new(format!(
            "UPDATE {table} SET lease_owner = $1, lease_expires_at = {now} + $2 \
             WHERE id = $3 AND {condition}"
        ));
        let statement = statement
            .with(self.owner.as_str())
            .with(millis(ttl))
            .with(self.id.as_str());
        let is_owner = self.leases.execute(statement).await? == 1;
        *self.usable_until.lock() = is_owner.then(|| sent + ttl * 4 / 5);
        Ok(is_owner)
    }

    async fn release(&self) {
        *self.usable_until.lock() = None;
        let table = self.leases.table;
        let statement = Statement::new(format!(
            "UPDATE {table} SET lease_owner = NULL, lease_expires_at = 0 \
             WHERE id = $1 AND lease_owner = $2"
        ));
        let statement = statement.with(self.id.as_str()).with(self.owner.as_str());
        if let Err(error) = self.leases.execute(statement).await {
            tracing::warn!(table, id = %self.id, %error, "failed to release row lease, it expires");
        }
    }
}

async fn renew(inner: Arc<Inner>) {
    let (ttl, table) = (inner.leases.ttl, inner.leases.table);
    loop {
        let Some(until) = *inner.usable_until.lock() else {
            return;
        };
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            tracing::error!(table, id = %inner.id, "row lease expired before renewal");
            *inner.usable_until.lock() = None;
            return;
        }
        // At a third of the lifetime, and more often after a failure.
        let due = left.saturating_sub(ttl * 7 / 15);
        sleep(due.max(ttl / 12)).await;
        match inner.extend(false).await {
            Ok(true) => {}
            Ok(false) => {
                tracing::error!(table, id = %inner.id, "row lease lost to another node");
                return;
            }
            Err(error) => {
                tracing::warn!(table, id = %inner.id, %error, "failed to renew row lease");
            }
        }
    }
}
