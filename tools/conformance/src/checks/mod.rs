//! The table of checks.

mod draft;
mod tus;

use crate::capabilities::Capabilities;
use crate::check::{Check, Group};
use crate::options::Options;

/// Returns all groups of checks in the order of reports.
pub fn groups() -> impl Iterator<Item = &'static Group> {
    tus::GROUPS.iter().chain(draft::GROUPS)
}

/// Returns the checks that run, in the order of reports.
pub(crate) fn selected(
    options: &Options,
    server: &Capabilities,
) -> Vec<(&'static Group, &'static Check)> {
    let applies = |group: &&Group| {
        server.protocols.contains(&group.protocol) && (options.chaos || !group.is_chaos)
    };
    let checks = groups()
        .filter(applies)
        .flat_map(|group| group.checks.iter().map(move |check| (group, check)));
    checks
        .filter(|(_, check)| options.selects(check.id))
        .collect()
}
