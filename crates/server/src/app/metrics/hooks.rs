//! What is asked and told.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use landfall_hooks::{
    HookName, Transport as _,
    outbox::{OutboxStats, RouteStats},
};

use super::Page;
use crate::app::hooks::{BOUNDS_MS, Counts, Hooks, Watched};

/// The ways to the application. tusd's two counters have a series for each name from the start.
pub(super) fn hooks(page: &mut Page, hooks: &Hooks) {
    type Count = fn(&Counts) -> &AtomicU64;
    let counters: [(&str, &str, Count); 2] = [
        (
            "tusd_hook_invocations_total",
            "Deliveries of questions and events to hooks.",
            |counts| &counts.begun,
        ),
        (
            "tusd_hook_errors_total",
            "Deliveries to hooks that failed.",
            |counts| &counts.failed,
        ),
    ];
    for (name, help, count) in counters {
        page.family(name, "counter", help);
        for hook in HookName::ALL {
            let of_way = |transport: &Watched| count(transport.counts(hook)).load(Relaxed);
            let sum: u64 = hooks.ways.iter().map(|way| of_way(&way.transport)).sum();
            page.sample(name, &[("hooktype", hook.as_str())], sum);
        }
    }
    if hooks.ways.is_empty() {
        return;
    }
    let name = "landfall_hook_duration_seconds";
    let help = "Durations of deliveries to hooks in seconds, further attempts included.";
    page.family(name, "histogram", help);
    for way in &hooks.ways {
        for hook in way.names.iter() {
            let labels = [
                ("transport", way.transport.name()),
                ("hooktype", hook.as_str()),
            ];
            histogram(page, name, labels, way.transport.counts(hook));
        }
    }
    let name = "landfall_hooks_in_flight";
    page.family(name, "gauge", "Deliveries to hooks that are under way.");
    for way in &hooks.ways {
        let labels = [("transport", way.transport.name())];
        page.sample(name, &labels, way.transport.in_flight());
    }
    if let Some(stats) = hooks.outbox() {
        outbox(page, &stats);
    }
}

/// What waits.
fn outbox(page: &mut Page, stats: &OutboxStats) {
    type Number = fn(&RouteStats) -> f64;
    let of_routes: [(&str, &str, &str, Number); 9] = [
        (
            "landfall_events_pending",
            "gauge",
            "Events that wait for their delivery.",
            |route| route.pending as f64,
        ),
        (
            "landfall_events_oldest_seconds",
            "gauge",
            "How long the longest of them has been due.",
            |route| route.oldest.as_secs_f64(),
        ),
        (
            "landfall_events_prepared",
            "gauge",
            "Events that may happen, kept before they do.",
            |route| route.prepared as f64,
        ),
        (
            "landfall_dead_letters",
            "gauge",
            "Dead letters: see landfall events list.",
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
            "Deliveries that failed and are made again.",
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
            "Whether the receiver seems to be down: one delivery is tried at a time.",
            |route| f64::from(u8::from(route.is_down)),
        ),
        (
            "landfall_events_circuit_opened_total",
            "counter",
            "How often the receiver has seemed to be down.",
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
            "Events in the database that may happen or wait, for all ways.",
            stats.queued as u64,
        ),
        (
            "landfall_events_queue_limit",
            "gauge",
            "Events kept at which new uploads are refused.",
            stats.max_queued as u64,
        ),
        (
            "landfall_events_bytes",
            "gauge",
            "Bytes of these events.",
            stats.bytes as u64,
        ),
        (
            "landfall_events_bytes_limit",
            "gauge",
            "Bytes of events at which new uploads are refused.",
            stats.max_bytes as u64,
        ),
        (
            "landfall_events_rejected_total",
            "counter",
            "Writes that the database rejected while it accepted others.",
            stats.rejected_commands,
        ),
        (
            "landfall_events_rejected_total",
            "counter",
            "Requests refused because too many events were kept.",
            stats.rejected_requests,
        ),
        (
            "landfall_events_persist_failures_total",
            "counter",
            "Requests refused because the database kept no event in time.",
            stats.persist_failures,
        ),
        (
            "landfall_dead_letters_purged_total",
            "counter",
            "Dead letters removed for their age.",
            stats.dead_purged,
        ),
        (
            "landfall_events_batches_total",
            "counter",
            "Transactions that wrote events.",
            stats.batches,
        ),
        (
            "landfall_events_batches_failed_total",
            "counter",
            "Transactions that failed and were made again.",
            stats.failed_batches,
        ),
    ] {
        page.single(name, kind, help, value);
    }
}

fn histogram(page: &mut Page, name: &str, labels: [(&str, &str); 2], counts: &Counts) {
    let [transport, hook] = labels;
    let mut up_to = 0;
    for (bound, count) in BOUNDS_MS.iter().zip(&counts.durations) {
        up_to += count.load(Relaxed);
        let bound = (*bound as f64 / 1000.0).to_string();
        let labels = [transport, hook, ("le", bound.as_str())];
        page.sample(&format!("{name}_bucket"), &labels, up_to);
    }
    let all = up_to + counts.durations[BOUNDS_MS.len()].load(Relaxed);
    let labels_inf = [transport, hook, ("le", "+Inf")];
    page.sample(&format!("{name}_bucket"), &labels_inf, all);
    let seconds = counts.micros.load(Relaxed) as f64 / 1_000_000.0;
    page.sample(&format!("{name}_sum"), &labels, seconds);
    page.sample(&format!("{name}_count"), &labels, all);
}
