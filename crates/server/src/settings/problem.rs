//! Reports of invalid settings, with tusd's exit codes: 1 for what only a start finds, otherwise 2.
//!
//! A problem is one line without control characters, even if it quotes a value.

use std::fmt;

use super::{sections, unsupported, value};

/// A problem with a setting, in one sentence that names its flag, variable or line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    sentence: String,
    at_start: bool,
}

impl Problem {
    pub(super) fn new(place: impl fmt::Display, reason: impl fmt::Display) -> Self {
        Self::whole(format!("{place}: {reason}"))
    }

    /// Control characters are escaped, so that a value that is quoted cannot add lines or control a terminal.
    pub(super) fn whole(sentence: impl Into<String>) -> Self {
        let sentence: String = sentence.into();
        let mut escaped = String::with_capacity(sentence.len());
        for c in sentence.chars() {
            match c.is_control() {
                true => escaped.extend(c.escape_default()),
                false => escaped.push(c),
            }
        }
        Self {
            sentence: escaped,
            at_start: false,
        }
    }

    /// The exit code is then 1.
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

/// Invalid settings. Displayed as a line per problem and, unless all problems are with this machine, a
/// line that refers to the help.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The problems: at least one.
    pub problems: Vec<Problem>,
}

impl Failure {
    /// Returns the exit code: 1 if all problems are found only at start, otherwise 2.
    pub fn exit_code(&self) -> u8 {
        let at_start = self.problems.iter().all(|problem| problem.at_start);
        if at_start { 1 } else { 2 }
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
            _ => write!(f, "\nRun `landfall --help` for all flags."),
        }
    }
}

impl std::error::Error for Failure {}

/// The setting whose name is similar to `name`.
pub(super) fn nearest(name: &str) -> Option<&'static str> {
    let names = sections::settings().map(|setting| setting.name);
    let unsupported = unsupported::all().map(|flag| flag.name);
    value::nearest_of(name, names.chain(["config"]).chain(unsupported))
}
