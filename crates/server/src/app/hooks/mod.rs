//! Connects transports of hooks with the handler: blocking hooks, the outbox and progress notifications.
//!
//! Progress is sent directly and not stored; all other events pass through the outbox. Without stored events, no
//! database is opened. A receiver that fails does not make the server unready; an outbox that is full or cannot store
//! events does. A reload replaces transports, and never adds, removes or reorders them.

mod instrumented;
mod transports;

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use landfall::{Config, Handler};
use landfall_hooks::{
    BlockingHooks, Creations, HookName, HookNames, ProgressNotifier, Route, Transport as _,
};
use landfall_state::outbox::{HeaderKey, Outbox, OutboxSettings, OutboxStats};
use landfall_state::sql::Database;

pub(super) use self::{
    instrumented::{BOUNDS_MS, HookCounters, InstrumentedTransport},
    transports::hook_routes,
};
use super::{
    cached_probe::CachedProbe,
    state::{self, SharedDatabase},
};
use crate::{
    condition::{ConditionKind, Conditions},
    log,
    settings::{self, Settings},
};

/// In the directory of the database.
const KEY_FILE: &str = "events.key";
/// Age of a pending event from which its receiver counts as behind.
const MAX_DELAY: Duration = Duration::from_secs(300);

#[derive(Debug)]
pub(super) struct HookRoute {
    pub(super) transport: Arc<InstrumentedTransport>,
    pub(super) names: HookNames,
    own_events: bool,
    line: String,
}

#[derive(Debug)]
pub(crate) struct Hooks {
    pub(super) routes: Vec<HookRoute>,
    settings: settings::Hooks,
    /// Progress is sent directly; all other events go through the outbox, whose database has a name.
    progress: Option<ProgressNotifier>,
    creations: Creations,
    outbox: Option<(Outbox, String)>,
    reachable: CachedProbe<Option<String>>,
}

impl Hooks {
    pub(super) async fn open(
        settings: &Settings,
        database: &SharedDatabase,
        routes: Vec<HookRoute>,
    ) -> anyhow::Result<Self> {
        let routes_for = |names: HookNames| -> Vec<Route> {
            let route = |route: &HookRoute| Route {
                transport: route.transport.clone(),
                names: route.names.intersection(names),
            };
            let routes = routes.iter().map(route);
            routes.filter(|route| !route.names.is_empty()).collect()
        };
        let creations = Creations::default();
        let progress = routes_for(HookNames::from_names(&[HookName::PostReceive]));
        let progress =
            (!progress.is_empty()).then(|| ProgressNotifier::new(progress, creations.clone()));
        let stored = routes_for(settings.stored_names());
        // Without stored events, no database is opened.
        let mut outbox = None;
        if !stored.is_empty() {
            let (config, name) = state::named_database(settings);
            let mut wanted = outbox_settings(settings, config, progress.clone());
            wanted.connections = Some(database.connect(settings, "events").await?);
            wanted.creations = creations.clone();
            if let Some(key) = header_key(settings, &stored)? {
                wanted.header_key = key;
            }
            let opened = Outbox::open(wanted, stored).await;
            let opened = opened.with_context(|| format!("cannot store events in {name}"))?;
            outbox = Some((opened, name));
        }
        Ok(Self {
            routes,
            settings: settings.hooks.clone(),
            progress,
            creations,
            outbox,
            reachable: CachedProbe::default(),
        })
    }

    /// Checks that `routes` are for the transports that run, with their events.
    pub(super) fn check_replacement(&self, routes: &[HookRoute]) -> anyhow::Result<()> {
        let kinds = |routes: &[HookRoute]| -> Vec<_> {
            let kind = |route: &HookRoute| (route.transport.name().to_owned(), route.names);
            routes.iter().map(kind).collect()
        };
        let is_same = kinds(&self.routes) == kinds(routes);
        anyhow::ensure!(
            is_same,
            "another set of transports of hooks needs a restart"
        );
        Ok(())
    }

    /// Running calls of hooks end with the previous settings.
    pub(super) fn replace_transports(&self, routes: &[HookRoute]) {
        for (running, new) in self.routes.iter().zip(routes) {
            running.transport.replace(&new.transport);
        }
    }

    pub(super) fn configure(&self, config: &mut Config) {
        config.progress_interval = self.settings.progress_interval;
        for route in &self.routes {
            if route.names.blocking().next().is_some() {
                config.hooks.push(self.blocking_hooks(route, route.names));
            }
        }
        if let Some(progress) = &self.progress {
            config.sinks.push(Arc::new(progress.clone()));
        }
        if let Some(outbox) = self.outbox() {
            config.sinks.push(Arc::new(outbox.clone()));
        }
    }

    pub(super) fn grant_hooks(&self) -> impl Iterator<Item = Arc<BlockingHooks>> {
        let names = HookNames::from_names(&[HookName::PreGrant]);
        let routes = self.routes.iter();
        let routes = routes.filter(|route| route.names.contains(HookName::PreGrant));
        routes.map(move |route| self.blocking_hooks(route, names))
    }

    fn blocking_hooks(&self, route: &HookRoute, names: HookNames) -> Arc<BlockingHooks> {
        let mode = self.settings.failure_mode;
        let hooks = BlockingHooks::new(route.transport.clone(), names, mode);
        hooks.after(self.creations.clone()).into()
    }

    pub(super) fn outbox(&self) -> Option<&Outbox> {
        self.outbox.as_ref().map(|(outbox, _)| outbox)
    }

