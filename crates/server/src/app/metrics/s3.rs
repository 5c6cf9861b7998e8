//! Metrics of calls to S3 under tusd's names, besides those of all clouds.
//!
//! The quantiles of tusd's summary are interpolated within the buckets of the histogram. An operation has samples from
//! its first call.

use landfall_s3::{
    StoreStats,
    client::{DURATION_BOUNDS_MS, Operation, Stats},
};

use super::{Page, metrics};

pub(super) fn s3(page: &mut Page, stats: &Stats, store: &StoreStats) {
    let name = "tusd_s3_request_duration_ms";
    let help = "Durations of calls to S3 in milliseconds, retries included.";
    page.family(name, "summary", help);
    for operation in Operation::ALL {
        let of = stats.operation(operation.name());
        let Some(label) = operation
            .tusd_label()
            .filter(|_| of.calls > 0 || of.retries > 0)
        else {
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
    metrics! { page;
        gauge tusd_s3_upload_semaphore_demand = store.parts_in_flight,
            "Parts being uploaded to S3.";
        gauge tusd_s3_upload_semaphore_limit = store.parts_limit,
            "Maximum number of parts uploaded to S3 concurrently.";
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
