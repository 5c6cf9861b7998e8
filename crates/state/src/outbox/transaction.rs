//! The transaction of a batch around its commands: the lease of the node, maintenance, and what follows in
//! memory. It must not know what the commands write: that is in `commit.rs`.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use landfall::event::Event;
use tokio::time::Instant;

use super::{
    OutboxError, Shared,
    batch::{Batch, Command, Size},
    commit::{BatchTransaction, Effects},
    maintenance::{NodeLease, renewal_interval},
    node::Node,
    sql,
};
use crate::{
    sql::{DatabaseError, millis},
    writer::Execute,
};

/// After a node's death, orphaned rows of it may still appear.
const ORPHAN_SCAN: Duration = Duration::from_secs(10);
/// Of a presence file that the database does not know.
const ORPHAN_FILE_AGE: Duration = Duration::from_secs(3600);
const MIN_BACKOFF: Duration = Duration::from_millis(50);
const MAX_BACKOFF: Duration = Duration::from_secs(2);
/// In microseconds; no process starts within this time.
const MAX_AHEAD: u64 = 100_000;

#[derive(Debug)]
pub(super) struct Writer {
    shared: Arc<Shared>,
    node: Node,
    /// By the monotonic clock, which stops while the machine sleeps, and by the database's.
    renewed: Option<(Instant, i64)>,
    orphan_scan_until: Instant,
    /// The last commit failed with an unknown outcome.
    in_doubt: bool,
    measured: Option<Instant>,
    recorded_sequence: u64,
}

impl Execute for Writer {
    type Command = Command;
    type Output = Effects;
    type Error = DatabaseError;
    const BATCH_SIZE: usize = 512;

    /// Requests that timed out were reported as failed.
    fn is_waited_for(&mut self, command: &Command) -> bool {
        match command {
            Command::Prepare(stored) if stored.done.is_closed() => {
                let mut counters = self.shared.counters.lock();
                counters.release(stored.reserved, Size::default());
                false
            }
            _ => true,
        }
    }

    async fn execute(&mut self, batch: &mut [Command]) -> Result<Effects, DatabaseError> {
        let done = self.attempt(Batch(batch)).await;
        if done.is_err() {
            self.shared.counters.lock().stats.failed_batches += 1;
        }
        done
    }

    fn complete(&mut self, commands: Vec<Command>, effects: Effects) {
        let batch = Batch(&commands);
        let shared = self.shared.clone();
        let (queues, mut counters) = (&shared.queues, shared.counters.lock());
        counters.stats.batches += 1;
        counters.subtract(effects.deleted);
        counters.release(Size::default(), effects.unreserved);
        for (route, event) in effects.released {
            queues.remove(route, &event);
        }
        for (route, event) in effects.claimed_here {
            queues.push(route, event);
        }
        for route in effects.dead_lettered {
            counters.stats.routes[route].dead_lettered += 1;
        }
        if let Some(soonest) = effects.soonest {
            shared.soonest.fetch_min(soonest, Ordering::AcqRel);
            shared.failed.notify_one();
        }
        for route in effects.recovered {
            shared.breakers[route].recovered();
        }
        if effects.is_due {
            queues.claimable.notify_one();
        }
        if !effects.maintenance.dead.is_empty() {
            self.orphan_scan_until = Instant::now() + ORPHAN_SCAN;
        }
        for node in &effects.maintenance.dead {
            tracing::info!(node, "took over deliveries of a dead node");
            self.node.remove_file(node);
        }
        if batch.maintenance() == Some(true) {
            self.node.sweep(&effects.maintenance.known, ORPHAN_FILE_AGE);
        }
        counters.stats.dead_purged += effects.maintenance.purged;
        let mut in_doubt = Some(effects.in_doubt);
        let mut claimed = Some(effects.claimed);
        for command in commands {
            match command {
                Command::Prepare(stored) => {
                    counters.release(stored.reserved, stored.reserved);
                    let now = Instant::now();
                    let mut prepared = shared.prepared.lock();
                    for event in stored.events {
                        prepared.insert(event.id, (now, event.message.hook));
                    }
                    drop(prepared);
                    let _ = stored.done.send(Ok(()));
                }
                Command::Emit { event, .. } => {
                    shared.prepared.lock().remove(&event.id);
                }
                Command::Claim { done, .. } => {
                    let _ = done.send(claimed.take().unwrap_or_default());
                }
                Command::ClaimInDoubt { done, .. } => {
                    let _ = done.send(in_doubt.take().unwrap_or_default());
                }
                Command::Maintain { done, .. } => {
                    let _ = done.send(());
                }
                _ => {}
            }
        }
        if let Some(stored) = effects.stored {
            counters.set_stored(stored);
        }
    }

    /// Without end: emitted events are kept until the database works again.
    fn retry_delay(&mut self, failures: u32, error: &DatabaseError) -> Option<Duration> {
        let delay = MIN_BACKOFF
            .saturating_mul(1 << failures.min(16))
            .min(MAX_BACKOFF);
        if failures == 0 || delay == MAX_BACKOFF {
            tracing::error!(%error, "failed to write to the outbox, retrying");
        }
        Some(delay)
    }

