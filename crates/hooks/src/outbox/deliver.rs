//! Delivering: for each route many at once, for each upload one after the other.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use landfall::Handler;
use tokio::{
    sync::{oneshot, watch},
    task::JoinSet,
    time::{interval, sleep, timeout},
};

use super::{
    DatabaseError, Outbox,
    batch::{Command, Failure},
    lanes::Held,
    sql::{self, TOLD},
    tally::add,
};

/// How often the database is asked for what is due that this process doesn't know of.
const LOOK: Duration = Duration::from_secs(1);
/// Pause between two looks that found nothing to do.
const SHORTEST_LOOK: Duration = Duration::from_millis(50);
/// Lanes that are claimed at once.
const CLAIM: usize = 512;
/// How long a delivery waits for a call about progress of its upload.
const PROGRESS_PATIENCE: Duration = Duration::from_secs(30);
/// How often this process looks after others.
const TEND: Duration = Duration::from_secs(1);
/// Every so many looks it looks after what is old.
const THOROUGHLY: u32 = 60;
/// Every so many looks it counts what is in the database.
const COUNT: u32 = 5;

impl Outbox {
    /// Delivers, tries again, and settles what was announced and never told, until the outbox is
    /// [closed](Self::close). Deliveries are made by tasks of the runtime that this runs in.
    ///
    /// # Cancel safety
    /// May be dropped; deliveries under way are then broken off, and made again by whoever runs next.
    pub async fn run(self, handler: Handler) {
        let _running = self.shared.running.lock().await;
        let mut closing = self.shared.closing.subscribe();
        let mut routes = JoinSet::new();
        for route in 0..self.shared.routes.len() {
            routes.spawn(self.clone().deliver_route(route, closing.clone()));
        }
        let upkeep = async {
            tokio::join!(
                self.claim_due(),
                self.settle_due(handler),
                self.tend_forever()
            );
        };
        tokio::select! {
            () = upkeep => {}
            _ = closing.wait_for(|closing| *closing) => {}
        }
        // Each ends when what it has begun is done.
        while routes.join_next().await.is_some() {}
    }

    async fn deliver_route(self, route: usize, mut closing: watch::Receiver<bool>) {
        let parallel = self.shared.settings.parallel.max(1);
        let mut running = JoinSet::new();
        loop {
            tokio::select! {
                _ = closing.wait_for(|closing| *closing) => break,
                Some(_) = running.join_next(), if !running.is_empty() => {}
                (upload, held) = self.shared.lanes.next(route), if running.len() < parallel => {
                    running.spawn(self.clone().deliver(route, upload, held));
                }
            }
        }
        while running.join_next().await.is_some() {}
    }

    async fn deliver(self, route: usize, upload: Arc<str>, held: Held) {
        let shared = &self.shared;
        let transport = &shared.routes[route].transport;
        if let Some(progress) = &shared.settings.progress {
            let quiet = progress.quiet(&upload);
            if timeout(PROGRESS_PATIENCE, quiet).await.is_err() {
                tracing::warn!(
                    id = &*upload,
                    "a call about progress takes long: not waited for"
                );
            }
        }
        let longest = shared.settings.longest_delivery;
        let delivered = timeout(longest, transport.deliver(&held.message)).await;
        let (error, retry_after) = match delivered {
            Ok(Ok(_)) => {
                add(&shared.tally.routes[route].delivered, 1);
                let event = held.event.clone();
                // Before the next one begins: it must not be forgotten if this task is broken off.
                let _ = self.commands.send(Command::Arrived { route, event }).await;
                shared.lanes.advance(route, &upload, &held.event);
                return;
            }
            Ok(Err(failure)) => (describe(&failure), failure.retry_after),
            Err(_) => (format!("no answer within {longest:?}"), None),
        };
        add(&shared.tally.routes[route].failed, 1);
        tracing::warn!(
            hook = %held.message.hook,
            id = &*upload,
            route = transport.name(),
            attempt = held.attempts + 1,
            error,
            "an event wasn't delivered"
        );
        let failure = Failure {
            route,
            upload,
            event: held.event,
            error,
            retry_after,
        };
        let _ = self.commands.send(Command::Failed(failure)).await;
    }

    /// Takes in hand what waits in the database, as it is due and as there is room.
    async fn claim_due(&self) {
        let shared = &self.shared;
        loop {
            let claimed = match self.claim().await {
                Ok(claimed) => claimed,
                Err(error) => {
                    tracing::warn!(%error, "the outbox can't look for what is due");
                    0
                }
            };
            if claimed > 0 && shared.lanes.room() > 0 {
                continue;
            }
            sleep(SHORTEST_LOOK).await;
            loop {
                let soonest = shared.soonest.load(Ordering::Acquire);
                let wait = soonest.saturating_sub(shared.clock.now()).max(0);
                let wait = Duration::from_millis(wait.unsigned_abs()).min(LOOK);
                tokio::select! {
                    () = sleep(wait) => break,
                    () = shared.lanes.roomy.notified() => break,
                    () = shared.failed.notified() => {}
                }
            }
        }
    }

    async fn claim(&self) -> Result<usize, DatabaseError> {
        let shared = &self.shared;
        let now = shared.clock.now();
        let soonest = shared.soonest.load(Ordering::Acquire);
        if soonest <= now {
            shared.soonest.store(i64::MAX, Ordering::Release);
        }
        if shared.lanes.room() == 0 {
            return Ok(0);
        }
        // Reading is cheaper than a transaction that finds nothing.
        if shared
            .database
            .read(sql::is_due(TOLD, now))
            .await?
            .is_empty()
        {
            return Ok(0);
        }
        let (done, claimed) = oneshot::channel();
        let command = Command::Claim { most: CLAIM, done };
        if self.commands.send(command).await.is_err() {
            return Ok(0);
        }
        Ok(claimed.await.unwrap_or_default())
    }

    async fn tend_forever(&self) {
        let mut looks = interval(TEND.min(self.shared.settings.node_timeout / 6));
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        for look in 0_u32.. {
            looks.tick().await;
            self.tend(look % THOROUGHLY == 0).await;
            if look % COUNT == 0
                && let Err(error) = self.count().await
            {
                tracing::warn!(%error, "the outbox can't count its events");
            }
        }
    }
}

/// The start of what is kept of a failure.
fn describe(failure: &crate::Failure) -> String {
    const MOST: usize = 2000;
    let mut text = failure.in_full();
    text.truncate(text.floor_char_boundary(MOST));
    text
}
