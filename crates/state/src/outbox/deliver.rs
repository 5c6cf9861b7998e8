//! Deliveries: concurrent per route, in order per ordering key.

use std::time::Duration;

use jiff::Timestamp;
use landfall::Handler;
use landfall_hooks::{DeliveryError, HookName, error_chain};
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{sleep, timeout},
};

use super::{
    Outbox,
    batch::{Command, FailedDelivery},
    breaker::Permit,
    failed::next_attempt,
    queues::{Allowed, ClaimedEvent},
};

/// For a progress call of the same upload.
const PROGRESS_TIMEOUT: Duration = Duration::from_secs(30);
const MAX_WAIT: Duration = Duration::from_secs(1);

impl Outbox {
    /// Delivers and retries events and resolves events in doubt, until the outbox is
    /// [closed](Self::close).
    ///
    /// Deliveries are tasks of the current runtime.
    ///
    /// # Cancel safety
    /// Can be dropped; running deliveries are then cancelled, and repeated by the next run.
    pub async fn run(self, handler: Handler) {
        let _running = self.shared.running.lock().await;
        let mut closing = self.shared.closing.subscribe();
        let mut routes = JoinSet::new();
        for route in 0..self.shared.routes.len() {
            routes.spawn(self.clone().deliver_route(route, closing.clone()));
        }
        let upkeep = async {
            let (claim, resolve) = (self.claim_due(), self.resolve_due(handler));
            tokio::join!(claim, resolve, self.run_maintenance());
        };
        tokio::select! {
            () = upkeep => {}
            _ = closing.wait_for(|closing| *closing) => {}
        }
        // Each task ends after its running deliveries.
        while routes.join_next().await.is_some() {}
    }

    async fn deliver_route(self, route: usize, mut closing: watch::Receiver<bool>) {
        let shared = &self.shared;
        let max_retries = shared.max_retries();
        let max_first = shared.settings.max_concurrency;
        let max_first = max_first.saturating_sub(max_retries).max(1);
        let (mut first, mut retries) = (JoinSet::new(), JoinSet::new());
        loop {
            let permit = shared.breakers[route].permit(shared.database.clock().millis());
            let mut wait = MAX_WAIT;
            let allowed = match permit {
                Permit::Any => Allowed {
                    first: first.len() < max_first,
                    retries: retries.len() < max_retries,
                },
                Permit::One => Allowed {
                    first: true,
                    retries: true,
                },
                Permit::Wait(for_probe) => {
                    wait = wait.min(for_probe);
                    Allowed {
                        first: false,
                        retries: false,
                    }
                }
            };
            tokio::select! {
                _ = closing.wait_for(|closing| *closing) => break,
                Some(_) = first.join_next(), if !first.is_empty() => {}
                Some(_) = retries.join_next(), if !retries.is_empty() => {}
                event = shared.queues.next(route, allowed), if allowed.first || allowed.retries => {
                    shared.breakers[route].started(shared.database.clock().millis());
                    let running = if event.is_retry() { &mut retries } else { &mut first };
                    running.spawn(self.clone().deliver(route, event));
                }
                () = sleep(wait), if permit != Permit::Any => {}
            }
        }
        while first.join_next().await.is_some() {}
        while retries.join_next().await.is_some() {}
    }

    async fn deliver(self, route: usize, event: ClaimedEvent) {
        let shared = &self.shared;
        let transport = &shared.routes[route].transport;
        let is_creation = event.message.hook == HookName::PostCreate;
        // Progress waits for the creation.
        if let Some(progress) = shared.settings.progress.as_ref().filter(|_| !is_creation) {
            let idle = progress.wait_idle(&event.key);
            if timeout(PROGRESS_TIMEOUT, idle).await.is_err() {
                tracing::warn!(
                    id = &*event.key,
                    "a progress call is slow, delivering without waiting for it"
                );
            }
        }
        let limit = shared.settings.delivery_timeout;
        let message = event.message.naming(&shared.headers[route]);
        let delivered = timeout(limit, transport.deliver(&message)).await;
        if is_creation {
            shared
                .settings
                .creations
                .attempted(transport.name(), &event.key);
        }
        let failure = match delivered {
            Ok(Ok(_)) => {
                shared.counters.lock().stats.routes[route].delivered += 1;
                self.on_response(route).await;
                let command = Command::Delivered {
                    route,
                    key: event.key.clone(),
                    event: event.event.clone(),
                    is_retry: event.is_retry(),
                };
                // Sent before the next delivery starts, so that it is not lost if this task is
                // cancelled.
                let _ = self.commands.send(command).await;
                shared.queues.advance(route, &event);
                return;
            }
            Ok(Err(failure)) => failure,
            Err(_) => DeliveryError::new(format!("no response within {limit:?}")),
        };
        shared.counters.lock().stats.routes[route].failed += 1;
        let now = shared.database.clock().millis();
        let due = next_attempt(&shared.settings, &event, &failure, now);
        let error = describe(&failure);
        let next_attempt = due.and_then(|due| Timestamp::from_millisecond(due).ok());
        // The only line of a failed delivery.
        tracing::error!(
            "type" = event.message.hook.as_str(),
            id = &*event.key,
            transport = transport.name(),
            event_id = &*event.event,
            attempt = event.earlier_attempts + event.attempts + 1,
            next_attempt = next_attempt.map(tracing::field::display),
            dead_letter = due
                .is_none()
                .then_some("not retried; see landfall events list"),
            error,
            "HookInvocationError"
        );
        if failure.is_permanent {
            // A receiver that rejects an event is not down.
            self.on_response(route).await;
        } else if shared.breakers[route].failed(!event.is_retry(), now) {
            tracing::warn!(
                route = transport.name(),
                "the receiver seems to be down, trying one delivery at a time"
            );
        }
        let failure = FailedDelivery {
            route,
            key: event.key,
            event: event.event,
            error,
            due,
        };
        let _ = self.commands.send(Command::Failed(failure)).await;
    }

    async fn on_response(&self, route: usize) {
        if let Some(since) = self.shared.breakers[route].succeeded() {
            let route_name = self.shared.routes[route].transport.name();
            tracing::info!(route = route_name, "the receiver has recovered");
            let recovered = Command::Recovered { route, since };
            let _ = self.commands.send(recovered).await;
        }
    }
}

fn describe(failure: &DeliveryError) -> String {
    const MAX_LEN: usize = 2000;
    let mut text = error_chain(failure);
    text.truncate(text.floor_char_boundary(MAX_LEN));
    text
}
