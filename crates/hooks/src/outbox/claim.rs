//! Claiming deliveries that are due in the database, as far as there is capacity for them.

use std::{sync::atomic::Ordering, time::Duration};

use tokio::{sync::oneshot, time::sleep};

use super::{
    DatabaseError, Outbox, Shared,
    batch::{Command, Wanted},
    breaker::Permit,
    sql::{self, Attempt},
};

/// How often the database is read for deliveries that are due and that this node does not know of.
const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// The pause after a poll that found nothing to do.
const MIN_POLL_INTERVAL: Duration = Duration::from_millis(50);
/// Ordering keys that are claimed together.
const BATCH_SIZE: usize = 512;
/// Retries of a route in memory.
const MAX_RETRIES: usize = 256;

impl Shared {
    /// Retries of a route that are delivered at a time. Their share is a quarter of the workers.
    pub(super) fn max_retries(&self) -> usize {
        (self.settings.parallel / 4).max(1)
    }

    /// What a route can take: all that there is capacity for, or while it is down one delivery.
    fn wanted(&self, route: usize, now: i64) -> Wanted {
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
        Wanted {
            route,
            first,
            retries,
        }
    }
}

impl Outbox {
    /// Claims what is due, again and again.
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
                let wait = soonest
                    .saturating_sub(shared.database.clock().millis())
                    .max(0);
                let wait = Duration::from_millis(wait.unsigned_abs()).min(POLL_INTERVAL);
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
        let mut wanted: Vec<_> = routes.map(|route| shared.wanted(route, now)).collect();
        let is_wanted = |one: &Wanted| one.first > 0 || one.retries > 0;
        if !wanted.iter().any(is_wanted) {
            return Ok(0);
        }
        // Reading is cheaper than a transaction that finds nothing.
        let names: Vec<_> = shared.names().collect();
        let due = shared.database.read(sql::due(&names, now)).await?;
        let Some(due) = due.first() else {
            return Ok(0);
        };
        for (at, one) in wanted.iter_mut().enumerate() {
            for (attempt, most) in [
                (Attempt::First, &mut one.first),
                (Attempt::Retry, &mut one.retries),
            ] {
                let column = format!("{}_{at}", attempt.name());
                if due.number(column.as_str())? == 0 {
                    *most = 0;
                }
            }
        }
        wanted.retain(is_wanted);
        if wanted.is_empty() {
            return Ok(0);
        }
        let (done, claimed) = oneshot::channel();
        let command = Command::Claim { wanted, done };
        if self.commands.send(command).await.is_err() {
            return Ok(0);
        }
        Ok(claimed.await.unwrap_or_default())
    }
}