    fn fail(&mut self, batch: Vec<Command>, error: DatabaseError) {
        let mut counters = self.shared.counters.lock();
        for command in batch {
            counters.stats.rejected_commands += 1;
            match command {
                Command::Prepare(stored) => {
                    tracing::error!(%error, "the outbox rejected a request: the database cannot store its event");
                    counters.release(stored.reserved, Size::default());
                    let rejected = OutboxError::Rejected(error.to_string());
                    let _ = stored.done.send(Err(rejected));
                }
                Command::Emit { event, .. } => {
                    tracing::error!(id = &*event.id, %error, "dropped an event that the database cannot store");
                }
                command => {
                    tracing::error!(?command, %error, "dropped a command that the database cannot execute");
                }
            }
        }
    }

    /// Other nodes take over when this node's lease expires, if this fails.
    async fn close(&mut self, is_requested: bool) {
        if !is_requested {
            return;
        }
        if let Err(error) = self.release_all().await {
            tracing::warn!(%error, "failed to release the deliveries of this node");
        }
        self.node.remove_own_file();
        self.shared.database.close().await;
    }
}

impl Writer {
    pub(super) fn new(shared: Arc<Shared>, node: Node) -> Self {
        Self {
            shared,
            node,
            renewed: None,
            orphan_scan_until: Instant::now() + ORPHAN_SCAN,
            in_doubt: false,
            measured: None,
            recorded_sequence: 0,
        }
    }

    async fn step<'a>(&self, shared: &'a Shared) -> Result<BatchTransaction<'a>, DatabaseError> {
        let transaction = shared.database.write().await?;
        Ok(BatchTransaction {
            shared,
            me: self.node.id.clone(),
            now: transaction.now(),
            transaction,
            effects: Effects::default(),
        })
    }

    async fn attempt(&mut self, batch: Batch<'_>) -> Result<Effects, DatabaseError> {
        let shared = self.shared.clone();
        let mut step = self.step(&shared).await?;
        let maintenance = batch.maintenance();
        let lease = NodeLease::new(&self.node, shared.settings.node_timeout).duration;
        let is_stale = self.is_stale(lease, maintenance.is_some() && batch.0.len() == 1);
        let mut is_evicted = self.in_doubt && self.renewed.is_some();
        if is_stale || is_evicted {
            is_evicted |= step.renew(self.renewed.is_none(), lease).await?;
        }
        let mut new_node = None;
        if is_evicted {
            // Other nodes may have taken over this node's rows: start again with the rows in the
            // database.
            let node = self.node.with_new_id();
            let unregister = sql::unregister_node(&self.node.id);
            step.transaction.execute(unregister).await?;
            step.me.clone_from(&node.id);
            let lease = NodeLease::new(&node, shared.settings.node_timeout).duration;
            step.renew(true, lease).await?;
            step.take_over(&self.node.id, step.now).await?;
            new_node = Some(node);
        }
        if shared.is_set_back(step.now) {
            step.advance_due().await?;
        }
        let renewed = (is_stale || is_evicted).then(|| (Instant::now(), step.now));
        if let Some(thorough) = maintenance {
            step.evict_dead_nodes(&self.node).await?;
            if thorough {
                step.advance_late().await?;
            }
            if thorough || Instant::now() < self.orphan_scan_until {
                step.find_orphaned().await?;
            }
        }
        step.write(batch, !is_evicted).await?;
        if maintenance == Some(true) {
            step.purge().await?;
        }
        let now = u64::try_from(step.now).unwrap_or_default() * 1000;
        let assigned = Event::last_sequence();
        // On PostgreSQL, the batches of all nodes would wait for the row. A number that is not ahead of the database's
        // clock need not be stored: that of the next process is larger.
        let is_needed = !shared.database.is_postgres() || assigned > now + MAX_AHEAD;
        if shared.database.is_postgres() {
            Event::skip_sequence(now);
        }
        let records = assigned > self.recorded_sequence && (maintenance == Some(true) || is_needed);
        if records {
            let record = sql::record_sequence(assigned);
            step.transaction.execute(record).await?;
        }
        step.measure(self.measured).await?;
        self.in_doubt = true;
        let (now, written_at) = (step.now, &shared.written_at);
        written_at.fetch_max(now, Ordering::AcqRel);
        step.transaction.commit().await?;
        written_at.store(now, Ordering::Release);
        self.in_doubt = false;
        if records {
            self.recorded_sequence = assigned;
        }
        self.renewed = renewed.or(self.renewed);
        if step.effects.stored.is_some() {
            self.measured = Some(Instant::now());
        }
        if let Some(node) = new_node {
            let (old, new) = (&self.node.id, &node.id);
            tracing::warn!(old, new, "outbox writer restarted with a new node id");
            self.node.remove_own_file();
            self.node = node;
            *shared.lease.lock() = NodeLease::new(&self.node, shared.settings.node_timeout);
            shared.queues.clear();
            shared.prepared.lock().clear();
        }
        Ok(step.effects)
    }

    /// Early if the node writes anyway.
    fn is_stale(&self, lease: Duration, is_idle: bool) -> bool {
        let every = if is_idle {
            renewal_interval(lease)
        } else {
            lease / 4
        };
        self.renewed.is_none_or(|(at, when)| {
            // Maintenance uses the database's clock, which may be slightly ahead.
            let early = Duration::from_millis(100);
            at.elapsed() + early >= every
                || (self.shared.database.clock().millis() - when).abs() + millis(early)
                    >= millis(every)
        })
    }

    async fn release_all(&self) -> Result<(), DatabaseError> {
        let mut step = self.step(&self.shared).await?;
        step.take_over(&self.node.id, step.now).await?;
        let unregister = sql::unregister_node(&self.node.id);
        step.transaction.execute(unregister).await?;
        step.transaction.commit().await
    }
}
