//! What is done with leases that are kept elsewhere.

use landfall_redis::Stats;

use super::Page;

/// Leases in Redis.
pub(super) fn redis(page: &mut Page, stats: &Stats) {
    for (name, kind, help, value) in [
        (
            "landfall_leases_held",
            "gauge",
            "Leases held now.",
            stats.held as u64,
        ),
        (
            "landfall_leases_granted_total",
            "counter",
            "Leases granted to this server.",
            stats.granted,
        ),
        (
            "landfall_leases_taken_over_total",
            "counter",
            "Leases that another server had to give up first.",
            stats.waited,
        ),
        (
            "landfall_leases_lost_total",
            "counter",
            "Leases lost: not renewed in time, or found to be another's.",
            stats.lost,
        ),
        (
            "landfall_leases_unavailable_total",
            "counter",
            "Requests for a lease that failed because what keeps them was away.",
            stats.unavailable,
        ),
        (
            "landfall_leases_connected",
            "gauge",
            "Whether what keeps leases is connected.",
            u64::from(stats.connected),
        ),
    ] {
        page.single(name, kind, help, value);
    }
}
