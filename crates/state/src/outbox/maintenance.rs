//! Maintenance: dead nodes, counts and old rows.

use std::{sync::atomic::Ordering, time::Duration};

use tokio::{
    sync::oneshot,
    time::{Instant, interval},
};

use super::{
    Outbox, Shared,
    batch::{Command, Size},
    commit::BatchTransaction,
    node::{Node, Presence},
    sql::{self, DEAD, PENDING, PREPARED},
    stats::RouteStats,
};
use crate::sql::{DatabaseError, Row, Statement, millis};

const NODES_INTERVAL: Duration = Duration::from_secs(1);
/// A smaller step of the clock delays a delivery by no more than itself.
const CLOCK_STEP: Duration = Duration::from_secs(1);
const PURGE_EVERY: u32 = 60;
const COUNT_EVERY: u32 = 5;
/// With a presence file, other nodes detect the death of a node by the file.
const PRESENT_TIMEOUT: Duration = Duration::from_secs(300);

#[derive(Debug, Clone, Default)]
pub(super) struct NodeLease {
    pub(super) node: String,
    pub(super) duration: Duration,
}

impl NodeLease {
    pub(super) fn new(node: &Node, timeout: Duration) -> Self {
        Self {
            node: node.id.clone(),
            duration: if node.is_present() {
                timeout.max(PRESENT_TIMEOUT)
            } else {
                timeout
            },
        }
    }
}

pub(super) fn renewal_interval(lease: Duration) -> Duration {
    lease * 10 / 13
}

impl Shared {
    /// Selects the nodes that may be dead: those of this machine may be before their lease has expired. Otherwise a
    /// thousand nodes would read a million rows every second.
    fn nodes(&self, me: &str, now: i64) -> Statement {
        match self.settings.presence_dir {
            Some(_) => sql::nodes(),
            None => sql::expired_nodes(me, now),
        }
    }

    /// Returns whether the clock is behind the time of an earlier transaction.
    pub(super) fn is_set_back(&self, now: i64) -> bool {
        now.saturating_add(millis(CLOCK_STEP)) < self.written_at.load(Ordering::Acquire)
    }
}

impl Outbox {
    /// Purges old rows, too, if `thorough`.
    pub(super) async fn maintain(&self, thorough: bool) {
        let (done, maintained) = oneshot::channel();
        let command = Command::Maintain { thorough, done };
        if self.commands.send(command).await.is_ok() {
            let _ = maintained.await;
        }
    }

    pub(super) async fn run_maintenance(&self) {
        let mut ticks = interval(NODES_INTERVAL.min(self.shared.settings.node_timeout / 6));
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        for tick in 0_u32.. {
            ticks.tick().await;
            let thorough = tick % PURGE_EVERY == 0;
            // A read is cheaper than a transaction without changes.
            match self.is_maintenance_due().await {
                Ok(is_due) if is_due || thorough => self.maintain(thorough).await,
                Ok(_) => {}
                Err(error) => tracing::warn!(%error, "failed to read the nodes of the outbox"),
            }
            if thorough && let Err(error) = sql::merge_counts(&self.shared.database).await {
                tracing::warn!(%error, "failed to merge the counts of the outbox");
            }
            if tick % COUNT_EVERY == 0
                && let Err(error) = self.count().await
            {
                tracing::warn!(%error, "failed to count the events of the outbox");
            }
        }
    }

    async fn is_maintenance_due(&self) -> Result<bool, DatabaseError> {
        let shared = &self.shared;
        let now = shared.database.clock().millis();
        if shared.is_set_back(now) {
            return Ok(true);
        }
        let me = shared.lease.lock().clone();
        let nodes = shared.database.read(shared.nodes(&me.node, now)).await?;
        let mut is_due = true;
        for row in nodes {
            let (other, until) = (row.text("node_id")?, row.number("expires_at")?);
            if other == me.node {
                is_due = until.saturating_sub(now)
                    <= millis(me.duration - renewal_interval(me.duration));
                continue;
            }
            let dir = shared.settings.presence_dir.as_deref();
            if Node::presence_in(dir, &other).is_dead(until < now) {
                return Ok(true);
            }
        }
        Ok(is_due)
    }

