//! Subjects and routing keys with a place for the message's name.

use super::SettingsError;
use crate::HookName;

/// A subject or a routing key in which `{event}` stands for the message's name.
#[derive(Debug, Clone)]
pub(super) struct Template(String);

impl Template {
    pub(super) fn new(what: &str, text: &str) -> Result<Self, SettingsError> {
        if text.replace("{event}", "").contains(['{', '}']) {
            let text = format!("{what} {text:?} may have {{event}} in braces and nothing else");
            return Err(SettingsError(text));
        }
        Ok(Self(text.to_owned()))
    }

    pub(super) fn fill(&self, hook: HookName) -> String {
        self.0.replace("{event}", hook.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates() {
        let template = Template::new("subject", "a.{event}.b").unwrap();
        assert_eq!(template.fill(HookName::PostFinish), "a.post-finish.b");
        let plain = Template::new("subject", "uploads").unwrap();
        assert_eq!(plain.fill(HookName::PostFinish), "uploads");
        for wrong in ["{id}", "{event", "a}", "{{event}}"] {
            let error = Template::new("subject", wrong).unwrap_err();
            assert!(error.to_string().contains("{event}"), "{error}");
        }
    }
}
