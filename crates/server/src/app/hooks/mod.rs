#[cfg(any(
    feature = "nats",
    feature = "amqp",
    feature = "redis",
    feature = "kafka"
))]
mod brokers;
mod events;
mod instrumented;
mod transports;

use std::sync::Arc;

use landfall::{Config, Handler};
use landfall_messages::{BlockingHooks, FailureMode, HookName, HookNames, Transport};
use landfall_outbox::{Outbox, OutboxStats};

use self::events::EventPipeline;
pub(super) use self::{
    instrumented::{BOUNDS_MS, HookCounters, InstrumentedTransport},
    transports::hook_routes,
};
use super::{cached_probe::CachedProbe, state::SharedDatabase};
use crate::{
    log,
    settings::{self, Settings},
};

#[derive(Debug)]
pub(super) struct HookRoute {
    pub(super) transport: Arc<InstrumentedTransport>,
    pub(super) names: HookNames,
    own_events: bool,
    line: String,
}

impl HookRoute {
    fn new(
        transport: impl Transport,
        hooks: &settings::Hooks,
        events: Option<HookNames>,
        line: String,
    ) -> Self {
        Self {
            transport: Arc::new(InstrumentedTransport::new(transport)),
            names: events.unwrap_or_else(|| hooks.enabled_names()),
            own_events: events.is_some(),
            line,
        }
    }
}

#[derive(Debug)]
pub(super) struct Hooks {
    pub(super) routes: Vec<HookRoute>,
    enabled: Vec<HookName>,
    failure_mode: FailureMode,
    progress_interval: std::time::Duration,
    events: EventPipeline,
    reachable: CachedProbe<bool>,
}

impl Hooks {
    pub(super) async fn open(
        settings: &Settings,
        database: &SharedDatabase,
        routes: Vec<HookRoute>,
    ) -> anyhow::Result<Self> {
        let hooks = &settings.hooks;
        let events = EventPipeline::open(settings, database, &routes).await?;
        Ok(Self {
            routes,
            events,
            reachable: CachedProbe::default(),
            enabled: hooks.enabled.clone(),
            failure_mode: hooks.failure_mode,
            progress_interval: hooks.progress_interval,
        })
    }

    /// `None` if no route receives `post-expire` and direct uploads are off.
    pub(super) async fn open_for_sweep(
        settings: &Settings,
        database: &SharedDatabase,
    ) -> anyhow::Result<Option<Self>> {
        let routes = hook_routes(settings)?;
        let mut names = routes.iter().map(|route| route.names);
        let has_expiry_hooks = names.any(|names| names.contains(HookName::PostExpire));
        if !has_expiry_hooks && !settings.direct.enabled {
            return Ok(None);
        }
        Ok(Some(Self::open(settings, database, routes).await?))
    }

    pub(super) fn configure(&self, config: &mut Config) {
        config.progress_interval = self.progress_interval;
        for route in &self.routes {
            if route.names.blocking().next().is_some() {
                let asker =
                    BlockingHooks::new(route.transport.clone(), route.names, self.failure_mode);
                config.hooks.push(Arc::new(asker));
            }
        }
        events::configure(&self.events, config);
    }

    #[cfg(feature = "grants")]
    pub(super) fn grant_hooks(&self) -> Vec<Arc<BlockingHooks>> {
        let names = HookNames::from_names(&[HookName::PreGrant]);
        let mut hooks = Vec::new();
        for route in &self.routes {
            if route.names.contains(HookName::PreGrant) {
                let transport = route.transport.clone();
                hooks.push(BlockingHooks::new(transport, names, self.failure_mode).into());
            }
        }
        hooks
    }

    pub(super) fn outbox(&self) -> Option<&Outbox> {
        self.events.outbox.as_ref().map(|(outbox, _)| outbox)
    }

    pub(super) fn run(&self, handler: &Handler) {
        if let Some(outbox) = self.outbox() {
            tokio::spawn(outbox.clone().run(handler.clone()));
        }
    }

    pub(super) async fn close(&self) {
        if let Some(outbox) = self.outbox() {
            outbox.close().await;
        }
    }

    /// Why uploads cannot be accepted. An unreachable application is no reason: its events stay in the outbox.
    pub(super) async fn health_error(&self) -> Option<&'static str> {
        let outbox = self.outbox()?;
        if outbox.is_full() {
            return Some("too many undelivered events, see landfall events list --pending\n");
        }
        let probe = async || outbox.check().await;
        let message = "failed to reach the outbox database";
        let reachable = self.reachable.is_healthy(message, probe);
        (!reachable.await).then_some("the outbox database is unreachable\n")
    }

    pub(super) fn outbox_stats(&self) -> Option<OutboxStats> {
        self.outbox().map(Outbox::stats)
    }

    #[cfg(feature = "grants")]
    pub(super) fn events(&self) -> Option<landfall_outbox::Events> {
        self.outbox().map(Outbox::events)
    }

    pub(super) fn log_startup(&self) {
        for route in &self.routes {
            log::say(&route.line);
        }
        if self.routes.iter().any(|route| !route.own_events) {
            let names = self.enabled.iter().map(|name| name.as_str());
            log::say(format_args!("Enabled hook events: {}", join_names(names)));
        }
        for route in self.routes.iter().filter(|route| route.own_events) {
            let names = route.names.iter().map(HookName::as_str);
            let transport = route.transport.name();
            let names = join_names(names);
            log::say(format!("Enabled hook events for {transport}: {names}"));
        }
        if let Some((_, name)) = &self.events.outbox {
            log::say(format_args!("Using {name} for undelivered events."));
        }
    }
}

fn join_names<'a>(names: impl Iterator<Item = &'a str>) -> String {
    names.collect::<Vec<_>>().join(", ")
}
