//! An error of a bucket's service as the operator reads it: the problem, the service's response and a remedy.
//!
//! The module of a cloud decides what an error means. Responses are shown without control characters.

use std::fmt;

use landfall_console::Finding;
use landfall_objects::Error;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Diagnosis {
    pub(crate) problem: String,
    pub(crate) response: String,
    pub(crate) fix: String,
}

impl Diagnosis {
    /// Returns that a requirement is missing.
    pub(crate) fn failure(self, check: &'static str) -> Finding {
        let text = format!("{}: {}", self.problem, self.response);
        Finding::fail(check, text).advise(self.fix)
    }

    /// Returns that uploads work without this call, but not the feature that `missing` names.
    pub(crate) fn warning(self, check: &'static str, missing: &str) -> Finding {
        let text = format!("{missing}: {}: {}", self.problem, self.response);
        Finding::warn(check, text).advise(self.fix)
    }
}

impl fmt::Display for Diagnosis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} ({})", self.problem, self.fix, self.response)
    }
}

pub(crate) fn error_line(error: &Error) -> String {
    let text = error.to_string();
    if !text.contains(char::is_control) {
        return text;
    }
    let printable = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    printable.collect()
}
