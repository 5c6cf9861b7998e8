//! What is done with leases that several servers share.

use super::Page;
use crate::app::leases::LeaseStats;

pub(super) fn leases(page: &mut Page, stats: &LeaseStats) {
    let help = "Leases held now.";
    page.single("landfall_leases_held", "gauge", help, stats.held as u64);
    for (name, help, value) in [
        (
            "landfall_leases_granted_total",
            "Leases granted to this server.",
            stats.granted,
        ),
        (
            "landfall_leases_taken_over_total",
            "Leases that another server gave up first.",
            stats.taken_over,
        ),
        (
            "landfall_leases_lost_total",
            "Leases lost: not renewed in time, or found to be another's.",
            stats.lost,
        ),
        (
            "landfall_leases_unavailable_total",
            "Requests for a lease that failed because what keeps them was away.",
            stats.unavailable,
        ),
    ] {
        page.single(name, "counter", help, value);
    }
}
