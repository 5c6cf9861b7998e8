//! Counts requests by method and error responses by code, and warns of rejections that a setting would accept.
//!
//! The counters are bounded: other methods are not counted, and codes are constants. At most one warning is logged per
//! minute.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use http::{Method, StatusCode};
use landfall_protocol::{Operation, Problem, ProblemKind};
use parking_lot::Mutex;

use crate::engine::{Engine, Stats, get};

const METHODS: [&str; 6] = ["GET", "HEAD", "POST", "PATCH", "DELETE", "OPTIONS"];

#[derive(Debug, Default)]
pub(super) struct RequestCounters {
    requests: [AtomicU64; METHODS.len()],
    errors: Mutex<BTreeMap<(u16, &'static str), u64>>,
    warned: Mutex<Option<Instant>>,
}

const WARNING_INTERVAL: Duration = Duration::from_secs(60);

/// Returns the setting that accepts what was rejected. Users of a client cannot change what it sends.
fn lenient_setting(kind: ProblemKind) -> Option<&'static str> {
    match kind {
        ProblemKind::InvalidChecksum | ProblemKind::UnsupportedChecksum => {
            Some("--disable-checksum")
        }
        ProblemKind::InvalidMetadata | ProblemKind::ContentEncoding => Some("--compat tusd"),
        _ => None,
    }
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

    /// Warns the operator, once a minute.
    pub(super) fn warn_of_rejection(&self, problem: &Problem, id: Option<&str>) {
        let Some(setting) = lenient_setting(problem.kind) else {
            return;
        };
        let now = Instant::now();
        let mut warned = self.warned.lock();
        if warned.is_some_and(|last| now.duration_since(last) < WARNING_INTERVAL) {
            return;
        }
        *warned = Some(now);
        tracing::warn!(
            id,
            error = problem.to_string().trim_end(),
            setting,
            "rejected what a client sends; the setting accepts it, as tusd does"
        );
    }

    pub(super) fn snapshot(&self, engine: &Engine) -> Stats {
        let mut stats = engine.counters.snapshot();
        stats.requests = std::array::from_fn(|at| (METHODS[at], get(&self.requests[at])));
        stats.errors = self.errors.lock().clone();
        stats.live_uploads = engine.live_uploads() as u64;
        stats.clock_step = engine.doubted_clock_step().map_or(0, |step| step.as_secs());
        stats
    }
}
