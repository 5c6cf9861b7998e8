use std::time::Duration;

use futures_util::future::join_all;
use landfall_messages::Transport as _;
use landfall_outbox::RouteStats;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::storage::StorageCapacity;
use super::{AppParts, cached_probe::PROBE_TIMEOUT, hooks::InstrumentedTransport};

const MIN_FREE_PERCENT: u128 = 5;

/// Age of a pending event from which its receiver counts as behind.
const MAX_DELAY: Duration = Duration::from_secs(300);

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
        let capacity = storage.capacity();
        let location = capacity.location.clone();
        let mut checks = vec![health_check(
            "store",
            &location,
            store,
            "The store is available.",
        )];
        checks.extend(check_disk(&capacity));
        checks.push(health_check("leases", backend, leases, &description));
        checks.extend(database);
        checks.extend(hooks);
        let outbox = self.hooks.outbox_stats();
        checks.extend(
            outbox
                .iter()
                .flat_map(|stats| &stats.routes)
                .map(check_events),
        );
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

fn check_disk(storage: &StorageCapacity) -> Option<Value> {
    let (capacity, free) = (storage.capacity?, storage.free?);
    let percent = u128::from(free) * 100 / u128::from(capacity.max(1));
    let state = format!("{percent} % of the disk is free.");
    let error = (percent < MIN_FREE_PERCENT).then_some(state.as_str());
    Some(health_check("disk", &storage.location, error, &state))
}

/// Healthy if every event was delivered, or is about to be.
fn check_events(route: &RouteStats) -> Value {
    let waits = route.oldest > MAX_DELAY;
    let error = match (route.dead, waits) {
        (0, false) => None,
        (0, true) => Some(format!(
            "{} events are pending, the oldest for {} minutes",
            route.pending,
            route.oldest.as_secs() / 60
        )),
        (dead, _) => Some(format!("dead letters, which were not delivered: {dead}")),
    };
    health_check("events", &route.name, error.as_deref(), "No event is late.")
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

    #[test]
    fn a_disk_with_less_than_five_percent_is_unhealthy() {
        let disk = |free| {
            check_disk(&StorageCapacity {
                location: "/srv".into(),
                capacity: Some(1000),
                free: Some(free),
            })
        };
        assert_eq!(disk(50).unwrap()["healthy"], true);
        let full = disk(49).unwrap();
        assert_eq!(full["healthy"], false);
        assert_eq!(full["message"], "4 % of the disk is free.");
    }

    #[test]
    fn late_and_undelivered_events_are_unhealthy() {
        let events = |dead, pending, oldest| {
            let mut route = RouteStats::default();
            (route.dead, route.pending) = (dead, pending);
            route.oldest = Duration::from_secs(oldest);
            let check = check_events(&route);
            (
                check["healthy"] == true,
                check["message"].as_str().unwrap().to_owned(),
            )
        };
        assert!(events(0, 3, 300).0);
        assert_eq!(
            events(0, 3, 360),
            (
                false,
                "3 events are pending, the oldest for 6 minutes.".to_owned()
            )
        );
        assert!(!events(1, 0, 0).0);
    }
}
