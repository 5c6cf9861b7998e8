use landfall::lease::remote::LeaseStats;

use super::{Page, metrics};

pub(super) fn leases(page: &mut Page, stats: &LeaseStats) {
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
