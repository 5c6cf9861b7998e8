//! What was found, as a line and as JSON.

use std::fmt;

/// How good or bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mark {
    /// As it should be.
    Ok,
    /// Worth knowing; nothing to do.
    Note,
    /// Uploads work; something else doesn't, or won't for long.
    Warn,
    /// Uploads don't work.
    Fail,
}

impl Mark {
    /// The word for it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Note => "note",
            Self::Warn => "warn",
            Self::Fail => "FAIL",
        }
    }
}

/// One thing that was looked at. Shown, it is one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    /// What was looked at, in two or three words.
    pub check: &'static str,
    /// How it is.
    pub mark: Mark,
    /// What was found.
    pub text: String,
    /// What to do about it.
    pub remedy: Option<String>,
    /// The CORS rules to set, as AWS's tools take them.
    pub rules: Option<serde_json::Value>,
}

impl Finding {
    /// A finding that asks for nothing.
    pub(crate) fn new(check: &'static str, mark: Mark, text: impl Into<String>) -> Self {
        Self {
            check,
            mark,
            text: text.into(),
            remedy: None,
            rules: None,
        }
    }

    /// Adds what to do.
    pub(crate) fn advise(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }

    /// The same for programs.
    pub(crate) fn to_json(&self) -> serde_json::Value {
        serde_json::json!({
            "check": self.check,
            "mark": self.mark.as_str().to_ascii_lowercase(),
            "text": self.text,
            "remedy": self.remedy,
            "rules": self.rules,
        })
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:4}  {:22} ", self.mark.as_str(), self.check)?;
        // What a service says must not reach the terminal's controls.
        for c in self.text.chars() {
            write!(f, "{}", if c.is_control() { ' ' } else { c })?;
        }
        match &self.remedy {
            Some(remedy) => write!(f, "; {remedy}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_is_one_line() {
        let finding = Finding::new("put object", Mark::Fail, "no\n\u{1b}[2J").advise("ask");
        assert_eq!(
            finding.to_string(),
            "FAIL  put object             no  [2J; ask"
        );
    }
}
