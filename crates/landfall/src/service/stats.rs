use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU64, Ordering},
};

use http::{Method, StatusCode};
use landfall_protocol::Operation;
use parking_lot::Mutex;

use crate::engine::{Engine, Stats, get};

const METHODS: [&str; 6] = ["GET", "HEAD", "POST", "PATCH", "DELETE", "OPTIONS"];

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
        let mut stats = engine.counters.snapshot();
        stats.requests = std::array::from_fn(|at| (METHODS[at], get(&self.requests[at])));
        stats.errors = self.errors.lock().clone();
        stats.live_uploads = engine.live_uploads() as u64;
        stats
    }
}
