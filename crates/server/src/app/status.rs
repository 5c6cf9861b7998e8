use std::sync::Arc;

use async_trait::async_trait;
use futures_util::future::join_all;
use landfall_messages::Transport as _;
use landfall_outbox::{Events, OutboxStats};
use landfall_queue::Queue;
use tokio::time::timeout;

use super::{
    cached_probe::{CachedProbe, PROBE_TIMEOUT},
    hooks::{Hooks, InstrumentedTransport},
    storage::Storage,
};
use crate::admin::{Component, HealthCheck, ServerStatus, StorageCapacity};

#[derive(Debug)]
pub(super) struct AppStatus {
    storage: Arc<Storage>,
    hooks: Arc<Hooks>,
    queue: Queue,
    database: String,
    health: CachedProbe<Vec<HealthCheck>>,
}

impl AppStatus {
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
            health: CachedProbe::default(),
        }
    }

    async fn check(&self) -> Vec<HealthCheck> {
        let storage = &self.storage;
        let (store, leases, database, hooks) = tokio::join!(
            storage.store_error(),
            storage.lease_error(),
            self.check_database(),
            join_all(
                self.hooks
                    .routes
                    .iter()
                    .map(|route| check_transport(&route.transport))
            )
        );
        let (backend, description) = storage.describe_leases();
        let location = storage.capacity().location;
        let mut checks = vec![
            HealthCheck::new(Component::Store, &location, store, || {
                "The store is available.".into()
            }),
            HealthCheck::new(Component::Leases, backend, leases, || description),
            database,
        ];
        checks.extend(hooks);
        checks
    }

    async fn check_database(&self) -> HealthCheck {
        let error = match timeout(PROBE_TIMEOUT, self.queue.check()).await {
            Ok(Ok(())) => self.hooks.health_error().await,
            Ok(Err(error)) => {
                tracing::warn!(%error, "failed to reach the database");
                Some("the database is unreachable")
            }
            Err(_) => Some("the database does not respond"),
        };
        HealthCheck::new(Component::Database, &self.database, error, || {
            "The database responds.".into()
        })
    }
}

/// Healthy if it can be reached and its last delivery succeeded.
async fn check_transport(transport: &InstrumentedTransport) -> HealthCheck {
    let error = match timeout(PROBE_TIMEOUT, transport.check()).await {
        Ok(Ok(())) => transport
            .last_error()
            .map(|error| format!("the last call failed: {error}")),
        Ok(Err(failure)) => Some(landfall_messages::error_chain(&failure)),
        Err(_) => Some("the receiver does not respond".into()),
    };
    HealthCheck::new(
        Component::Hooks,
        transport.name(),
        error.as_deref(),
        || match transport.was_called() {
            true => "The last call succeeded.".into(),
            false => "No call yet.".into(),
        },
    )
}

#[async_trait]
impl ServerStatus for AppStatus {
    fn storage(&self) -> StorageCapacity {
        self.storage.capacity()
    }

    async fn health(&self) -> Vec<HealthCheck> {
        self.health.get(async || self.check().await).await
    }

    fn outbox(&self) -> Option<OutboxStats> {
        self.hooks.outbox_stats()
    }

    fn events(&self) -> Option<Events> {
        self.hooks.events()
    }
}
