//! A check: one requirement of a specification, and the function that verifies it.

use futures_util::future::BoxFuture;

use crate::context::Context;
use crate::requirement::{Capability, CheckResult, Level, Protocol};

type RunCheck = for<'a> fn(&'a Context) -> BoxFuture<'a, CheckResult>;

/// A requirement of a specification, and the function that verifies it.
#[derive(Clone, Copy, Debug)]
pub struct Check {
    /// The name, such as `tus/creation/succeeds-with-201`. Names do not change between versions.
    pub id: &'static str,
    /// The section of the specification.
    pub section: &'static str,
    /// The level of the requirement.
    pub level: Level,
    /// The requirement as one sentence.
    pub requirement: &'static str,
    /// Needed besides the capabilities of the group.
    pub needs: &'static [Capability],
    pub(crate) run: RunCheck,
}

impl Check {
    pub(crate) const fn new(
        level: Level,
        id: &'static str,
        section: &'static str,
        requirement: &'static str,
        needs: &'static [Capability],
        run: RunCheck,
    ) -> Self {
        Self {
            id,
            section,
            level,
            requirement,
            needs,
            run,
        }
    }
}

/// Checks of one extension or chapter.
#[derive(Clone, Copy, Debug)]
pub struct Group {
    /// The specification.
    pub protocol: Protocol,
    /// The title in reports.
    pub title: &'static str,
    /// Needed by each check.
    pub needs: &'static [Capability],
    /// Runs only with `--chaos`.
    pub is_chaos: bool,
    /// The checks in the order of the report.
    pub checks: &'static [Check],
}

impl Group {
    pub(crate) const fn needing(self, needs: &'static [Capability]) -> Self {
        Self { needs, ..self }
    }
}