    pub(super) async fn count(&self) -> Result<(), DatabaseError> {
        let shared = &self.shared;
        let before = shared.counters.lock().stats.batches;
        let mut counts = vec![RouteStats::default(); shared.routes.len()];
        let mut stored = Size::default();
        for row in shared.database.read(sql::counts()).await? {
            let (route, state) = (row.text("route")?, row.number("state")?);
            let size = size(&row)?;
            if state != DEAD {
                stored = stored.plus(size);
            }
            let Some(at) = shared.names().position(|name| name == route) else {
                continue;
            };
            let rows = u64::try_from(size.rows).unwrap_or(u64::MAX);
            match state {
                PREPARED => counts[at].prepared = rows,
                PENDING => counts[at].pending = rows,
                _ => counts[at].dead = rows,
            }
        }
        let routes: Vec<_> = shared.names().collect();
        if counts.iter().any(|route| route.pending > 0) {
            let now = shared.database.clock().millis();
            let rows = shared.database.read(sql::oldest(&routes)).await?;
            if let Some(row) = rows.first() {
                for (at, route) in counts.iter_mut().enumerate() {
                    let mut oldest = now;
                    for kind in ["first", "retry", "claimed"] {
                        let column = format!("{kind}_{at}");
                        oldest = oldest.min(row.opt_number(column.as_str())?.unwrap_or(now));
                    }
                    let age = now.saturating_sub(oldest).unsigned_abs();
                    route.oldest = Duration::from_millis(age);
                }
            }
        }
        // The writer's own numbers are newer while it writes.
        let mut counters = shared.counters.lock();
        if counters.stats.batches == before && !counters.is_reserved() {
            counters.set_stored(stored);
        }
        for (route, counted) in counters.stats.routes.iter_mut().zip(counts) {
            (route.prepared, route.pending) = (counted.prepared, counted.pending);
            (route.dead, route.oldest) = (counted.dead, counted.oldest);
        }
        Ok(())
    }
}

fn size(row: &Row) -> Result<Size, DatabaseError> {
    let rows = usize::try_from(row.number("deliveries")?).unwrap_or_default();
    let bytes = usize::try_from(row.number("bytes")?).unwrap_or_default();
    Ok(Size { rows, bytes })
}

