//! Events on their way: progress at once, all else through the outbox.

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use landfall_hooks::{
    HookName, HookNames, ProgressNotifier, Route,
    message::EventHeaders,
    outbox::{Outbox, OutboxSettings},
};

use super::Way;
use crate::{
    app::state::{self, Opened},
    settings::{Hooks, Settings},
};

/// Who is told.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) progress: Option<ProgressNotifier>,
    /// The outbox, and what people call its place.
    pub(super) outbox: Option<(Outbox, String)>,
}

impl Told {
    /// Makes only what some way needs: without events that must be kept there is no file.
    ///
    /// # Errors
    /// The database can't be used, in words for the person who starts the server.
    pub(super) async fn open(
        settings: &Settings,
        database: &Opened,
        ways: &[Way],
    ) -> anyhow::Result<Self> {
        let routes = |names: HookNames| -> Vec<Route> {
            let wanting = ways
                .iter()
                .filter(|way| !way.names.intersection(names).is_empty());
            wanting
                .map(|way| Route {
                    transport: way.transport.clone(),
                    names: way.names.intersection(names),
                })
                .collect()
        };
        let progress = routes(HookNames::from_names(&[HookName::PostReceive]));
        let progress = (!progress.is_empty())
            .then(|| ProgressNotifier::new(progress, event_headers(&settings.hooks)));
        let kept = routes(if settings.has_queue() {
            Hooks::STORED.union(HookNames::JOB_EVENTS)
        } else {
            Hooks::STORED
        });
        let outbox = if kept.is_empty() {
            None
        } else {
            let mut wanted = outbox_settings(settings, progress.clone());
            wanted.connections = Some(database.lend(settings, "events").await?);
            let place = state::place(&wanted.database);
            let outbox = Outbox::open(wanted, kept)
                .await
                .with_context(|| format!("events can't be kept in {place}"))?;
            Some((outbox, place))
        };
        Ok(Self { progress, outbox })
    }
}

fn outbox_settings(settings: &Settings, progress: Option<ProgressNotifier>) -> OutboxSettings {
    let of_events = &settings.hooks.outbox;
    let mut made = OutboxSettings::new(state::opened(&state::database(settings)));
    made.survives_power_loss = state::survives_power_loss(settings);
    made.max_queued = usize::try_from(of_events.max_queued).unwrap_or(usize::MAX);
    made.max_bytes = usize::try_from(of_events.max_bytes).unwrap_or(usize::MAX);
    made.strict_order = of_events.strict_order;
    made.retry.retry_for = of_events.retry_for;
    made.dead_letter_retention = of_events.dead_letter_retention;
    made.progress = progress;
    made.headers = event_headers(&settings.hooks);
    // A file that may run longer isn't cut off before.
    let longest = settings.hooks.command.timeout + Duration::from_secs(60);
    made.delivery_timeout = made.delivery_timeout.max(longest);
    made
}

/// The headers that events carry: those that a transport forwards, besides the built-in ones.
fn event_headers(hooks: &Hooks) -> EventHeaders {
    EventHeaders::default()
        .with(&hooks.http.forward_headers)
        .with(&hooks.grpc.forward_headers)
}

/// Lets a handler tell.
pub(super) fn join(told: &Told, config: &mut landfall::Config) {
    if let Some(progress) = &told.progress {
        config.sinks.push(Arc::new(progress.clone()));
    }
    if let Some((outbox, _)) = &told.outbox {
        config.sinks.push(Arc::new(outbox.clone()));
    }
}
