//! Counters for metrics.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU64, Ordering},
};

use http::{Method, StatusCode};
use landfall_protocol::Operation;
use parking_lot::Mutex;

use crate::engine::{Engine, get};

/// Methods with their own counter.
const METHODS: [&str; 6] = ["GET", "HEAD", "POST", "PATCH", "DELETE", "OPTIONS"];

/// Counters since the handler was created.
///
/// All but `live_uploads` and `reported_orphans` are monotonic.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Requests by method.
    pub requests: [(&'static str, u64); 6],
    /// Error responses by status and error code.
    pub errors: BTreeMap<(u16, &'static str), u64>,
    /// Bytes received and stored.
    pub bytes_received: u64,
    /// Bytes of uploads sent.
    pub bytes_sent: u64,
    /// Uploads created.
    pub created: u64,
    /// Uploads completed.
    pub finished: u64,
    /// Uploads removed on request.
    pub terminated: u64,
    /// Uploads removed because they expired.
    pub expired: u64,
    /// Orphans with data that the last sweep reported and kept.
    pub reported_orphans: u64,
    /// Requests that yielded to a newer one for the same upload.
    pub takeovers: u64,
    /// Transfers of silent or slow clients that were evicted.
    pub evictions: u64,
    /// Bodies with a wrong checksum.
    pub checksum_mismatches: u64,
    /// Uploads that are being received.
    pub live_uploads: u64,
}

#[derive(Debug, Default)]
pub(super) struct RequestCounters {
    requests: [AtomicU64; METHODS.len()],
    errors: Mutex<BTreeMap<(u16, &'static str), u64>>,
}

impl RequestCounters {
    pub(super) fn count_request(&self, operation: Option<&Operation>, method: &Method) {
        let name = match operation {
            Some(Operation::Download) => "GET",
            Some(Operation::Inspect) => "HEAD",
            Some(Operation::Create) => "POST",
            Some(Operation::Append) => "PATCH",
            Some(Operation::Terminate) => "DELETE",
            Some(Operation::Options) => "OPTIONS",
            None => method.as_str(),
        };
        if let Some(at) = METHODS.iter().position(|method| *method == name) {
            self.requests[at].fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn count_error(&self, status: StatusCode, code: &'static str) {
        let mut errors = self.errors.lock();
        *errors.entry((status.as_u16(), code)).or_default() += 1;
    }

    pub(super) fn snapshot(&self, engine: &Engine) -> Stats {
        let counters = &engine.counters;
        Stats {
            requests: std::array::from_fn(|at| (METHODS[at], get(&self.requests[at]))),
            errors: self.errors.lock().clone(),
            bytes_received: get(&counters.bytes_received),
            bytes_sent: get(&counters.bytes_sent),
            created: get(&counters.created),
            finished: get(&counters.finished),
            terminated: get(&counters.terminated),
            expired: get(&counters.expired),
            reported_orphans: get(&counters.reported_orphans),
            takeovers: get(&counters.takeovers),
            evictions: get(&counters.evictions),
            checksum_mismatches: get(&counters.checksum_mismatches),
            live_uploads: engine.live_uploads() as u64,
        }
    }
}
