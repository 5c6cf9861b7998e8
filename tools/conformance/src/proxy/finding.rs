//! Findings about proxies, and their report.

use std::fmt;

use serde::Serialize;

/// The effect of a finding on uploads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// A requirement is met.
    Ok,
    /// A property that needs no action.
    Note,
    /// Uploads work; another feature does not, or will fail soon.
    Warn,
    /// Uploads do not work.
    Fail,
}

/// The result of a check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The name of the check.
    pub check: &'static str,
    /// The effect on uploads.
    pub severity: Severity,
    /// The finding.
    pub text: String,
    /// The advice to the operator.
    pub remedy: Option<String>,
}

impl Finding {
    fn new(check: &'static str, severity: Severity, text: impl Into<String>) -> Self {
        Self {
            check,
            severity,
            text: text.into(),
            remedy: None,
        }
    }

    pub(super) fn ok(check: &'static str, text: impl Into<String>) -> Self {
        Self::new(check, Severity::Ok, text)
    }

    pub(super) fn info(check: &'static str, text: impl Into<String>) -> Self {
        Self::new(check, Severity::Note, text)
    }

    pub(super) fn warn(check: &'static str, text: impl Into<String>) -> Self {
        Self::new(check, Severity::Warn, text)
    }

    pub(super) fn fail(check: &'static str, text: impl Into<String>) -> Self {
        Self::new(check, Severity::Fail, text)
    }

    pub(super) fn advise(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }
}

/// One line.
impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Ok => "ok",
            Severity::Note => "note",
            Severity::Warn => "warn",
            Severity::Fail => "FAIL",
        };
        write!(f, "{severity:4}  {:22} ", self.check)?;
        // Text from a server must not control the terminal.
        for c in self.text.chars() {
            write!(f, "{}", if c.is_control() { ' ' } else { c })?;
        }
        match &self.remedy {
            Some(remedy) => write!(f, "; {remedy}"),
            None => Ok(()),
        }
    }
}

/// The findings in their order.
#[derive(Clone, Debug, Default)]
pub struct Report {
    findings: Vec<Finding>,
}

impl Report {
    pub(super) fn add(&mut self, finding: Finding, observe: &mut dyn FnMut(&Finding)) {
        observe(&finding);
        self.findings.push(finding);
    }

    fn count(&self, severity: Severity) -> usize {
        let findings = self.findings.iter();
        findings.filter(|one| one.severity == severity).count()
    }

    /// Returns whether uploads work.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        self.count(Severity::Fail) == 0
    }

    /// Returns the verdict for people.
    #[must_use]
    pub fn verdict(&self) -> String {
        match (self.count(Severity::Fail), self.count(Severity::Warn)) {
            (0, 0) => "no problems found".to_owned(),
            (0, warned) => format!("uploads will work; {warned} to check"),
            (failed, _) => format!("{failed} of {} checks failed", self.findings.len()),
        }
    }

    /// Returns the report of the checks of a URL as JSON.
    #[must_use]
    pub fn json(&self, url: &str) -> String {
        let report = serde_json::json!({
            "url": url,
            "ok": self.is_ok(),
            "verdict": self.verdict(),
            "findings": self.findings,
        });
        format!("{report:#}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_is_one_line() {
        let finding = Finding::fail("put object", "no\n\u{1b}[2J").advise("ask");
        let line = "FAIL  put object             no  [2J; ask";
        assert_eq!(finding.to_string(), line);
    }
}
