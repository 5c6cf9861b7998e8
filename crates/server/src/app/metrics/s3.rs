//! Metrics of calls to S3 and of memory for parts, with tusd's names where tusd has them.
//!
//! The quantiles of tusd's summary are interpolated within the buckets of the histogram. An operation has samples from
//! its first call.

use landfall_s3::{
    StoreStats,
    client::{DURATION_BOUNDS_MS, Operation, OperationStats, Stats},
};

use super::{Page, metrics};

pub(super) fn client(page: &mut Page, stats: &Stats) {
    let made = || {
        let all = Operation::ALL.into_iter();
        let all = all.map(|operation| (operation, stats.operation(operation.name())));
        all.filter(|(_, of)| of.calls > 0 || of.retries > 0)
    };
    let name = "tusd_s3_request_duration_ms";
    let help = "Durations of calls to S3 in milliseconds, retries included.";
    page.family(name, "summary", help);
    for (operation, of) in made() {
        let Some(label) = operation.tusd_label() else {
            continue;
        };
        for (quantile, share) in [("0.5", 0.5), ("0.9", 0.9), ("0.99", 0.99)] {
            let labels = [("operation", label), ("quantile", quantile)];
            page.sample(name, &labels, self::quantile(&of.durations, share));
        }
        let labels = [("operation", label)];
        let sum = of.total_duration.as_secs_f64() * 1000.0;
        page.sample(&format!("{name}_sum"), &labels, sum);
        page.sample(&format!("{name}_count"), &labels, of.calls);
    }
    histogram(page, made().collect());
    metrics! { page, for call in made(), "operation" = call.0.name();
        counter landfall_s3_calls_total = call.1.calls, "Finished calls to S3.";
        counter landfall_s3_errors_total = call.1.failures,
            "Calls to S3 that failed, after all attempts.";
        counter landfall_s3_retries_total = call.1.retries, "Retries of calls to S3.";
        counter landfall_s3_bytes_out_total = call.1.bytes_out,
            "Bytes sent to S3, retries included.";
        counter landfall_s3_bytes_in_total = call.1.bytes_in, "Bytes received from S3.";
    }
}

/// Unlike a summary, a histogram can be aggregated over nodes.
fn histogram(page: &mut Page, made: Vec<(Operation, OperationStats)>) {
    let name = "landfall_s3_request_duration_seconds";
    page.family(name, "histogram", "Durations of calls to S3 in seconds.");
    for (operation, of) in made {
        let labels = [("operation", operation.name())];
        let seconds = of.total_duration.as_secs_f64();
        page.histogram(name, &labels, &DURATION_BOUNDS_MS, &of.durations, seconds);
    }
}

fn quantile(counts: &[u64; DURATION_BOUNDS_MS.len() + 1], share: f64) -> f64 {
    let all: u64 = counts.iter().sum();
    if all == 0 {
        return f64::NAN;
    }
    let wanted = share * all as f64;
    let (mut below, mut lower) = (0.0, 0.0);
    for (bound, count) in DURATION_BOUNDS_MS.iter().zip(counts) {
        let (bound, count) = (*bound as f64, *count as f64);
        if count > 0.0 && below + count >= wanted {
            return lower + (bound - lower) * (wanted - below) / count;
        }
        below += count;
        lower = bound;
    }
    lower
}

pub(super) fn store(page: &mut Page, stats: &StoreStats) {
    metrics! { page;
        gauge tusd_s3_upload_semaphore_demand = stats.parts_in_flight,
            "Parts being uploaded to S3.";
        gauge tusd_s3_upload_semaphore_limit = stats.parts_limit,
            "Maximum number of parts uploaded to S3 concurrently.";
        gauge landfall_s3_memory_bytes = stats.memory_used, "Memory used by parts.";
        gauge landfall_s3_memory_limit_bytes = stats.memory_limit, "Memory limit for parts.";
        gauge landfall_s3_memory_waiting = stats.memory_waiting, "Uploads waiting for memory.";
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_lie_within_their_bucket() {
        let mut counts = [0; DURATION_BOUNDS_MS.len() + 1];
        assert!(quantile(&counts, 0.5).is_nan());
        // A hundred calls between 5 and 10 ms.
        counts[3] = 100;
        assert_eq!(quantile(&counts, 0.5), 7.5);
        assert_eq!(quantile(&counts, 0.99), 9.95);
        // A hundred more between 10 and 25 ms.
        counts[4] = 100;
        assert_eq!(quantile(&counts, 0.5), 10.0);
        assert_eq!(quantile(&counts, 0.9), 22.0);
        // Some above all bounds.
        counts[DURATION_BOUNDS_MS.len()] = 1000;
        assert_eq!(quantile(&counts, 0.99), 30_000.0);
    }
}
