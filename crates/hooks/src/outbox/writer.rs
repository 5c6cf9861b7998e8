//! The one task that writes: it gathers what has come in meanwhile into one transaction.

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use landfall_database::DatabaseError;
use tokio::{sync::mpsc, time::sleep};

use super::{
    Shared,
    batch::{Batch, Command},
    clock::millis,
    commit::{Effects, Step},
    node::Node,
    sql,
    tally::add,
};

/// Commands in one transaction.
const MOST: usize = 512;
/// How long after a node is gone something of it may still turn up.
const ALERT: Duration = Duration::from_secs(10);
/// How old a file of a process must be that the database doesn't know, to be of one that is gone.
const ORPHANED: Duration = Duration::from_secs(3600);
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// See the module.
#[derive(Debug)]
pub(super) struct Writer {
    shared: Arc<Shared>,
    node: Node,
    /// When the node last said that it lives, by either clock; the first stands still while the
    /// machine sleeps.
    renewed: Option<(Instant, i64)>,
    /// Until when it is looked for what nodes that are gone had.
    alert: Instant,
    /// It isn't known whether the last transaction was kept.
    is_unsure: bool,
}

impl Writer {
    pub(super) fn new(shared: Arc<Shared>, node: Node) -> Self {
        Self {
            shared,
            node,
            renewed: None,
            alert: Instant::now() + ALERT,
            is_unsure: false,
        }
    }

