//! Findings of checks, and their report.

use std::fmt;
use std::io::{self, Write as _};
use std::process::ExitCode;

use crate::Progress;

/// The effect of a finding on uploads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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

impl Severity {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Note => "note",
            Self::Warn => "warn",
            Self::Fail => "FAIL",
        }
    }
}

/// The result of a check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The name of the check.
    pub check: &'static str,
    /// The effect on uploads.
    pub severity: Severity,
    /// The finding.
    pub text: String,
    /// The advice to the operator.
    pub remedy: Option<String>,
    /// Rules that the operator can copy.
    pub rules: Option<serde_json::Value>,
}

impl Finding {
    /// Returns a finding.
    pub fn new(check: &'static str, severity: Severity, text: impl Into<String>) -> Self {
        Self {
            check,
            severity,
            text: text.into(),
            remedy: None,
            rules: None,
        }
    }

    /// Returns that a requirement is met.
    pub fn ok(check: &'static str, text: impl Into<String>) -> Self {
        Self::new(check, Severity::Ok, text)
    }

    /// Returns a property that needs no action.
    pub fn info(check: &'static str, text: impl Into<String>) -> Self {
        Self::new(check, Severity::Note, text)
    }

    /// Returns that uploads work, and another feature does not, or will fail soon.
    pub fn warn(check: &'static str, text: impl Into<String>) -> Self {
        Self::new(check, Severity::Warn, text)
    }

    /// Returns that uploads do not work.
    pub fn fail(check: &'static str, text: impl Into<String>) -> Self {
        Self::new(check, Severity::Fail, text)
    }

    /// Adds the advice to the operator.
    pub fn advise(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }

    fn to_json(&self) -> serde_json::Value {
        serde_json::json!({
            "check": self.check,
            "severity": self.severity.as_str().to_ascii_lowercase(),
            "text": self.text,
            "remedy": self.remedy,
            "rules": self.rules,
        })
    }
}

/// One line.
impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:4}  {:22} ", self.severity.as_str(), self.check)?;
        // Text from a service must not control the terminal.
        for c in self.text.chars() {
            write!(f, "{}", if c.is_control() { ' ' } else { c })?;
        }
        match &self.remedy {
            Some(remedy) => write!(f, "; {remedy}"),
            None => Ok(()),
        }
    }
}

/// The findings of a doctor, printed as they are added, or in the end as JSON.
#[derive(Debug)]
pub struct Report {
    findings: Vec<Finding>,
    is_json: bool,
    /// The progress of the checks, on the terminal.
    pub progress: Progress,
}

impl Report {
    /// Returns an empty report; `work` names the checks.
    pub fn new(work: &'static str, is_json: bool) -> Self {
        Self {
            findings: Vec::new(),
            is_json,
            progress: Progress::new(work),
        }
    }

    /// Returns the findings so far.
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// Adds a finding, and prints it.
    pub fn add(&mut self, finding: Finding) {
        if !self.is_json {
            self.progress.suspend(|| print(&finding));
        }
        self.findings.push(finding);
    }

    /// Prints the verdict; the exit code is 1 if a check failed. `report` is the JSON
    /// object to which the findings are added.
    pub fn finish(&self, mut report: serde_json::Value) -> ExitCode {
        let count = |severity| {
            let has_severity = |finding: &&Finding| finding.severity == severity;
            self.findings.iter().filter(has_severity).count()
        };
        let failed = count(Severity::Fail);
        let verdict = match (failed, count(Severity::Warn)) {
            (0, 0) => "no problems found".to_owned(),
            (0, warned) => format!("uploads will work; {warned} to check"),
            (failed, _) => format!("{failed} of {} checks failed", self.findings.len()),
        };
        if self.is_json {
            let findings: Vec<_> = self.findings.iter().map(Finding::to_json).collect();
            report["ok"] = (failed == 0).into();
            report["verdict"] = verdict.into();
            report["findings"] = findings.into();
            print(format_args!("{report:#}"));
        } else {
            print(verdict);
        }
        ExitCode::from(u8::from(failed > 0))
    }
}

/// A closed pipe, such as that of `head`, does not end the checks, which clean up after themselves.
fn print(line: impl fmt::Display) {
    let _ = writeln!(io::stdout(), "{line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_is_one_line() {
        let finding = Finding::new("put object", Severity::Fail, "no\n\u{1b}[2J").advise("ask");
        assert_eq!(
            finding.to_string(),
            "FAIL  put object             no  [2J; ask"
        );
    }
}
