//! Metrics in the Prometheus text format 0.0.4.
//!
//! Formatted without a client library, because those reject tusd's names, which dashboards use
//! (`tusd_bytes_received` is a counter without `_total`).

mod cloud;
mod grants;
mod hooks;
mod s3;

use landfall_objects::Cloud as _;
use std::{
    fmt::{Display, Write as _},
    sync::atomic::Ordering::Relaxed,
    time::SystemTime,
};

use landfall::Stats;
use landfall_http::{NetStats, Tls};

use super::grants::ApiRoutes;
use super::parts::AppParts;
use super::storage::StorageBackend;

/// A metric is `kind name = value, help;`. With `for row in rows` and a label, each row is a sample.
macro_rules! metrics {
    ($page:expr; $($kind:ident $name:ident = $value:expr, $help:literal;)*) => {$(
        $page.single(stringify!($name), stringify!($kind), $help, $value);
    )*};
    (
        $page:expr, for $row:ident in $rows:expr, $label:literal = $label_value:expr;
        $($kind:ident $name:ident = $value:expr, $help:literal;)*
    ) => {$(
        $page.family(stringify!($name), stringify!($kind), $help);
        for $row in $rows {
            $page.sample(stringify!($name), &[($label, $label_value)], $value);
        }
    )*};
}
use metrics;

pub(super) async fn render(
    stats: &Stats,
    net: &NetStats,
    parts: &AppParts,
    tls: Option<&Tls>,
    acme: Option<&landfall_acme::Acme>,
    api: &ApiRoutes,
) -> String {
    let mut page = Page(String::with_capacity(8 * 1024));

    page.family("tusd_requests_total", "counter", "Requests by method.");
    for (method, count) in stats.requests {
        page.sample("tusd_requests_total", &[("method", method)], count);
    }
    let help = "Error responses by status and code.";
    page.family("tusd_errors_total", "counter", help);
    for ((status, code), count) in &stats.errors {
        let labels = [("status", &*status.to_string()), ("code", *code)];
        page.sample("tusd_errors_total", &labels, *count);
    }
    metrics! { page;
        counter tusd_bytes_received = stats.bytes_received, "Bytes of uploads stored.";
        counter tusd_uploads_created = stats.created, "Uploads created.";
        counter tusd_uploads_finished = stats.finished, "Uploads completed.";
        counter tusd_uploads_terminated = stats.terminated, "Uploads terminated by clients.";
        counter landfall_bytes_sent_total = stats.bytes_sent, "Bytes of uploads sent.";
        counter landfall_uploads_expired_total = stats.expired, "Uploads removed by the sweeper.";
        counter landfall_takeovers_total = stats.takeovers,
            "Requests that yielded to a newer request for the same upload.";
        counter landfall_evictions_total = stats.evictions,
            "Transfers of silent or slow clients ended to make room for others.";
        counter landfall_checksum_mismatches_total = stats.checksum_mismatches,
            "Bodies with a wrong checksum.";
        counter landfall_connections_total = net.accepted.load(Relaxed), "Connections accepted.";
        counter landfall_accept_errors_total = net.accept_errors.load(Relaxed),
            "Failed attempts to accept a connection.";
        counter landfall_connection_limit_reached_total = net.limit_reached.load(Relaxed),
            "Times the connection limit was reached.";
        counter landfall_connections_evicted_total = net.evicted.load(Relaxed),
            "Connections of silent or slow clients closed at the connection limit.";
        counter landfall_address_connections_rejected_total = net.address_connections.load(Relaxed),
            "Connections rejected by the limit per client address.";
        counter landfall_address_requests_rejected_total = net.address_requests.load(Relaxed),
            "Requests rejected by the rate limit per client address.";
        counter landfall_address_uploads_rejected_total = net.address_uploads.load(Relaxed),
            "Uploads rejected by the limit per client address.";
        counter landfall_address_downloads_rejected_total = net.address_downloads.load(Relaxed),
            "Downloads rejected by the limit per client address.";
        counter landfall_invalid_requests_total = net.rejected.load(Relaxed),
            "Requests rejected because they were not valid HTTP.";
        counter landfall_network_bytes_in_total = net.bytes_in.load(Relaxed), "Bytes received.";
        counter landfall_network_bytes_out_total = net.bytes_out.load(Relaxed), "Bytes sent.";
        counter landfall_proxy_header_errors_total = net.proxy_errors.load(Relaxed),
            "Connections closed because their PROXY header was not valid or not from a trusted proxy.";
        gauge tusd_connections_open = net.open.load(Relaxed), "Open connections.";
        gauge landfall_uploads_live = stats.live_uploads, "Uploads being received.";
        gauge landfall_orphans = stats.reported_orphans,
            "Files or objects that belong to no upload and are kept, as of the last sweep.";
        gauge landfall_damaged_uploads = stats.damaged_uploads,
            "Uploads whose description cannot be read or contradicts the store, as of the last sweep.";
        gauge landfall_clock_step_seconds = stats.clock_step,
            "By how much the clock has stepped forward, while it is in doubt; nothing expires by it.";
    }
    if let Some(tls) = tls {
        let expires = tls.config().expires().map(|time| {
            time.duration_since(SystemTime::UNIX_EPOCH)
                .unwrap_or_default()
        });
        metrics! { page;
            gauge landfall_tls_certificate_expires_timestamp_seconds = expires.map_or(0, |time| time.as_secs()),
                "When the first TLS certificate expires, in seconds since 1970; 0 if there is none yet.";
            counter landfall_tls_handshakes_total = net.tls_handshakes.load(Relaxed),
                "TLS handshakes.";
            counter landfall_tls_handshake_errors_total = net.tls_errors.load(Relaxed),
                "TLS handshakes that failed.";
        }
    }
    if let Some(acme) = acme {
        let stats = acme.stats();
        metrics! { page;
            gauge landfall_acme_last_success_timestamp_seconds = stats.last_success.load(Relaxed),
                "When this process last obtained a certificate, in seconds since 1970; 0 if it has not.";
            gauge landfall_acme_last_failure_timestamp_seconds = stats.last_failure.load(Relaxed),
                "When this process last failed to obtain one, in seconds since 1970; 0 if it has not.";
        }
    }
    let name = "landfall_timeouts_total";
    page.family(name, "counter", "Connections ended by a timeout.");
    for (timer, count) in [
        ("header", &net.header_timeouts),
        ("idle", &net.idle_timeouts),
        ("body", &net.body_timeouts),
        ("rate", &net.too_slow),
        ("write", &net.write_timeouts),
    ] {
        page.sample(name, &[("timer", timer)], count.load(Relaxed));
    }
    let name = "landfall_build_info";
    page.family(name, "gauge", "The running version.");
    page.sample(name, &[("version", env!("CARGO_PKG_VERSION"))], 1);
    hooks::hooks(&mut page, &parts.hooks);
    if let StorageBackend::Bucket(bucket) = &parts.storage.backend {
        let (calls, store) = (bucket.client.stats(), bucket.store.stats());
        s3::s3(&mut page, calls, &store);
        cloud::cloud(&mut page, "landfall_s3", "S3", calls, &store);
    }
    if let StorageBackend::Cloud(storage) = &parts.storage.backend {
        let opened = &storage.opened;
        let (calls, store) = (storage.direct.cloud().stats(), opened.stats());
        cloud::cloud(&mut page, "landfall_cloud", "the cloud", calls, &store);
        let help = "Parts being uploaded to the cloud.";
        page.single("landfall_cloud_parts", "gauge", help, store.parts_in_flight);
    }
    if let Some(shared) = &parts.storage.leases {
        let stats = shared.stats();
        metrics! { page;
            gauge landfall_leases_held = stats.held, "Leases held now.";
            counter landfall_leases_granted_total = stats.granted, "Leases granted to this node.";
            counter landfall_leases_taken_over_total = stats.waited,
                "Leases taken over from another node that released them on request.";
            counter landfall_leases_lost_total = stats.lost,
                "Leases lost: not renewed in time, or held by another node.";
            counter landfall_leases_unavailable_total = stats.unavailable,
                "Lease requests that failed because the backend was unavailable.";
        }
    }
    if let Some(grants) = &parts.grants {
        grants::grants(&mut page, &grants.stats().await, api);
    }
    if let Some(direct) = &parts.direct {
        self::direct(&mut page, direct.stats());
    }
    page.process();
    page.0
}