impl BatchTransaction<'_> {
    /// Returns whether the node was evicted.
    pub(super) async fn renew(
        &mut self,
        is_new: bool,
        lease: Duration,
    ) -> Result<bool, DatabaseError> {
        let until = self.now.saturating_add(millis(lease));
        if is_new {
            let register = sql::register_node(&self.me, until);
            self.transaction.execute(register).await?;
            self.advance_due().await?;
            return Ok(false);
        }
        let renew = sql::renew(&self.me, until);
        Ok(self.transaction.execute(renew).await? == 0)
    }

    /// Nothing waits for a time that was set by a clock which was ahead.
    pub(super) async fn advance_due(&mut self) -> Result<(), DatabaseError> {
        self.advance(i64::MIN, i64::MIN).await
    }

    /// Nor for one that another process with such a clock has set before it ended: no right clock sets a later one.
    pub(super) async fn advance_late(&mut self) -> Result<(), DatabaseError> {
        let settings = &self.shared.settings;
        let backoff = settings.retry.max_backoff;
        let latest = |longest: Duration| self.now.saturating_add(millis(longest.max(backoff)));
        let pending = latest(settings.retry.retry_for.max(settings.max_hold));
        let prepared = latest(settings.resolve_after);
        self.advance(pending, prepared).await
    }

    /// Events that are due later than this, pending and prepared ones.
    async fn advance(&mut self, pending: i64, prepared: i64) -> Result<(), DatabaseError> {
        for route in self.shared.names() {
            let retry = sql::retry_now(route, self.now, pending);
            self.transaction.execute_all(retry.into()).await?;
        }
        let resolve_at = self.now + millis(self.shared.settings.resolve_after);
        let resolve = sql::resolve_by(resolve_at, prepared);
        self.transaction.execute(resolve).await?;
        self.effects.is_due = true;
        Ok(())
    }

    /// Pending events now, prepared ones at `resolve_at`.
    pub(super) async fn take_over(
        &mut self,
        node: &str,
        resolve_at: i64,
    ) -> Result<(), DatabaseError> {
        let due = [(PENDING, self.now), (PREPARED, resolve_at)];
        let take_over = due.map(|(state, due)| sql::take_over(node, state, due));
        self.transaction.execute_all(take_over.into()).await?;
        self.effects.is_due = true;
        Ok(())
    }

    pub(super) async fn evict_dead_nodes(&mut self, node: &Node) -> Result<(), DatabaseError> {
        let nodes = self.shared.nodes(&self.me, self.now);
        for row in self.transaction.fetch(nodes).await? {
            let (other, until) = (row.text("node_id")?, row.number("expires_at")?);
            let presence = node.presence_of(&other);
            let is_dead = presence.is_dead(until < self.now);
            if other == self.me || !is_dead {
                self.effects.maintenance.known.push(other);
                continue;
            }
            let evict = sql::evict_node(&other, until);
            if self.transaction.execute(evict).await? == 0 {
                continue;
            }
            // A silent node may still do the operations that it prepared.
            let resolve_at = match presence {
                Presence::Dead => self.now,
                Presence::Alive | Presence::Unknown => {
                    self.now + millis(self.shared.settings.resolve_after)
                }
            };
            self.take_over(&other, resolve_at).await?;
            self.effects.maintenance.dead.push(other);
        }
        Ok(())
    }

    /// The database may commit a transaction of a process shortly after its eviction.
    pub(super) async fn find_orphaned(&mut self) -> Result<(), DatabaseError> {
        let adopt = [PENDING, PREPARED].map(|state| sql::adopt_orphaned(state, self.now));
        self.effects.is_due |= self.transaction.execute_all(adopt.into()).await? > 0;
        Ok(())
    }

    pub(super) async fn purge(&mut self) -> Result<(), DatabaseError> {
        let settings = &self.shared.settings;
        let then = self.now - millis(settings.retry.retry_for);
        for row in self.transaction.fetch(sql::counts()).await? {
            let (route, state) = (row.text("route")?, row.number("state")?);
            if state != PENDING || self.shared.names().any(|name| name == route) {
                continue;
            }
            let mark = sql::mark_unrouted(&route, then, self.now);
            self.transaction.execute_all(mark.into()).await?;
        }
        let agreed = self.shared.removal_clock.now();
        let then = agreed.before(settings.dead_letter_retention);
        let purged = self.transaction.execute(sql::purge_dead(then)).await?;
        self.effects.maintenance.purged = purged;
        Ok(())
    }

    pub(super) async fn measure(&mut self, last: Option<Instant>) -> Result<(), DatabaseError> {
        const MEASURE_INTERVAL: Duration = Duration::from_secs(1);
        if last.is_some_and(|last| last.elapsed() < MEASURE_INTERVAL) {
            return Ok(());
        }
        let mut stored = Size::default();
        for row in self.transaction.fetch(sql::counts()).await? {
            if row.number("state")? != DEAD {
                let size = size(&row)?;
                stored = stored.plus(size);
            }
        }
        self.effects.stored = Some(stored);
        let shared = self.shared;
        // Every second, and not only every minute: a busy server delivers more than the maximum in a minute.
        let then = shared.removal_clock.now().before(shared.settings.history);
        let purge = sql::purge_history(then, shared.database.is_postgres());
        self.transaction.execute(purge).await?;
        Ok(())
    }
}
