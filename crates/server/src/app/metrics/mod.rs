//! Metrics in the Prometheus text format 0.0.4.
//!
//! Formatted without a client library, because those reject tusd's names, which dashboards use
//! (`tusd_bytes_received` is a counter without `_total`).

#[cfg(feature = "direct")]
mod direct;
#[cfg(feature = "grants")]
mod grants;
mod hooks;
#[cfg(any(feature = "s3", feature = "redis", feature = "postgres"))]
mod leases;
#[cfg(feature = "s3")]
mod s3;

use std::{
    fmt::{Display, Write as _},
    sync::atomic::Ordering::Relaxed,
};

use landfall::Stats;

#[cfg(feature = "s3")]
use super::storage::StorageBackend;
use super::{hooks::Hooks, storage::Storage};
use crate::net::NetStats;

/// Renders the metrics.
pub(super) fn render(stats: &Stats, net: &NetStats, storage: &Storage, hooks: &Hooks) -> String {
    let mut page = Page(String::with_capacity(8 * 1024));

    page.family("tusd_requests_total", "counter", "Requests by method.");
    for (method, count) in stats.requests {
        page.sample("tusd_requests_total", &[("method", method)], count);
    }
    page.family(
        "tusd_errors_total",
        "counter",
        "Error responses by status and code.",
    );
    for ((status, code), count) in &stats.errors {
        let labels = [("status", status.to_string()), ("code", (*code).to_owned())];
        let labels = labels
            .each_ref()
            .map(|(name, value)| (*name, value.as_str()));
        page.sample("tusd_errors_total", &labels, *count);
    }
    for (name, help, value) in [
        (
            "tusd_bytes_received",
            "Bytes of uploads stored.",
            stats.bytes_received,
        ),
        ("tusd_uploads_created", "Uploads created.", stats.created),
        (
            "tusd_uploads_finished",
            "Uploads completed.",
            stats.finished,
        ),
        (
            "tusd_uploads_terminated",
            "Uploads terminated by clients.",
            stats.terminated,
        ),
        (
            "landfall_bytes_sent_total",
            "Bytes of uploads sent.",
            stats.bytes_sent,
        ),
        (
            "landfall_uploads_expired_total",
            "Uploads removed by the sweeper.",
            stats.expired,
        ),
        (
            "landfall_takeovers_total",
            "Requests that yielded to a newer request for the same upload.",
            stats.takeovers,
        ),
        (
            "landfall_evictions_total",
            "Transfers of silent or slow clients ended to make room for others.",
            stats.evictions,
        ),
        (
            "landfall_checksum_mismatches_total",
            "Bodies with a wrong checksum.",
            stats.checksum_mismatches,
        ),
        (
            "landfall_connections_total",
            "Connections accepted.",
            net.accepted.load(Relaxed),
        ),
        (
            "landfall_accept_errors_total",
            "Failed attempts to accept a connection.",
            net.accept_errors.load(Relaxed),
        ),
        (
            "landfall_connection_limit_reached_total",
            "Times the connection limit was reached.",
            net.limit_reached.load(Relaxed),
        ),
        (
            "landfall_connections_evicted_total",
            "Connections of silent or slow clients closed at the connection limit.",
            net.evicted.load(Relaxed),
        ),
        (
            "landfall_address_connections_rejected_total",
            "Connections rejected by the limit per client address.",
            net.address_connections.load(Relaxed),
        ),
        (
            "landfall_address_requests_rejected_total",
            "Requests rejected by the rate limit per client address.",
            net.address_requests.load(Relaxed),
        ),
        (
            "landfall_address_uploads_rejected_total",
            "Uploads rejected by the limit per client address.",
            net.address_uploads.load(Relaxed),
        ),
        (
            "landfall_invalid_requests_total",
            "Requests rejected because they were not valid HTTP.",
            net.rejected.load(Relaxed),
        ),
        (
            "landfall_network_bytes_in_total",
            "Bytes received.",
            net.bytes_in.load(Relaxed),
        ),
        (
            "landfall_network_bytes_out_total",
            "Bytes sent.",
            net.bytes_out.load(Relaxed),
        ),
    ] {
        page.single(name, "counter", help, value);
    }
    page.family(
        "landfall_timeouts_total",
        "counter",
        "Connections ended by a timeout.",
    );
    for (timer, count) in [
        ("header", &net.header_timeouts),
        ("idle", &net.idle_timeouts),
        ("body", &net.body_timeouts),
        ("rate", &net.too_slow),
        ("write", &net.write_timeouts),
    ] {
        page.sample(
            "landfall_timeouts_total",
            &[("timer", timer)],
            count.load(Relaxed),
        );
    }
    let open = net.open.load(Relaxed);
    page.single("tusd_connections_open", "gauge", "Open connections.", open);
    let help = "Uploads being received.";
    page.single("landfall_uploads_live", "gauge", help, stats.live_uploads);
    let help = "Files or objects with content that belong to no upload, as of the last sweep.";
    page.single("landfall_orphans", "gauge", help, stats.reported_orphans);
    page.family("landfall_build_info", "gauge", "The running version.");
    page.sample(
        "landfall_build_info",
        &[("version", env!("CARGO_PKG_VERSION"))],
        1,
    );
    hooks::hooks(&mut page, hooks);
    #[cfg(feature = "s3")]
    if let StorageBackend::Bucket(bucket) = &storage.backend {
        s3::client(&mut page, bucket.client.stats());
        s3::store(&mut page, &bucket.store.stats());
    }
    #[cfg(any(feature = "s3", feature = "redis", feature = "postgres"))]
    if let Some(shared) = &storage.leases {
        leases::leases(&mut page, &shared.stats());
    }
    #[cfg(not(any(feature = "s3", feature = "redis", feature = "postgres")))]
    let _ = storage;
    page.process();
    page.0
}

