//! Metrics of hook calls, with tusd's names where tusd has them, and of the outbox.
//!
//! Reads counters in memory only: a scrape calls no receiver and queries no database.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use landfall_hooks::HookName;
use landfall_hooks::Transport as _;
use landfall_state::outbox::OutboxStats;

use super::{Page, metrics};
use crate::app::hooks::{BOUNDS_MS, HookCounters, Hooks};

/// tusd's two counters have a series for each name from the start.
pub(super) fn hooks(page: &mut Page, hooks: &Hooks) {
    let sum = |hook: HookName, count: fn(&HookCounters) -> &AtomicU64| -> u64 {
        let counters = hooks
            .routes
            .iter()
            .map(|route| route.transport.counters(hook));
        counters.map(|of| count(of).load(Relaxed)).sum()
    };
    metrics! { page, for hook in HookName::ALL, "hooktype" = hook.as_str();
        counter tusd_hook_invocations_total = sum(hook, |of| &of.started), "Calls of hooks.";
        counter tusd_hook_errors_total = sum(hook, |of| &of.failed), "Calls of hooks that failed.";
    }
    if hooks.routes.is_empty() {
        return;
    }
    let name = "landfall_hook_duration_seconds";
    let help = "Durations of hook calls in seconds, retries included.";
    page.family(name, "histogram", help);
    for route in &hooks.routes {
        for hook in route.names.iter() {
            let transport = route.transport.name();
            let labels = [("transport", transport), ("hooktype", hook.as_str())];
            let counters = route.transport.counters(hook);
            let counts = counters.durations.each_ref();
            let counts = counts.map(|count| count.load(Relaxed));
            let seconds = counters.micros.load(Relaxed) as f64 / 1_000_000.0;
            page.histogram(name, &labels, &BOUNDS_MS, &counts, seconds);
        }
    }
    metrics! { page, for route in &hooks.routes, "transport" = route.transport.name();
        gauge landfall_hooks_in_flight = route.transport.in_flight(), "Hook calls in progress.";
    }
    if let Some(stats) = hooks.outbox_stats() {
        outbox(page, &stats);
    }
}

fn outbox(page: &mut Page, stats: &OutboxStats) {
    metrics! { page, for route in &stats.routes, "transport" = route.name.as_str();
        gauge landfall_events_pending = route.pending, "Events waiting for delivery.";
        gauge landfall_events_oldest_seconds = route.oldest.as_secs_f64(),
            "Age of the event that has been due longest.";
        gauge landfall_events_prepared = route.prepared,
            "Prepared events, whose effect has not been confirmed.";
        gauge landfall_dead_letters = route.dead, "Dead letters, see landfall events list.";
        counter landfall_events_delivered_total = route.delivered, "Events delivered.";
        counter landfall_event_delivery_failures_total = route.failed,
            "Deliveries that failed and will be retried.";
        counter landfall_events_dead_lettered_total = route.dead_lettered,
            "Events that became dead letters.";
        gauge landfall_events_circuit_open = u8::from(route.is_down),
            "Whether the circuit breaker is open: deliveries are attempted one at a time.";
        counter landfall_events_circuit_opened_total = route.opened,
            "Times the circuit breaker opened.";
    }
    metrics! { page;
        gauge landfall_events_queued = stats.queued,
            "Prepared and pending events in the database, over all routes.";
        gauge landfall_events_queue_limit = stats.max_queued,
            "Number of events at which new uploads are rejected.";
        gauge landfall_events_bytes = stats.bytes, "Bytes of prepared and pending events.";
        gauge landfall_events_bytes_limit = stats.max_bytes,
            "Bytes of events at which new uploads are rejected.";
        counter landfall_outbox_writes_rejected_total = stats.rejected_commands,
            "Writes that the database rejected while it accepted others.";
        counter landfall_events_rejected_total = stats.rejected_requests,
            "Requests rejected because the outbox was full.";
        counter landfall_events_persist_failures_total = stats.persist_failures,
            "Requests rejected because the database stored no event in time.";
        counter landfall_dead_letters_purged_total = stats.dead_purged,
            "Dead letters purged after their retention time.";
        counter landfall_events_batches_total = stats.batches, "Transactions that wrote events.";
        counter landfall_events_batches_failed_total = stats.failed_batches,
            "Transactions that failed and were retried.";
    }
}