    pub(super) fn run(&self, handler: &Handler) {
        // As the first process of a container, of any other process in it, too.
        tokio::spawn(landfall_hooks::command::reap_orphans());
        if let Some(outbox) = self.outbox() {
            tokio::spawn(outbox.clone().run(handler.clone()));
        }
    }

    pub(super) async fn close(&self) {
        if let Some(outbox) = self.outbox() {
            outbox.close().await;
        }
    }

    /// Checks whether events can be stored. An unreachable application does not prevent uploads: its events stay
    /// in the outbox.
    pub(super) async fn check(&self, conditions: &Conditions) {
        self.check_receivers(conditions);
        let Some((outbox, database)) = &self.outbox else {
            return;
        };
        let error = self.reachable.error(async || outbox.check().await).await;
        conditions.set(ConditionKind::OutboxUnavailable, database, error);
    }

    /// Checks whether receivers accept their events and calls, without asking them.
    pub(super) fn check_receivers(&self, conditions: &Conditions) {
        let is_full = self.outbox().is_some_and(Outbox::is_full);
        conditions.set(ConditionKind::OutboxFull, "", is_full.then_some(""));
        for route in &self.routes {
            let (name, error) = (route.transport.name(), route.transport.last_error());
            conditions.set(ConditionKind::HookFailing, name, error);
            if let Some(response) = route.transport.take_ignored() {
                conditions.raise(ConditionKind::HookIgnored, name, response);
            }
        }
        for route in self.outbox_stats().iter().flat_map(|stats| &stats.routes) {
            let is_late = route.oldest > MAX_DELAY || route.next_attempt.is_some();
            let waits = is_late.then(|| {
                let (minutes, events) = (route.oldest.as_secs() / 60, route.pending);
                let pace = "; the receiver fails, so one is tried at a time";
                let pace = route.next_attempt.map_or("", |_| pace);
                format!("{events}, the oldest due for {minutes} minutes{pace}")
            });
            conditions.set(ConditionKind::EventsWaiting, &route.name, waits);
            let dead = Some(route.dead).filter(|dead| *dead > 0);
            conditions.set(ConditionKind::DeadLetters, &route.name, dead);
        }
    }

    pub(crate) fn outbox_stats(&self) -> Option<OutboxStats> {
        self.outbox().map(Outbox::stats)
    }

    pub(crate) fn events(&self) -> Option<landfall_state::outbox::Events> {
        self.outbox().map(Outbox::events)
    }

    pub(super) fn receives(&self, hook: HookName) -> bool {
        self.routes.iter().any(|route| route.names.contains(hook))
    }

    pub(super) fn log_startup(&self) {
        for route in &self.routes {
            log::say(&route.line);
        }
        if self.routes.iter().any(|route| !route.own_events) {
            let common = self.settings.common_names();
            let names = common.iter().map(|name| name.as_str());
            log::say(format_args!("Enabled hook events: {}", join_names(names)));
        }
        for route in self.routes.iter().filter(|route| route.own_events) {
            let names = route.names.iter().map(HookName::as_str);
            let transport = route.transport.name();
            let names = join_names(names);
            log::say(format!("Enabled hook events for {transport}: {names}"));
        }
    }

    /// Returns where undelivered events are.
    pub(super) fn database_name(&self) -> Option<&str> {
        self.outbox.as_ref().map(|(_, name)| &**name)
    }
}

/// None if no route receives `post-expire` and direct uploads are off.
pub(super) fn sweep_routes(settings: &Settings) -> anyhow::Result<Vec<HookRoute>> {
    let routes = hook_routes(settings)?;
    let mut names = routes.iter().map(|route| route.names);
    let has_expiry_hooks = names.any(|names| names.contains(HookName::PostExpire));
    let is_used = has_expiry_hooks || settings.direct.enabled;
    Ok(if is_used { routes } else { Vec::new() })
}

fn join_names<'a>(names: impl Iterator<Item = &'a str>) -> String {
    names.collect::<Vec<_>>().join(", ")
}

fn outbox_settings(
    settings: &Settings,
    database: Database,
    progress: Option<ProgressNotifier>,
) -> OutboxSettings {
    let from = &settings.hooks.outbox;
    let mut outbox = OutboxSettings::new(database);
    outbox.strict_order = from.max_hold.is_none();
    outbox.max_hold = from.max_hold.unwrap_or_default();
    outbox.retry.retry_for = from.retry_for;
    outbox.history = from.history;
    outbox.dead_letter_retention = settings.state.retention;
    outbox.progress = progress;
    // Commands may run longer than other deliveries.
    let longest = settings.hooks.command.timeout + Duration::from_secs(60);
    outbox.delivery_timeout = outbox.delivery_timeout.max(longest);
    outbox
}

/// `None` for a key in memory, also if no transport names headers.
fn header_key(settings: &Settings, routes: &[Route]) -> anyhow::Result<Option<HeaderKey>> {
    let is_named = |route: &Route| !route.transport.event_headers().is_empty();
    if !routes.iter().any(is_named) {
        return Ok(None);
    }
    let file = match (&settings.hooks.outbox.header_key, settings.database()) {
        (Some(settings::HeaderKey::Memory), _) => return Ok(None),
        (Some(settings::HeaderKey::File(file)), _) => file.clone(),
        (None, Database::Sqlite(file)) => file.with_file_name(KEY_FILE),
        (None, Database::Postgres(_)) => {
            tracing::warn!(
                "forwarded request headers are missing in events that another node delivers, or this one \
                 after a restart: set --events-header-key to a file that all nodes have"
            );
            return Ok(None);
        }
    };
    let key = HeaderKey::open(&file);
    let key = key.with_context(|| format!("--events-header-key {}", file.display()))?;
    Ok(Some(key))
}
