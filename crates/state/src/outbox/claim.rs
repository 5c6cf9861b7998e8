//! Claims due deliveries in the database while there is capacity in memory.

use std::{sync::atomic::Ordering, time::Duration};

use tokio::{sync::oneshot, time::sleep};

use super::{
    DatabaseError, Outbox, Shared,
    batch::{ClaimLimits, Command},
    breaker::Permit,
    sql::{self, Attempt},
};

/// For deliveries that other nodes have stored.
const POLL_INTERVAL: Duration = Duration::from_secs(1);
const MIN_POLL_INTERVAL: Duration = Duration::from_millis(50);
const BATCH_SIZE: usize = 512;
const MAX_RETRIES: usize = 256;

impl Shared {
    pub(super) fn max_retries(&self) -> usize {
        (self.settings.max_concurrency / 4).max(1)
    }

    /// The free capacity, or one delivery while the route is down.
    fn claim_limits(&self, route: usize, now: i64) -> ClaimLimits {
        let queues = &self.queues;
        let (first, retries) = match self.breakers[route].permit(now) {
            Permit::Any => {
                let capacity = queues.capacity(route);
                let retries = MAX_RETRIES.saturating_sub(queues.retries(route));
                (capacity.min(BATCH_SIZE), retries.min(capacity))
            }
            Permit::One if queues.is_idle(route) => (1, 1),
            Permit::One | Permit::Wait(_) => (0, 0),
        };
        ClaimLimits {
            route,
            first,
            retries,
        }
    }
}

impl Outbox {
    pub(super) async fn claim_due(&self) {
        let shared = &self.shared;
        loop {
            let claimed = match self.claim().await {
                Ok(claimed) => claimed,
                Err(error) => {
                    tracing::warn!(%error, "failed to poll the outbox");
                    0
                }
            };
            if claimed > 0 {
                continue;
            }
            sleep(MIN_POLL_INTERVAL).await;
            loop {
                let soonest = shared.soonest.load(Ordering::Acquire);
                let now = shared.database.clock().millis();
                let wait = soonest.saturating_sub(now).max(0).unsigned_abs();
                let wait = Duration::from_millis(wait).min(POLL_INTERVAL);
                tokio::select! {
                    () = sleep(wait) => break,
                    () = shared.queues.claimable.notified() => break,
                    () = shared.failed.notified() => {}
                }
            }
        }
    }

    async fn claim(&self) -> Result<usize, DatabaseError> {
        let shared = &self.shared;
        let now = shared.database.clock().millis();
        let soonest = shared.soonest.load(Ordering::Acquire);
        if soonest <= now {
            shared.soonest.store(i64::MAX, Ordering::Release);
        }
        let routes = 0..shared.routes.len();
        let limits = routes.map(|route| shared.claim_limits(route, now));
        let mut limits: Vec<_> = limits.collect();
        let is_wanted = |limits: &ClaimLimits| limits.first > 0 || limits.retries > 0;
        if !limits.iter().any(is_wanted) {
            return Ok(0);
        }
        // Reading is cheaper than a transaction that finds nothing.
        let names: Vec<_> = shared.names().collect();
        let due = shared.database.read(sql::due(&names, now)).await?;
        let Some(due) = due.first() else {
            return Ok(0);
        };
        for (at, route) in limits.iter_mut().enumerate() {
            for (attempt, limit) in [
                (Attempt::First, &mut route.first),
                (Attempt::Retry, &mut route.retries),
            ] {
                let column = format!("{}_{at}", attempt.name());
                if due.number(column.as_str())? == 0 {
                    *limit = 0;
                }
            }
        }
        limits.retain(is_wanted);
        if limits.is_empty() {
            return Ok(0);
        }
        let (done, claimed) = oneshot::channel();
        let command = Command::Claim { limits, done };
        if self.commands.send(command).await.is_err() {
            return Ok(0);
        }
        Ok(claimed.await.unwrap_or_default())
    }
}
