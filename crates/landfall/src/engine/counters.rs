//! Counters of the engine, incremented on the hot path without a lock, and their snapshot for metrics.
//!
//! The service adds requests, errors and live uploads to [`Stats`].

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU64, Ordering},
};

macro_rules! counters {
    ($(#[doc = $doc:literal] $name:ident;)*) => {
        #[derive(Debug, Default)]
        pub(crate) struct Counters {
            $(pub(crate) $name: AtomicU64,)*
        }

        /// Counters since the handler was created.
        ///
        /// All but `live_uploads`, `clock_step`, `reported_orphans` and `damaged_uploads` are monotonic.
        #[derive(Debug, Clone, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct Stats {
            $(#[doc = $doc] pub $name: u64,)*
            /// Requests by method.
            pub requests: [(&'static str, u64); 6],
            /// Error responses by status and error code.
            pub errors: BTreeMap<(u16, &'static str), u64>,
            /// Uploads that are being received.
            pub live_uploads: u64,
            /// Seconds by which the wall clock has stepped forward, while no other clock confirms that: nothing
            /// expires by it.
            pub clock_step: u64,
        }

        impl Counters {
            pub(crate) fn snapshot(&self) -> Stats {
                Stats { $($name: get(&self.$name),)* ..Stats::default() }
            }
        }
    };
}

counters! {
    /// Uploads created.
    created;
    /// Uploads completed.
    finished;
    /// Uploads removed on request.
    terminated;
    /// Uploads removed because they expired.
    expired;
    /// Orphans that the last sweep reported and kept.
    reported_orphans;
    /// Uploads of the last sweep whose descriptions cannot be read or contradict the store.
    damaged_uploads;
    /// Bytes received and stored.
    bytes_received;
    /// Bytes of uploads sent.
    bytes_sent;
    /// Requests that yielded to a newer one for the same upload.
    takeovers;
    /// Transfers of silent or slow clients that were evicted.
    evictions;
    /// Bodies with a wrong checksum.
    checksum_mismatches;
}

pub(crate) fn add(counter: &AtomicU64, n: u64) {
    counter.fetch_add(n, Ordering::Relaxed);
}

pub(crate) fn get(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}
