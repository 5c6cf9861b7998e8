//! Checks of tus 1.0.0.

mod head;
mod options;

use crate::check::{Capability, Group, Protocol};

pub(super) const GROUPS: &[Group] = &[
    group("Core: OPTIONS", &[], options::CHECKS),
    group("Core: HEAD", &[Capability::Creation], head::CHECKS),
];

const fn group(
    title: &'static str,
    needs: &'static [Capability],
    checks: &'static [crate::check::Check],
) -> Group {
    Group {
        protocol: Protocol::Tus,
        title,
        needs,
        is_chaos: false,
        checks,
    }
}
