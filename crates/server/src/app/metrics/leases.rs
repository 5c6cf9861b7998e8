//! Metrics of leases shared by several nodes.

use super::Page;
use crate::app::leases::LeaseStats;

pub(super) fn leases(page: &mut Page, stats: &LeaseStats) {
    let help = "Leases held now.";
    page.single("landfall_leases_held", "gauge", help, stats.held as u64);
    for (name, help, value) in [
        (
            "landfall_leases_granted_total",
            "Leases granted to this node.",
            stats.granted,
        ),
        (
            "landfall_leases_taken_over_total",
            "Leases taken over from another node that released them on request.",
            stats.taken_over,
        ),
        (
            "landfall_leases_lost_total",
            "Leases lost: not renewed in time, or held by another node.",
            stats.lost,
        ),
        (
            "landfall_leases_unavailable_total",
            "Lease requests that failed because the backend was unavailable.",
            stats.unavailable,
        ),
    ] {
        page.single(name, "counter", help, value);
    }
}
