//! Metrics of the queue, the grants API and the responses of all API routes.
//!
//! Numbers of the database are left out if it did not respond in time, so that a scrape succeeds without it.

use std::sync::atomic::Ordering::Relaxed;

use landfall_state::queue::JobState;

use super::{Page, metrics};
use crate::app::grants::{ApiRoutes, GrantStats};

pub(super) fn grants(page: &mut Page, stats: &GrantStats, api: &ApiRoutes) {
    if stats.enabled {
        grant_results(page, stats);
    }
    let name = "landfall_api_requests_total";
    page.family(name, "counter", "Requests to the API routes by status.");
    for group in api.groups() {
        for (status, count) in &*group.responses.lock() {
            let labels = [("api", group.name), ("status", &status.to_string())];
            page.sample(name, &labels, count);
        }
    }
    if let Some((totals, newest_event)) = &stats.read {
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
        metrics! { page;
            gauge landfall_jobs_completed_bytes = totals.completed_bytes,
                "Bytes of completed uploads that are still listed.";
            gauge landfall_queue_last_event_number = newest_event.max(&0),
                "Number of the last event of the queue.";
        }
    }
    let maintenance = &stats.maintenance;
    metrics! { page;
        counter landfall_queue_batches_total = stats.queue.batches,
            "Transactions that wrote to the queue.";
        counter landfall_queue_commands_total = stats.queue.commands,
            "Commands executed in these transactions.";
        counter landfall_queue_failures_total = stats.queue.failures, "Transactions that failed.";
        counter landfall_queue_unreadable_events_total = stats.queue.unreadable_events,
            "Events skipped because another version wrote them.";
        counter landfall_queue_reconciled_total = maintenance.ended.load(Relaxed),
            "Jobs whose end was found by reconciliation.";
        counter landfall_stale_jobs_checked_total = maintenance.examined.load(Relaxed),
            "Stale jobs compared with the store.";
        counter landfall_reconcile_failures_total = maintenance.unknown.load(Relaxed),
            "Comparisons that failed because of the store.";
        counter landfall_grants_expired_total = maintenance.expired.load(Relaxed),
            "Grants that expired before their upload started.";
        counter landfall_jobs_removed_total = maintenance.purged.load(Relaxed),
            "Jobs purged after their retention time.";
        counter landfall_queue_maintenance_failures_total = maintenance.failed.load(Relaxed),
            "Maintenance passes that failed because of the database.";
    }
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
    metrics! { page;
        counter landfall_grants_cancelled_total = api.cancelled.load(Relaxed),
            "Uploads cancelled by their principals.";
        gauge landfall_event_streams = api.event_streams.load(Relaxed), "Open event streams.";
    }
}
