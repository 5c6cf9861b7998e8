//! What is wrong with what was said.

use std::fmt;

use super::{instructions, later, table};

/// One thing that is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    sentence: String,
    at_start: bool,
}

impl Problem {
    /// A problem with a flag, variable or line of a file.
    pub(super) fn new(place: impl fmt::Display, reason: impl fmt::Display) -> Self {
        Self::whole(format!("{place}: {reason}"))
    }

    /// A problem whose sentence names its place itself.
    ///
    /// It stays one line that does nothing to a terminal, whatever was typed and is cited in it.
    pub(super) fn whole(sentence: impl Into<String>) -> Self {
        let sentence = sentence.into();
        if !sentence.contains(char::is_control) {
            return Self {
                sentence,
                at_start: false,
            };
        }
        let escaped = sentence.chars().map(|c| {
            if c.is_control() {
                c.escape_default().to_string()
            } else {
                c.to_string()
            }
        });
        Self {
            sentence: escaped.collect(),
            at_start: false,
        }
    }

    /// The same as one that can be seen only when the program starts.
    pub(super) fn at_start(self) -> Self {
        Self {
            at_start: true,
            ..self
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.sentence)
    }
}

/// The settings can't be used. Shown, it is a text of a line for each problem and, unless all of them
/// are with this machine, a closing line that tells where to read on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What is wrong: at least one.
    pub problems: Vec<Problem>,
}

impl Failure {
    /// The code that the program ends with: 2, or 1 if all that is wrong is what can be seen only when
    /// it starts.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        if self.problems.iter().all(|problem| problem.at_start) {
            1
        } else {
            2
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, problem) in self.problems.iter().enumerate() {
            let line_break = if at > 0 { "\n" } else { "" };
            write!(f, "{line_break}landfall: {problem}")?;
        }
        match self.exit_code() {
            1 => Ok(()),
            _ => write!(f, "\nRun `landfall -h` for all settings."),
        }
    }
}

impl std::error::Error for Failure {}

/// The known name nearest to one that isn't, if it is near enough to have been meant.
pub(super) fn nearest(name: &str) -> Option<&'static str> {
    let known = table::settings()
        .map(|setting| setting.name)
        .chain(
            instructions::INSTRUCTIONS
                .iter()
                .map(|known| known.names[0]),
        )
        .chain(later::all().map(|later| later.name));
    let (distance, nearest) = known
        .map(|known| (strsim::osa_distance(name, known), known))
        .min_by_key(|(distance, _)| *distance)?;
    // About one slip in four letters, so that short names don't match everything.
    (distance <= 1 + nearest.len() / 6 && distance < nearest.len().min(name.len()))
        .then_some(nearest)
}
