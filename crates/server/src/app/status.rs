use std::sync::Arc;

use futures_util::future::join_all;
use landfall_messages::Transport as _;
use landfall_queue::Queue;
use serde::Serialize;
use tokio::time::timeout;

use super::{
    cached_probe::{CachedProbe, PROBE_TIMEOUT},
    hooks::{Hooks, InstrumentedTransport},
    storage::Storage,
};

/// The result of checking a component, as the dashboard shows it.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct HealthCheck {
    component: &'static str,
    name: String,
    healthy: bool,
    message: String,
}

impl HealthCheck {
    /// The error becomes a sentence: capitalized, with a full stop.
    fn new(component: &'static str, name: &str, error: Option<&str>, state: &str) -> Self {
        Self {
            component,
            name: name.to_owned(),
            healthy: error.is_none(),
            message: error.map_or_else(|| state.to_owned(), sentence),
        }
    }
}

fn sentence(text: &str) -> String {
    let text = text.trim();
    let mut rest = text.chars();
    let first = rest.next().into_iter().flat_map(char::to_uppercase);
    let end = (!text.ends_with(['.', '!', '?'])).then_some('.');
    first.chain(rest.as_str().chars()).chain(end).collect()
}

#[derive(Debug)]
pub(crate) struct AppStatus {
    pub(crate) storage: Arc<Storage>,
    pub(crate) hooks: Arc<Hooks>,
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

    /// Checks all components. Results are cached for a few seconds.
    pub(crate) async fn health(&self) -> Vec<HealthCheck> {
        self.health.get(async || self.check().await).await
    }

    async fn check(&self) -> Vec<HealthCheck> {
        let storage = &self.storage;
        let routes = self.hooks.routes.iter();
        let (store, leases, database, hooks) = tokio::join!(
            storage.store_error(),
            storage.lease_error(),
            self.check_database(),
            join_all(routes.map(|route| check_transport(&route.transport)))
        );
        let (backend, description) = storage.describe_leases();
        let location = storage.capacity().location;
        let mut checks = vec![
            HealthCheck::new("store", &location, store, "The store is available."),
            HealthCheck::new("leases", backend, leases, &description),
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
        HealthCheck::new("database", &self.database, error, "The database responds.")
    }
}

/// Healthy if it can be reached and its last delivery succeeded.
async fn check_transport(transport: &InstrumentedTransport) -> HealthCheck {
    let describe = |error| format!("the last call failed: {error}");
    let error = match timeout(PROBE_TIMEOUT, transport.check()).await {
        Ok(Ok(())) => transport.last_error().map(describe),
        Ok(Err(failure)) => Some(landfall_messages::error_chain(&failure)),
        Err(_) => Some("the receiver does not respond".into()),
    };
    let state = match transport.was_called() {
        true => "The last call succeeded.",
        false => "No call yet.",
    };
    HealthCheck::new("hooks", transport.name(), error.as_deref(), state)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_become_sentences() {
        let check = HealthCheck::new("store", "/srv", Some("it is full\n"), "Fine.");
        assert_eq!((check.healthy, &*check.message), (false, "It is full."));
        let check = HealthCheck::new("store", "/srv", None, "Fine.");
        assert_eq!((check.healthy, &*check.message), (true, "Fine."));
    }
}
