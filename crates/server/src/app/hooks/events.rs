//! The event sinks: progress is sent directly, all other events go through the outbox.

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use landfall_messages::{EventHeaders, HookName, HookNames, ProgressNotifier, Route};
use landfall_outbox::{Outbox, OutboxSettings};

use super::HookRoute;
use crate::{
    app::state::{self, SharedDatabase},
    settings::{Hooks, Settings},
};

#[derive(Debug)]
pub(super) struct EventPipeline {
    pub(super) progress: Option<ProgressNotifier>,
    pub(super) outbox: Option<(Outbox, String)>,
}

impl EventPipeline {
    /// Without stored events, no database is opened.
    pub(super) async fn open(
        settings: &Settings,
        database: &SharedDatabase,
        routes: &[HookRoute],
    ) -> anyhow::Result<Self> {
        let routes_for = |names: HookNames| -> Vec<Route> {
            let route = |route: &HookRoute| Route {
                transport: route.transport.clone(),
                names: route.names.intersection(names),
            };
            let routes = routes.iter().map(route);
            routes.filter(|route| !route.names.is_empty()).collect()
        };
        let progress = routes_for(HookNames::from_names(&[HookName::PostReceive]));
        let progress = (!progress.is_empty())
            .then(|| ProgressNotifier::new(progress, event_headers(&settings.hooks)));
        let stored = routes_for(if settings.has_queue() {
            Hooks::STORED.union(HookNames::JOB_EVENTS)
        } else {
            Hooks::STORED
        });
        let outbox = if stored.is_empty() {
            None
        } else {
            let mut wanted = outbox_settings(settings, progress.clone());
            wanted.connections = Some(database.connect(settings, "events").await?);
            let name = state::describe_database(&wanted.database);
            let outbox = Outbox::open(wanted, stored).await;
            let outbox = outbox.with_context(|| format!("cannot store events in {name}"))?;
            Some((outbox, name))
        };
        Ok(Self { progress, outbox })
    }
}

fn outbox_settings(settings: &Settings, progress: Option<ProgressNotifier>) -> OutboxSettings {
    let from = &settings.hooks.outbox;
    let mut outbox = OutboxSettings::new(state::database_of(&settings.database()));
    outbox.survives_power_loss = state::survives_power_loss(settings);
    outbox.max_queued = usize::try_from(from.max_queued).unwrap_or(usize::MAX);
    outbox.max_bytes = usize::try_from(from.max_bytes).unwrap_or(usize::MAX);
    outbox.strict_order = from.strict_order;
    outbox.retry.retry_for = from.retry_for;
    outbox.dead_letter_retention = from.dead_letter_retention;
    outbox.progress = progress;
    outbox.headers = event_headers(&settings.hooks);
    // Commands may run longer than other deliveries.
    let longest = settings.hooks.command.timeout + Duration::from_secs(60);
    outbox.delivery_timeout = outbox.delivery_timeout.max(longest);
    outbox
}

fn event_headers(hooks: &Hooks) -> EventHeaders {
    EventHeaders::default()
        .with(&hooks.http.forward_headers)
        .with(&hooks.grpc.forward_headers)
}

pub(super) fn configure(events: &EventPipeline, config: &mut landfall::Config) {
    if let Some(progress) = &events.progress {
        config.sinks.push(Arc::new(progress.clone()));
    }
    if let Some((outbox, _)) = &events.outbox {
        config.sinks.push(Arc::new(outbox.clone()));
    }
}
