//! Metrics of calls to Google Cloud Storage or Azure, and of memory for parts. tusd has none.

use landfall_objects::{DURATION_BOUNDS_MS, Stats, StoreStats};

use super::{Page, metrics};

pub(super) fn cloud(page: &mut Page, calls: &Stats, store: &StoreStats) {
    let made = calls.operations();
    let name = "landfall_cloud_request_duration_seconds";
    page.family(
        name,
        "histogram",
        "Durations of calls to the cloud in seconds.",
    );
    for (operation, of) in &made {
        let labels = [("operation", *operation)];
        let seconds = of.total_duration.as_secs_f64();
        page.histogram(name, &labels, &DURATION_BOUNDS_MS, &of.durations, seconds);
    }
    metrics! { page, for call in &made, "operation" = call.0;
        counter landfall_cloud_calls_total = call.1.calls, "Finished calls to the cloud.";
        counter landfall_cloud_errors_total = call.1.failures,
            "Calls to the cloud that failed, after all attempts.";
        counter landfall_cloud_retries_total = call.1.retries, "Retries of calls to the cloud.";
        counter landfall_cloud_bytes_out_total = call.1.bytes_out,
            "Bytes sent to the cloud, retries included.";
        counter landfall_cloud_bytes_in_total = call.1.bytes_in, "Bytes received from the cloud.";
    }
    metrics! { page;
        gauge landfall_cloud_parts = store.parts_in_flight, "Parts being uploaded to the cloud.";
        gauge landfall_cloud_memory_bytes = store.memory_used, "Memory used by parts.";
        gauge landfall_cloud_memory_limit_bytes = store.memory_limit, "Memory limit for parts.";
        gauge landfall_cloud_memory_waiting = store.memory_waiting, "Uploads waiting for memory.";
    }
}