fn direct(page: &mut Page, stats: &landfall_direct::DirectStats) {
    metrics! { page;
        counter landfall_direct_opened_total = stats.opened.load(Relaxed),
            "Direct uploads created.";
        counter landfall_direct_rejected_total = stats.rejected.load(Relaxed),
            "Direct uploads rejected by a policy, a limit or a hook.";
        counter landfall_direct_completed_total = stats.completed.load(Relaxed),
            "Direct uploads completed.";
        counter landfall_direct_failed_total = stats.failed.load(Relaxed),
            "Direct uploads that failed because of their object or a hook.";
        counter landfall_direct_cancelled_total = stats.cancelled.load(Relaxed),
            "Direct uploads cancelled.";
        counter landfall_direct_expired_total = stats.expired.load(Relaxed),
            "Direct uploads expired without activity.";
        counter landfall_direct_parts_signed_total = stats.parts.load(Relaxed),
            "Presigned URLs of parts.";
        counter landfall_direct_sweeps_total = stats.sweeps.load(Relaxed),
            "Sweeps of direct uploads.";
        counter landfall_direct_checks_total = stats.checks.load(Relaxed),
            "Checks of direct uploads in the bucket.";
        counter landfall_direct_check_failures_total = stats.check_failures.load(Relaxed),
            "Checks that failed because of the bucket.";
    }
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
            let start = if at == 0 { '{' } else { ',' };
            let _ = write!(self.0, "{start}{label}=\"{value}\"");
        }
        if !labels.is_empty() {
            self.0.push('}');
        }
        let _ = writeln!(self.0, " {value}");
    }

    fn single(&mut self, name: &str, kind: &str, help: &str, value: impl Display) {
        self.family(name, kind, help);
        self.sample(name, &[], value);
    }

    fn histogram(
        &mut self,
        name: &str,
        labels: &[(&str, &str)],
        bounds_ms: &[u64],
        counts: &[u64],
        sum_seconds: f64,
    ) {
        let bucket = format!("{name}_bucket");
        let mut up_to = 0;
        for (at, count) in counts.iter().enumerate() {
            up_to += count;
            let bound = bounds_ms.get(at);
            let bound = bound.map(|ms| (*ms as f64 / 1000.0).to_string());
            let bound = bound.unwrap_or_else(|| "+Inf".to_owned());
            self.sample(&bucket, &[labels, &[("le", &bound)]].concat(), up_to);
        }
        self.sample(&format!("{name}_sum"), labels, sum_seconds);
        self.sample(&format!("{name}_count"), labels, up_to);
    }

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
            let mut ticks = fields.split_ascii_whitespace().skip(11);
            let mut ticks = || ticks.next()?.parse::<u64>().ok();
            if let (Some(user), Some(system)) = (ticks(), ticks()) {
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
