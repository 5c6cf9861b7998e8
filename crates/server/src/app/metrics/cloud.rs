//! Metrics of calls to a cloud and of memory for parts, in one table for all clouds. tusd has none of them.

use landfall_objects::{DURATION_BOUNDS_MS, OperationStats, Stats, StoreStats};

use super::Page;

type Count = fn(&OperationStats) -> u64;

/// Writes `{prefix}_…`. `cloud` is its name, for people. An operation has samples from its first call.
pub(super) fn cloud(page: &mut Page, prefix: &str, cloud: &str, calls: &Stats, store: &StoreStats) {
    let mut made = calls.operations();
    made.retain(|_, of| of.calls > 0 || of.retries > 0);
    // Unlike a summary, a histogram can be aggregated over nodes.
    let name = format!("{prefix}_request_duration_seconds");
    let help = format!("Durations of calls to {cloud} in seconds.");
    page.family(&name, "histogram", &help);
    for (operation, of) in &made {
        let labels = [("operation", *operation)];
        let seconds = of.total_duration.as_secs_f64();
        page.histogram(&name, &labels, &DURATION_BOUNDS_MS, &of.durations, seconds);
    }
    let counters: [(_, Count, _); 5] = [
        (
            "calls",
            |of| of.calls,
            format!("Finished calls to {cloud}."),
        ),
        (
            "errors",
            |of| of.failures,
            format!("Calls to {cloud} that failed, after all attempts."),
        ),
        (
            "retries",
            |of| of.retries,
            format!("Retries of calls to {cloud}."),
        ),
        (
            "bytes_out",
            |of| of.bytes_out,
            format!("Bytes sent to {cloud}, retries included."),
        ),
        (
            "bytes_in",
            |of| of.bytes_in,
            format!("Bytes received from {cloud}."),
        ),
    ];
    for (counter, count, help) in counters {
        let name = format!("{prefix}_{counter}_total");
        page.family(&name, "counter", &help);
        for (operation, of) in &made {
            page.sample(&name, &[("operation", *operation)], count(of));
        }
    }
    for (gauge, value, help) in [
        ("bytes", store.memory_used, "Memory used by parts."),
        ("limit_bytes", store.memory_limit, "Memory limit for parts."),
        (
            "waiting",
            store.memory_waiting,
            "Uploads waiting for memory.",
        ),
    ] {
        page.single(&format!("{prefix}_memory_{gauge}"), "gauge", help, value);
    }
}
