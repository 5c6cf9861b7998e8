use std::{fmt, process::ExitCode};

use crate::progress::Progress;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Severity {
    Ok,
    Note,
    /// Uploads work; another feature does not, or will fail soon.
    Warn,
    /// Uploads do not work.
    Fail,
}

impl Severity {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Note => "note",
            Self::Warn => "warn",
            Self::Fail => "FAIL",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    pub check: &'static str,
    pub severity: Severity,
    pub text: String,
    pub remedy: Option<String>,
    pub rules: Option<serde_json::Value>,
}

impl Finding {
    pub(crate) fn new(check: &'static str, severity: Severity, text: impl Into<String>) -> Self {
        Self {
            check,
            severity,
            text: text.into(),
            remedy: None,
            rules: None,
        }
    }

    pub(crate) fn ok(check: &'static str, text: impl Into<String>) -> Self {
        Self::new(check, Severity::Ok, text)
    }

    pub(crate) fn info(check: &'static str, text: impl Into<String>) -> Self {
        Self::new(check, Severity::Note, text)
    }

    pub(crate) fn warn(check: &'static str, text: impl Into<String>) -> Self {
        Self::new(check, Severity::Warn, text)
    }

    pub(crate) fn fail(check: &'static str, text: impl Into<String>) -> Self {
        Self::new(check, Severity::Fail, text)
    }

    pub(crate) fn advise(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }

    pub(crate) fn to_json(&self) -> serde_json::Value {
        serde_json::json!({
            "check": self.check,
            "severity": self.severity.as_str().to_ascii_lowercase(),
            "text": self.text,
            "remedy": self.remedy,
            "rules": self.rules,
        })
    }
}

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

/// The findings of a `landfall doctor` command, printed as they are added, or in the end as JSON.
pub(crate) struct Report {
    findings: Vec<Finding>,
    is_json: bool,
    pub(crate) progress: Progress,
}

impl Report {
    pub(crate) fn new(work: &'static str, is_json: bool) -> Self {
        Self {
            findings: Vec::new(),
            is_json,
            progress: Progress::new(work),
        }
    }

    pub(crate) fn findings(&self) -> &[Finding] {
        &self.findings
    }

    pub(crate) fn add(&mut self, finding: Finding) {
        if !self.is_json {
            self.progress.suspend(|| println!("{finding}"));
        }
        self.findings.push(finding);
    }

    /// Prints the verdict; the exit code is 1 if a check failed. `report` is the JSON
    /// object to which the findings are added.
    pub(crate) fn finish(&self, mut report: serde_json::Value) -> ExitCode {
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
            println!("{report:#}");
        } else {
            println!("{verdict}");
        }
        ExitCode::from(u8::from(failed > 0))
    }
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
