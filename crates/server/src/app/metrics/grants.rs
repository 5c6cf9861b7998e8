//! Metrics of grants, jobs and the queue.

use std::{collections::BTreeMap, sync::atomic::Ordering::Relaxed};

use landfall_grants::JobState;

use super::Page;
use crate::app::grants::GrantStats;

/// Adds the metrics of grants, jobs and the queue.
pub(super) fn grants(page: &mut Page, stats: &GrantStats, answers: &[(&str, BTreeMap<u16, u64>)]) {
    if stats.enabled {
        grant_results(page, stats);
    }
    let name = "landfall_api_requests_total";
    page.family(name, "counter", "Requests to the API routes by status.");
    for (area, by_status) in answers {
        for (status, count) in by_status {
            let labels = [("api", *area), ("status", &status.to_string())];
            page.sample(name, &labels, count);
        }
    }
    if let Some(totals) = &stats.totals {
        let name = "landfall_jobs";
        page.family(name, "gauge", "Granted and tracked uploads by state.");
        for state in JobState::ALL {
            let count = totals.jobs.get(state.as_str()).copied().unwrap_or_default();
            let name = match state {
                JobState::Received => "granted",
                JobState::Progress => "uploading",
                state => state.as_str(),
            };
            page.sample("landfall_jobs", &[("state", name)], count);
        }
        let help = "Bytes of completed uploads that are still listed.";
        page.single(
            "landfall_jobs_completed_bytes",
            "gauge",
            help,
            totals.completed_bytes,
        );
    }
    let maintenance = &stats.maintenance;
    for (name, help, value) in [
        (
            "landfall_queue_batches_total",
            "Transactions that wrote to the queue.",
            stats.queue.batches,
        ),
        (
            "landfall_queue_commands_total",
            "Commands executed in these transactions.",
            stats.queue.commands,
        ),
        (
            "landfall_queue_failures_total",
            "Transactions that failed.",
            stats.queue.failures,
        ),
        (
            "landfall_queue_unreadable_events_total",
            "Events skipped because another version wrote them.",
            stats.queue.unreadable_events,
        ),
        (
            "landfall_queue_reconciled_total",
            "Jobs whose end was found by reconciliation.",
            maintenance.ended.load(Relaxed),
        ),
        (
            "landfall_stale_jobs_checked_total",
            "Stale jobs compared with the store.",
            maintenance.examined.load(Relaxed),
        ),
        (
            "landfall_reconcile_failures_total",
            "Comparisons that failed because of the store.",
            maintenance.unknown.load(Relaxed),
        ),
        (
            "landfall_grants_expired_total",
            "Grants that expired before their upload started.",
            maintenance.expired.load(Relaxed),
        ),
        (
            "landfall_jobs_removed_total",
            "Jobs purged after their retention time.",
            maintenance.purged.load(Relaxed),
        ),
        (
            "landfall_queue_maintenance_failures_total",
            "Maintenance passes that failed because of the database.",
            maintenance.failed.load(Relaxed),
        ),
    ] {
        page.single(name, "counter", help, value);
    }
    let help = "Number of the last event of the queue.";
    let newest = u64::try_from(stats.newest_event).unwrap_or_default();
    page.single("landfall_queue_last_event_number", "gauge", help, newest);
}

fn grant_results(page: &mut Page, stats: &GrantStats) {
    let api = &stats.api;
    let name = "landfall_grants_total";
    page.family(name, "counter", "Requests for grants by result.");
    for (result, count) in [
        ("granted", &api.granted),
        ("repeated", &api.repeated),
        ("rejected", &api.rejected),
        ("failed", &api.failed),
    ] {
        page.sample(name, &[("result", result)], count.load(Relaxed));
    }
    let help = "Uploads cancelled by their principals.";
    let cancelled = api.cancelled.load(Relaxed);
    page.single(
        "landfall_grants_cancelled_total",
        "counter",
        help,
        cancelled,
    );
    let help = "Open event streams.";
    let listening = api.event_streams.load(Relaxed);
    page.single("landfall_event_streams", "gauge", help, listening);
}