/// Appends the metrics of grants.
#[cfg(feature = "grants")]
pub(super) fn with_grants(
    page: String,
    stats: &super::grants::GrantStats,
    answers: &[(&str, std::collections::BTreeMap<u16, u64>)],
) -> String {
    let mut page = Page(page);
    grants::grants(&mut page, stats, answers);
    page.0
}

/// Appends the metrics of direct uploads.
#[cfg(feature = "direct")]
pub(super) fn with_direct(page: String, stats: &landfall_direct::DirectStats) -> String {
    let mut page = Page(page);
    direct::direct(&mut page, stats);
    page.0
}

struct Page(String);

impl Page {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    /// Label values are known and need no escaping.
    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        self.0.push_str(name);
        for (at, (label, value)) in labels.iter().enumerate() {
            let _ = write!(
                self.0,
                "{}{label}=\"{value}\"",
                if at == 0 { '{' } else { ',' }
            );
        }
        if !labels.is_empty() {
            self.0.push('}');
        }
        let _ = writeln!(self.0, " {value}");
    }

    fn single(&mut self, name: &str, kind: &str, help: &str, value: u64) {
        self.family(name, kind, help);
        self.sample(name, &[], value);
    }

    /// Adds the standard `process_…` metrics that the system provides.
    fn process(&mut self) {
        if let Ok(statm) = std::fs::read_to_string("/proc/self/statm")
            && let Some(pages) = statm.split(' ').nth(1).and_then(|n| n.parse::<u64>().ok())
        {
            let size = rustix::param::page_size() as u64;
            let help = "Resident memory size in bytes.";
            self.single("process_resident_memory_bytes", "gauge", help, pages * size);
        }
        if let Ok(open) = std::fs::read_dir("/proc/self/fd") {
            let help = "Number of open file descriptors.";
            self.single("process_open_fds", "gauge", help, open.count() as u64);
        }
        if let Ok(stat) = std::fs::read_to_string("/proc/self/stat")
            && let Some((_, fields)) = stat.rsplit_once(')')
        {
            let ticks = |at| {
                fields
                    .split_ascii_whitespace()
                    .nth(at)
                    .and_then(|n: &str| n.parse::<u64>().ok())
            };
            if let (Some(user), Some(system)) = (ticks(11), ticks(12)) {
                let name = "process_cpu_seconds_total";
                let help = "Total user and system CPU time spent in seconds.";
                self.family(name, "counter", help);
                let hertz = rustix::param::clock_ticks_per_second() as f64;
                let _ = writeln!(self.0, "{name} {}", (user + system) as f64 / hertz);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_in_prometheus_format() {
        let mut page = Page(String::new());
        page.single("a_total", "counter", "A.", 3);
        page.sample("b", &[("x", "1"), ("y", "z")], 4);
        let text = "# HELP a_total A.\n# TYPE a_total counter\na_total 3\nb{x=\"1\",y=\"z\"} 4\n";
        assert_eq!(page.0, text);
    }
}
