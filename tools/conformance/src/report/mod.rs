//! Reports: text, JSON, JUnit and a badge.

mod badge;
mod json;
mod junit;
mod text;

pub use self::badge::badge;
pub use self::json::json;
pub use self::junit::junit;
pub use self::text::Text;

use crate::requirement::{Finding, Level};
use crate::runner::{CheckOutcome, Report};

/// The number of results of each kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Counts {
    /// Checks that passed.
    pub passed: usize,
    /// Checks whose requirement the server violates.
    pub failed: usize,
    /// Checks whose requirement the server violates by a documented choice (`--profile`).
    pub documented: usize,
    /// Checks that do not apply.
    pub skipped: usize,
    /// Checks that could not be carried out.
    pub errors: usize,
}

impl Counts {
    /// Counts results.
    pub fn new<'a>(outcomes: impl IntoIterator<Item = &'a CheckOutcome>) -> Self {
        let mut counts = Self::default();
        for outcome in outcomes {
            match &outcome.result {
                Ok(()) => counts.passed += 1,
                Err(Finding::Failed(_)) => counts.failed += 1,
                Err(Finding::Documented(_)) => counts.documented += 1,
                Err(Finding::Skipped(_)) => counts.skipped += 1,
                Err(Finding::Error(_)) => counts.errors += 1,
            }
        }
        counts
    }

    /// Returns the checks that neither passed nor were skipped.
    #[must_use]
    pub const fn violations(self) -> usize {
        self.failed + self.errors
    }
}

impl Report {
    /// Counts the results of the checks of a level.
    #[must_use]
    pub fn counts(&self, level: Level) -> Counts {
        let of_level = |outcome: &&CheckOutcome| outcome.check.level == level;
        Counts::new(self.outcomes.iter().filter(of_level))
    }

    /// Returns whether every check of a MUST passed, does not apply, or fails by a documented choice.
    #[must_use]
    pub fn is_conformant(&self) -> bool {
        self.counts(Level::Must).violations() == 0
    }
}

/// Returns the word for a result.
const fn word(outcome: &CheckOutcome) -> &'static str {
    match outcome.result {
        Ok(()) => "passed",
        Err(Finding::Failed(_)) => "failed",
        Err(Finding::Documented(_)) => "documented",
        Err(Finding::Skipped(_)) => "skipped",
        Err(Finding::Error(_)) => "error",
    }
}

fn message(outcome: &CheckOutcome) -> Option<&str> {
    match &outcome.result {
        Ok(()) => None,
        Err(
            Finding::Failed(text)
            | Finding::Documented(text)
            | Finding::Skipped(text)
            | Finding::Error(text),
        ) => Some(text),
    }
}
