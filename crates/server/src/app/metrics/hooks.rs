//! Metrics of hooks and the outbox.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use landfall_hooks::{
    HookName, Transport as _,
    outbox::{OutboxStats, RouteStats},
};

use super::Page;
use crate::app::hooks::{BOUNDS_MS, HookCounters, Hooks, InstrumentedTransport};

/// Adds the metrics of hooks. tusd's two counters have a series for each name from the start.
pub(super) fn hooks(page: &mut Page, hooks: &Hooks) {
    type Count = fn(&HookCounters) -> &AtomicU64;
    let counters: [(&str, &str, Count); 2] = [
        (
            "tusd_hook_invocations_total",
            "Calls of hooks.",
            |counters| &counters.started,
        ),
        (
            "tusd_hook_errors_total",
            "Calls of hooks that failed.",
            |counters| &counters.failed,
        ),
    ];
    for (name, help, count) in counters {
        page.family(name, "counter", help);
        for hook in HookName::ALL {
            let value_of =
                |transport: &InstrumentedTransport| count(transport.counters(hook)).load(Relaxed);
            let sum: u64 = hooks
                .routes
                .iter()
                .map(|route| value_of(&route.transport))
                .sum();
            page.sample(name, &[("hooktype", hook.as_str())], sum);
        }
    }
    if hooks.routes.is_empty() {
        return;
    }
    let name = "landfall_hook_duration_seconds";
    let help = "Durations of hook calls in seconds, retries included.";
    page.family(name, "histogram", help);
    for route in &hooks.routes {
        for hook in route.names.iter() {
            let labels = [
                ("transport", route.transport.name()),
                ("hooktype", hook.as_str()),
            ];
            histogram(page, name, labels, route.transport.counters(hook));
        }
    }
    let name = "landfall_hooks_in_flight";
    page.family(name, "gauge", "Hook calls in progress.");
    for route in &hooks.routes {
        let labels = [("transport", route.transport.name())];
        page.sample(name, &labels, route.transport.in_flight());
    }
    if let Some(stats) = hooks.outbox_stats() {
        outbox(page, &stats);
    }
}

/// Adds the metrics of the outbox.
fn outbox(page: &mut Page, stats: &OutboxStats) {
    type Number = fn(&RouteStats) -> f64;
    let of_routes: [(&str, &str, &str, Number); 9] = [
        (
            "landfall_events_pending",
            "gauge",
            "Events waiting for delivery.",
            |route| route.pending as f64,
        ),
        (
            "landfall_events_oldest_seconds",
            "gauge",
            "Age of the event that has been due longest.",
            |route| route.oldest.as_secs_f64(),
        ),
        (
            "landfall_events_prepared",
            "gauge",
            "Prepared events, whose effect has not been confirmed.",
            |route| route.prepared as f64,
        ),
        (
            "landfall_dead_letters",
            "gauge",
            "Dead letters, see landfall events list.",
            |route| route.dead as f64,
        ),
        (
            "landfall_events_delivered_total",
            "counter",
            "Events delivered.",
            |route| route.delivered as f64,
        ),
        (
            "landfall_event_delivery_failures_total",
            "counter",
            "Deliveries that failed and will be retried.",
            |route| route.failed as f64,
        ),
        (
            "landfall_events_dead_lettered_total",
            "counter",
            "Events that became dead letters.",
            |route| route.dead_lettered as f64,
        ),
        (
            "landfall_events_circuit_open",
            "gauge",
            "Whether the circuit breaker is open: deliveries are attempted one at a time.",
            |route| f64::from(u8::from(route.is_down)),
        ),
        (
            "landfall_events_circuit_opened_total",
            "counter",
            "Times the circuit breaker opened.",
            |route| route.opened as f64,
        ),
    ];
    for (name, kind, help, number) in of_routes {
        page.family(name, kind, help);
        for route in &stats.routes {
            page.sample(name, &[("transport", route.name.as_str())], number(route));
        }
    }
    for (name, kind, help, value) in [
        (
            "landfall_events_queued",
            "gauge",
            "Prepared and pending events in the database, over all routes.",
            stats.queued as u64,
        ),
        (
            "landfall_events_queue_limit",
            "gauge",
            "Number of events at which new uploads are rejected.",
            stats.limit as u64,
        ),
        (
            "landfall_events_bytes",
            "gauge",
            "Bytes of prepared and pending events.",
            stats.bytes as u64,
        ),
        (
            "landfall_events_bytes_limit",
            "gauge",
            "Bytes of events at which new uploads are rejected.",
            stats.max_bytes as u64,
        ),
        (
            "landfall_outbox_writes_rejected_total",
            "counter",
            "Writes that the database rejected while it accepted others.",
            stats.rejected_commands,
        ),
        (
            "landfall_events_rejected_total",
            "counter",
            "Requests rejected because the outbox was full.",
            stats.rejected_requests,
        ),
        (
            "landfall_events_persist_failures_total",
            "counter",
            "Requests rejected because the database stored no event in time.",
            stats.persist_failures,
        ),
        (
            "landfall_dead_letters_purged_total",
            "counter",
            "Dead letters purged after their retention time.",
            stats.dead_purged,
        ),
        (
            "landfall_events_batches_total",
            "Transactions that wrote events.",
            "Transactions that wrote events.",
            stats.batches,
        ),
        (
            "Transactions that failed and were retried.",
            "counter",
            "Transactions that failed and were made again.",
            stats.failed_batches,
        ),
    ] {
        page.single(name, kind, help, value);
    }
}

fn histogram(page: &mut Page, name: &str, labels: [(&str, &str); 2], counters: &HookCounters) {
    let [transport, hook] = labels;
    let mut up_to = 0;
    for (bound, count) in BOUNDS_MS.iter().zip(&counters.durations) {
        up_to += count.load(Relaxed);
        let bound = (*bound as f64 / 1000.0).to_string();
        let labels = [transport, hook, ("le", bound.as_str())];
        page.sample(&format!("{name}_bucket"), &labels, up_to);
    }
    let all = up_to + counters.durations[BOUNDS_MS.len()].load(Relaxed);
    let labels_inf = [transport, hook, ("le", "+Inf")];
    page.sample(&format!("{name}_bucket"), &labels_inf, all);
    let seconds = counters.micros.load(Relaxed) as f64 / 1_000_000.0;
    page.sample(&format!("{name}_sum"), &labels, seconds);
    page.sample(&format!("{name}_count"), &labels, all);
}
