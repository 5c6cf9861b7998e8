//! Hooks: who is asked, who is told, and what waits to be told.

#[cfg(any(
    feature = "nats",
    feature = "amqp",
    feature = "redis",
    feature = "kafka"
))]
mod brokers;
mod told;
mod watched;
mod ways;

use std::sync::Arc;

use landfall::{Config, Handler};
use landfall_hooks::{
    BlockingHooks, FailureMode, HookName, HookNames, Transport as _, outbox::OutboxStats,
};

use self::told::Told;
pub(super) use self::{
    watched::{BOUNDS_MS, Counts, Watched},
    ways::ways,
};
use super::{freshness::Fresh, state::Opened};
use crate::{log, settings::Settings};

/// A way to the application, and what goes over it.
#[derive(Debug)]
pub(super) struct Way {
    pub(super) transport: Arc<Watched>,
    pub(super) names: HookNames,
    /// Whether the names are its own rather than those that are enabled for all.
    own_events: bool,
    /// The start-up line about it.
    line: String,
}

/// All ways, and what waits for them.
#[derive(Debug)]
pub(super) struct Hooks {
    pub(super) ways: Vec<Way>,
    enabled: Vec<HookName>,
    when_down: FailureMode,
    progress_interval: std::time::Duration,
    told: Told,
    reachable: Fresh,
}

impl Hooks {
    /// Sets up what the settings name, over these ways; without any hook this is nothing.
    ///
    /// # Errors
    /// What is wrong, and what to do about it.
    pub(super) async fn open(
        settings: &Settings,
        database: &Opened,
        ways: Vec<Way>,
    ) -> anyhow::Result<Self> {
        let hooks = &settings.hooks;
        let told = Told::open(settings, database, &ways).await?;
        Ok(Self {
            ways,
            told,
            reachable: Fresh::default(),
            enabled: hooks.enabled.clone(),
            when_down: hooks.failure_mode,
            progress_interval: hooks.progress_interval,
        })
    }

    /// For a sweep: nothing, unless somebody wants to be told of what expires, or is to be asked about
    /// direct uploads that it finds to be complete.
    ///
    /// # Errors
    /// What is wrong, and what to do about it.
    pub(super) async fn open_for_sweep(
        settings: &Settings,
        database: &Opened,
    ) -> anyhow::Result<Option<Self>> {
        let ways = ways(settings)?;
        let told = ways
            .iter()
            .any(|way| way.names.contains(HookName::PostExpire));
        if !told && !settings.direct.enabled {
            return Ok(None);
        }
        Ok(Some(Self::open(settings, database, ways).await?))
    }

    /// Lets a handler ask and tell.
    pub(super) fn join(&self, config: &mut Config) {
        config.progress_interval = self.progress_interval;
        for way in &self.ways {
            if way.names.blocking().next().is_some() {
                let asker = BlockingHooks::new(way.transport.clone(), way.names, self.when_down);
                config.hooks.push(Arc::new(asker));
            }
        }
        told::join(&self.told, config);
    }

    /// Those who are to be asked about grants.
    #[cfg(feature = "grants")]
    pub(super) fn askers_of_grants(&self) -> Vec<Arc<BlockingHooks>> {
        let names = HookNames::from_names(&[HookName::PreGrant]);
        let asked = self
            .ways
            .iter()
            .filter(|way| way.names.contains(HookName::PreGrant));
        let asker = |way: &Way| BlockingHooks::new(way.transport.clone(), names, self.when_down);
        asked.map(|way| Arc::new(asker(way))).collect()
    }

    /// What keeps events, if any are to be told.
    #[cfg(feature = "grants")]
    pub(super) fn told_outbox(&self) -> Option<landfall_hooks::outbox::Outbox> {
        let outbox = self.told.outbox.as_ref();
        outbox.map(|(outbox, _)| outbox.clone())
    }

    /// Delivers what waits, in a task of this runtime, until it is [closed](Self::close).
    pub(super) fn run(&self, handler: &Handler) {
        if let Some((outbox, _)) = &self.told.outbox {
            tokio::spawn(outbox.clone().run(handler.clone()));
        }
    }

    /// At the end of the program: keeps what isn't delivered yet.
    pub(super) async fn close(&self) {
        if let Some((outbox, _)) = &self.told.outbox {
            outbox.close().await;
        }
    }

    /// What keeps uploads from being taken now, if anything does. An application that is away is no
    /// trouble of ours: events wait for it.
    pub(super) async fn trouble(&self) -> Option<&'static str> {
        let (outbox, _) = self.told.outbox.as_ref()?;
        if outbox.is_full() {
            return Some("too many events wait for delivery, see landfall events list -waiting\n");
        }
        let reachable = self.reachable.ask(async || match outbox.check().await {
            Ok(()) => true,
            Err(error) => {
                tracing::warn!(%error, "the database of events can't be reached");
                false
            }
        });
        (!reachable.await).then_some("the database of events can't be reached\n")
    }

    /// How the outbox stands, if there is one.
    pub(super) fn outbox(&self) -> Option<OutboxStats> {
        self.told.outbox.as_ref().map(|(outbox, _)| outbox.stats())
    }

    /// The events that the outbox keeps, if there is one.
    #[cfg(feature = "grants")]
    pub(super) fn events(&self) -> Option<landfall_hooks::outbox::Events> {
        self.told.outbox.as_ref().map(|(outbox, _)| outbox.events())
    }

    /// Prints the start-up lines; the first of each kind are tusd's.
    pub(super) fn announce(&self) {
        for way in &self.ways {
            log::say(&way.line);
        }
        if self.ways.iter().any(|way| !way.own_events) {
            let names = self.enabled.iter().map(|name| name.as_str());
            log::say(format_args!("Enabled hook events: {}", join(names)));
        }
        for way in self.ways.iter().filter(|way| way.own_events) {
            let names = way.names.iter().map(HookName::as_str);
            let transport = way.transport.name();
            log::say(format_args!(
                "Enabled hook events for {transport}: {}",
                join(names)
            ));
        }
        if let Some((_, place)) = &self.told.outbox {
            log::say(format_args!("Using {place} for events that wait."));
        }
    }
}

fn join<'a>(words: impl Iterator<Item = &'a str>) -> String {
    words.collect::<Vec<_>>().join(", ")
}