    /// Writes until it is told to close, or nobody is left to tell it anything.
    pub(super) async fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        let mut waiting = Vec::with_capacity(MOST);
        loop {
            if commands.recv_many(&mut waiting, MOST).await == 0 {
                return;
            }
            let mut batch = Batch::default();
            waiting.drain(..).for_each(|command| batch.add(command));
            if batch.closed.is_some() {
                commands.close();
                while let Some(command) = commands.recv().await {
                    batch.add(command);
                }
            }
            let effects = self.keep(&mut batch).await;
            let closed = batch.closed.take();
            self.finish(batch, effects);
            if let Some(done) = closed {
                self.leave().await;
                let _ = done.send(());
                return;
            }
        }
    }

    /// Tries until the batch is kept.
    async fn keep(&mut self, batch: &mut Batch) -> Effects {
        let mut pause = FIRST_PAUSE;
        loop {
            // Those who have lost patience have told their clients that nothing happened.
            let tally = &self.shared.tally;
            batch.announced.retain(|one| {
                let is_waited_for = !one.done.is_closed();
                if !is_waited_for {
                    tally.came(one.reserved, 0);
                }
                is_waited_for
            });
            batch.posted.retain(|one| {
                let is_waited_for = !one.done.is_closed();
                if !is_waited_for {
                    tally.came(one.reserved, 0);
                }
                is_waited_for
            });
            let error = match self.attempt(batch).await {
                Ok(effects) => return effects,
                Err(error) => error,
            };
            if pause == FIRST_PAUSE || pause == LONGEST_PAUSE {
                tracing::error!(%error, "the outbox can't write; trying again");
            }
            add(&self.shared.tally.failed_batches, 1);
            self.is_unsure = true;
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    async fn attempt(&mut self, batch: &Batch) -> Result<Effects, DatabaseError> {
        let shared = self.shared.clone();
        let mut step = Step {
            shared: &shared,
            transaction: shared.database.write().await?,
            me: self.node.id.clone(),
            now: shared.clock.now(),
            effects: Effects::default(),
        };
        let is_stale = self.is_stale() || !batch.tended.is_empty();
        let mut is_gone = self.is_unsure && self.renewed.is_some();
        if is_stale || is_gone {
            is_gone |= step.renew(self.renewed.is_none()).await?;
        }
        let mut reborn = None;
        if is_gone {
            // Others may have taken over what this node had: it begins anew, with what is in the
            // database.
            let node = self.node.another();
            step.transaction.execute(sql::leave(&self.node.id)).await?;
            step.me.clone_from(&node.id);
            step.renew(true).await?;
            step.inherit(&self.node.id, step.now).await?;
            reborn = Some(node);
        }
        let renewed = (is_stale || is_gone).then(|| (Instant::now(), step.now));
        if !batch.tended.is_empty() {
            step.mind_nodes(&self.node).await?;
            if batch.thoroughly || Instant::now() < self.alert {
                step.find_lost().await?;
            }
        }
        step.write(batch, !is_gone).await?;
        if batch.thoroughly {
            step.tidy().await?;
        }
        step.transaction.commit().await?;
        self.renewed = renewed.or(self.renewed);
        self.is_unsure = false;
        if let Some(node) = reborn {
            tracing::warn!(old = self.node.id, new = node.id, "the outbox begins anew");
            self.node.leave();
            self.node = node;
            shared.lanes.clear();
            shared.open().clear();
        }
        Ok(step.effects)
    }

    /// Whether it is time to say that this node lives.
    fn is_stale(&self) -> bool {
        let every = self.shared.settings.node_timeout / 6;
        self.renewed.is_none_or(|(at, when)| {
            at.elapsed() >= every || (self.shared.clock.now() - when).abs() >= millis(every)
        })
    }

    /// What follows from a transaction that is kept.
    fn finish(&mut self, batch: Batch, effects: Effects) {
        let Shared { tally, lanes, .. } = &*self.shared;
        add(&tally.batches, 1);
        add(
            &tally.batched,
            u64::try_from(batch.len()).unwrap_or(u64::MAX),
        );
        tally.went(effects.deleted);
        tally.came_anyway(effects.extra);
        {
            let mut open = self.shared.open();
            for fact in &batch.told {
                open.remove(&fact.id);
            }
            for posting in batch.posted {
                // Those rows that were new were counted as they came.
                tally.came(posting.reserved, 0);
                let _ = posting.done.send(());
            }
            let now = Instant::now();
            for announcement in batch.announced {
                tally.came(announcement.reserved, announcement.reserved);
                for fact in announcement.facts {
                    open.insert(fact.id, (now, fact.message.hook));
                }
                let _ = announcement.done.send(());
            }
        }
        if let Some(rows) = effects.tended.rows {
            tally.counted(rows);
        }
        for (route, upload) in effects.released {
            lanes.remove(route, &upload);
        }
        for (route, upload, held) in effects.mine {
            lanes.push(route, &upload, held);
        }
        for route in effects.given_up {
            add(&tally.routes[route].given_up, 1);
        }
        if let Some(soonest) = effects.soonest {
            self.shared.soonest.fetch_min(soonest, Ordering::AcqRel);
            self.shared.failed.notify_one();
        }
        if effects.is_due {
            lanes.roomy.notify_one();
        }
        if let Some((_, done)) = batch.claim {
            let _ = done.send(effects.claimed);
        }
        if let Some((_, done)) = batch.take {
            let _ = done.send(effects.unsettled);
        }
        if !effects.tended.gone.is_empty() {
            self.alert = Instant::now() + ALERT;
        }
        for node in &effects.tended.gone {
            tracing::info!(node, "took over what a process left");
            self.node.clear_away(node);
        }
        if batch.thoroughly {
            self.node.sweep(&effects.tended.known, ORPHANED);
        }
        let (old, surplus) = effects.tended.buried;
        add(&tally.buried, old + surplus);
        if surplus > 0 {
            tracing::warn!(
                events = surplus,
                "too many dead events: the oldest were removed"
            );
        }
        for done in batch.tended {
            let _ = done.send(());
        }
    }

    /// Lets go of everything. What this fails to do, others do when the node's time is over.
    async fn leave(&mut self) {
        if let Err(error) = self.let_go().await {
            tracing::warn!(%error, "the outbox couldn't let go of its events");
        }
        self.node.leave();
        self.shared.database.close().await;
    }

    async fn let_go(&self) -> Result<(), DatabaseError> {
        let shared = &self.shared;
        let mut step = Step {
            shared,
            transaction: shared.database.write().await?,
            me: self.node.id.clone(),
            now: shared.clock.now(),
            effects: Effects::default(),
        };
        step.inherit(&self.node.id, step.now).await?;
        step.transaction.execute(sql::leave(&self.node.id)).await?;
        step.transaction.commit().await
    }
}
