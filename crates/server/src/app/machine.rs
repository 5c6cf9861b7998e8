//! What the dashboard is shown of this server.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use futures_util::future::join_all;
use landfall_grants::Queue;
use landfall_hooks::{
    Transport as _,
    outbox::{Events, OutboxStats},
};

use tokio::{sync::Mutex, time::timeout};

use super::{
    hooks::{Hooks, Watched},
    storage::Storage,
};
use crate::admin::{Check, Machine, Part, Room};

/// This server, as the dashboard sees it.
#[derive(Debug)]
pub(super) struct Shown {
    storage: Arc<Storage>,
    hooks: Arc<Hooks>,
    queue: Queue,
    /// What people call the database.
    database: String,
    known: Mutex<Option<(Instant, Vec<Check>)>>,
}

/// How long what was found out is good.
const GOOD_FOR: Duration = Duration::from_secs(3);

/// How long finding out may take.
const PATIENCE: Duration = Duration::from_secs(4);

impl Shown {
    pub(super) fn new(
        storage: Arc<Storage>,
        hooks: Arc<Hooks>,
        queue: Queue,
        database: String,
    ) -> Self {
        Self {
            storage,
            hooks,
            queue,
            database,
            known: Mutex::default(),
        }
    }

    async fn look(&self) -> Vec<Check> {
        let storage = &self.storage;
        let (store, leases, database, ways) = tokio::join!(
            storage.store_trouble(),
            storage.lease_trouble(),
            self.database(),
            self.ways()
        );
        let (lease_name, how) = storage.lease_words();
        let mut checks = vec![
            Check::new(Part::Store, &storage.room().place, store, || {
                "Uploads can be kept.".into()
            }),
            Check::new(Part::Leases, lease_name, leases, || how),
            database,
        ];
        checks.extend(ways);
        checks
    }

    async fn database(&self) -> Check {
        let trouble = match timeout(PATIENCE, self.queue.check()).await {
            Ok(Ok(())) => self.hooks.trouble().await,
            Ok(Err(error)) => {
                tracing::warn!(%error, "the database can't be reached");
                Some("it can't be reached")
            }
            Err(_) => Some("it doesn't answer"),
        };
        let well = || "It answers.".into();
        Check::new(Part::Database, &self.database, trouble, well)
    }

    async fn ways(&self) -> Vec<Check> {
        join_all(self.hooks.ways.iter().map(|way| of_way(&way.transport))).await
    }
}

/// A way is well if it can be reached and its last delivery arrived; what failed before that is of no
/// concern.
async fn of_way(way: &Watched) -> Check {
    let trouble = match timeout(PATIENCE, way.check()).await {
        Ok(Ok(())) => way
            .last_failure()
            .map(|why| format!("the last call failed: {why}")),
        Ok(Err(failure)) => Some(failure.error_chain()),
        Err(_) => Some("it doesn't answer".into()),
    };
    let well = || match way.was_called() {
        true => "The last call arrived.".into(),
        false => "Nothing was sent yet.".into(),
    };
    Check::new(Part::Hooks, way.name(), trouble.as_deref(), well)
}

#[async_trait]
impl Machine for Shown {
    fn room(&self) -> Room {
        self.storage.room()
    }

    async fn health(&self) -> Vec<Check> {
        // Those who come while somebody looks wait for what he finds.
        let mut known = self.known.lock().await;
        if let Some((when, checks)) = &*known
            && when.elapsed() < GOOD_FOR
        {
            return checks.clone();
        }
        let checks = self.look().await;
        *known = Some((Instant::now(), checks.clone()));
        checks
    }

    fn outbox(&self) -> Option<OutboxStats> {
        self.hooks.outbox()
    }

    fn events(&self) -> Option<Events> {
        self.hooks.events()
    }
}
