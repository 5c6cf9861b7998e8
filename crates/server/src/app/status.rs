use futures_util::future::join_all;
use landfall_messages::Transport as _;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::{AppParts, cached_probe::PROBE_TIMEOUT, hooks::InstrumentedTransport};

/// The result of checking a component, as the dashboard shows it.
fn health_check(component: &str, name: &str, error: Option<&str>, state: &str) -> Value {
    json!({
        "component": component,
        "name": name,
        "healthy": error.is_none(),
        "message": error.map_or_else(|| state.to_owned(), sentence),
    })
}

/// Capitalized, with a full stop.
fn sentence(text: &str) -> String {
    let text = text.trim();
    let mut rest = text.chars();
    let first = rest.next().into_iter().flat_map(char::to_uppercase);
    let end = (!text.ends_with(['.', '!', '?'])).then_some('.');
    first.chain(rest.as_str().chars()).chain(end).collect()
}

impl AppParts {
    /// Checks all components. Results are cached for a few seconds.
    pub(crate) async fn health(&self) -> Vec<Value> {
        self.health.get(async || self.check().await).await
    }

    async fn check(&self) -> Vec<Value> {
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
            health_check("store", &location, store, "The store is available."),
            health_check("leases", backend, leases, &description),
        ];
        checks.extend(database);
        checks.extend(hooks);
        checks
    }

    async fn check_database(&self) -> Option<Value> {
        let grants = self.grants.as_ref()?;
        let error = match timeout(PROBE_TIMEOUT, grants.queue.check()).await {
            Ok(Ok(())) => self.hooks.health_error().await,
            Ok(Err(error)) => {
                tracing::warn!(%error, "failed to reach the database");
                Some("the database is unreachable")
            }
            Err(_) => Some("the database does not respond"),
        };
        let name = &grants.database_name;
        Some(health_check(
            "database",
            name,
            error,
            "The database responds.",
        ))
    }
}

/// Healthy if it can be reached and its last delivery succeeded.
async fn check_transport(transport: &InstrumentedTransport) -> Value {
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
    health_check("hooks", transport.name(), error.as_deref(), state)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_become_sentences() {
        let check = health_check("store", "/srv", Some("it is full\n"), "Fine.");
        assert_eq!(check["healthy"], false);
        assert_eq!(check["message"], "It is full.");
        let check = health_check("store", "/srv", None, "Fine.");
        assert_eq!(check["healthy"], true);
        assert_eq!(check["message"], "Fine.");
    }
}
