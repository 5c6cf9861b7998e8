//! Uploads that are asked for, and the queue.

use std::{collections::BTreeMap, sync::atomic::Ordering::Relaxed};

use landfall_grants::JobState;

use super::Page;
use crate::app::grants::GrantStats;

/// What was asked, what became of it, and what it cost the database.
pub(super) fn grants(page: &mut Page, stats: &GrantStats, answers: &[(&str, BTreeMap<u16, u64>)]) {
    if stats.enabled {
        asked(page, stats);
    }
    let name = "landfall_api_requests_total";
    page.family(
        name,
        "counter",
        "Requests for grants and the dashboard by status.",
    );
    for (area, by_status) in answers {
        for (status, count) in by_status {
            let labels = [("api", *area), ("status", &status.to_string())];
            page.sample(name, &labels, count);
        }
    }
    if let Some(totals) = &stats.totals {
        let name = "landfall_jobs";
        page.family(
            name,
            "gauge",
            "Uploads that were asked for or are followed, by state.",
        );
        for state in JobState::ALL {
            let count = totals.jobs.get(state.as_str()).copied().unwrap_or_default();
            page.sample(name, &[("state", state.as_str())], count);
        }
        let help = "Bytes of the complete ones that are still listed.";
        page.single(
            "landfall_jobs_completed_bytes",
            "gauge",
            help,
            totals.completed_bytes,
        );
    }
    let tended = &stats.tended;
    for (name, help, value) in [
        (
            "landfall_queue_batches_total",
            "Transactions that wrote to the queue.",
            stats.queue.batches,
        ),
        (
            "landfall_queue_commands_total",
            "What was written in them.",
            stats.queue.commands,
        ),
        (
            "landfall_queue_failures_total",
            "Transactions that were given up.",
            stats.queue.failures,
        ),
        (
            "landfall_queue_unreadable_events_total",
            "Events that were skipped because another version wrote them.",
            stats.queue.unreadable_events,
        ),
        (
            "landfall_queue_reconciled_total",
            "Jobs whose end was found out by a look at the store.",
            tended.ended,
        ),
        (
            "landfall_stale_jobs_checked_total",
            "Jobs of which nothing was heard for a while, looked at.",
            tended.looked_at,
        ),
        (
            "landfall_reconcile_failures_total",
            "Such looks at which the store failed.",
            tended.unknown,
        ),
        (
            "landfall_grants_expired_total",
            "Grants that lapsed before their upload was begun.",
            tended.expired,
        ),
        (
            "landfall_jobs_removed_total",
            "Jobs removed because they ended long ago.",
            tended.removed,
        ),
        (
            "landfall_queue_maintenance_failures_total",
            "Looks and removals that the database failed.",
            tended.failed,
        ),
    ] {
        page.single(name, "counter", help, value);
    }
    let help = "The number of the newest event of the queue.";
    let newest = u64::try_from(stats.newest_event).unwrap_or_default();
    page.single("landfall_queue_last_event_number", "gauge", help, newest);
}

fn asked(page: &mut Page, stats: &GrantStats) {
    let api = &stats.api;
    let name = "landfall_grants_total";
    page.family(
        name,
        "counter",
        "Uploads that were asked for, by what was answered.",
    );
    for (result, count) in [
        ("granted", &api.granted),
        ("repeated", &api.repeated),
        ("refused", &api.rejected),
        ("failed", &api.failed),
    ] {
        page.sample(name, &[("result", result)], count.load(Relaxed));
    }
    let help = "Uploads that their callers cancelled.";
    let cancelled = api.cancelled.load(Relaxed);
    page.single(
        "landfall_grants_cancelled_total",
        "counter",
        help,
        cancelled,
    );
    let help = "Callers that listen to events now.";
    let listening = api.event_streams.load(Relaxed);
    page.single("landfall_event_streams", "gauge", help, listening);
}
