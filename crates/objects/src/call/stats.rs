//! Counters of calls by operation. They bound nothing.

use std::{collections::BTreeMap, time::Duration};

use parking_lot::Mutex;

/// Counters of one client and its clones.
#[derive(Debug, Default)]
pub struct Stats {
    operations: Mutex<BTreeMap<&'static str, OperationStats>>,
}

impl Stats {
    /// Returns the counters of one operation.
    pub fn operation(&self, operation: &'static str) -> OperationStats {
        let operations = self.operations.lock();
        operations.get(operation).copied().unwrap_or_default()
    }

    /// Returns the counters of all operations, by name.
    pub fn operations(&self) -> BTreeMap<&'static str, OperationStats> {
        self.operations.lock().clone()
    }

    /// Returns the number of calls of all operations.
    pub fn calls(&self) -> u64 {
        self.operations.lock().values().map(|one| one.calls).sum()
    }

    /// Returns the number of requests of all operations, including retries.
    pub fn requests(&self) -> u64 {
        let operations = self.operations.lock();
        operations.values().map(|one| one.calls + one.retries).sum()
    }

    pub(crate) fn count(&self, operation: &'static str, count: impl FnOnce(&mut OperationStats)) {
        count(self.operations.lock().entry(operation).or_default());
    }
}

/// Upper bounds of the buckets of [`OperationStats::durations`], in milliseconds.
///
/// One more bucket follows the last bound.
pub const DURATION_BOUNDS_MS: [u64; 12] =
    [1, 2, 5, 10, 25, 50, 100, 250, 500, 1_000, 5_000, 30_000];

/// Counters of one operation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct OperationStats {
    /// Finished calls, each counted once; dropped calls are not counted.
    pub calls: u64,
    /// Calls that failed, including those for missing objects.
    pub failures: u64,
    /// Retries.
    pub retries: u64,
    /// Payload bytes sent, over all attempts.
    pub bytes_out: u64,
    /// Body bytes received.
    pub bytes_in: u64,
    /// The total duration of the calls.
    ///
    /// A call lasts from the start of its first attempt to the response's head (`GetObject`) or end
    /// (all others).
    pub total_duration: Duration,
    /// Calls in each bucket of [`DURATION_BOUNDS_MS`].
    pub durations: [u64; DURATION_BOUNDS_MS.len() + 1],
}

impl OperationStats {
    pub(super) fn end_call(&mut self, took: Duration, failed: bool) {
        self.calls += 1;
        self.failures += u64::from(failed);
        self.total_duration = self.total_duration.saturating_add(took);
        let is_below = |&bound: &u64| Duration::from_millis(bound) < took;
        self.durations[DURATION_BOUNDS_MS.partition_point(is_below)] += 1;
    }
}
