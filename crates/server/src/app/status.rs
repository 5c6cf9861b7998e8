//! The health of each component, as the dashboard shows it.
//!
//! Errors are the conditions of the server, so that log, `/readyz` and dashboard agree. In addition to the checks of
//! `/readyz`, hook transports check their receivers; no hook is called for this.

use futures_util::future::join_all;
use landfall_hooks::Transport as _;
use serde_json::{Value, json};

use super::parts::AppParts;
use crate::condition::{Condition, Effect};

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
        let routes = self.hooks.routes.iter();
        let ask = routes.clone().map(async |route| {
            // Its result is the transport's last error.
            let _ = route.transport.check().await;
        });
        let ask = join_all(ask);
        tokio::join!(self.check_readiness(), ask);
        // The check of the receivers may have ended last.
        self.hooks.check_receivers(&self.conditions);

        let conditions = self.conditions.list();
        let check = |component: &str, name: &str, subject: Option<&str>, state: &str| {
            let concerns = |one: &&Condition| {
                one.kind.component() == component
                    && one.kind.effect() != Effect::Occurrence
                    && subject.is_none_or(|subject| one.subject == subject)
            };
            let error = conditions.iter().find(concerns).map(Condition::to_string);
            health_check(component, name, error.as_deref(), state)
        };
        let capacity = self.storage.capacity();
        let location = capacity.location.as_str();
        let mut checks = vec![check("store", location, None, "The store is available.")];
        if let Some(percent) = capacity.free_percent() {
            let state = format!("{percent} % of the disk is free.");
            checks.push(check("disk", location, None, &state));
        }
        let (backend, description) = self.storage.describe_leases();
        checks.push(check("leases", backend, None, &description));
        if let Some(grants) = &self.grants {
            let name = &grants.database_name;
            checks.push(check("database", name, None, "The database responds."));
        }
        for route in routes {
            let state = match route.transport.was_called() {
                true => "The last call succeeded.",
                false => "No call yet.",
            };
            let name = route.transport.name();
            checks.push(check("hooks", name, Some(name), state));
        }
        for route in self
            .hooks
            .outbox_stats()
            .iter()
            .flat_map(|stats| &stats.routes)
        {
            let name = &route.name;
            checks.push(check("events", name, Some(name), "No event is late."));
        }
        checks
    }
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
