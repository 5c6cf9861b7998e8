use landfall_messages::HookName;

use super::SettingsError;

/// `{event}` is the message's name.
#[derive(Debug, Clone)]
pub(super) struct Template(String);

impl Template {
    pub(super) fn new(what: &str, text: &str) -> Result<Self, SettingsError> {
        if text.replace("{event}", "").contains(['{', '}']) {
            let text = format!("{what} {text:?}: the only placeholder is {{event}}");
            return Err(SettingsError(text));
        }
        Ok(Self(text.to_owned()))
    }

    pub(super) fn render(&self, hook: HookName) -> String {
        self.0.replace("{event}", hook.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renders_and_validates_templates() {
        let template = Template::new("subject", "a.{event}.b").unwrap();
        assert_eq!(template.render(HookName::PostFinish), "a.post-finish.b");
        let plain = Template::new("subject", "uploads").unwrap();
        assert_eq!(plain.render(HookName::PostFinish), "uploads");
        for wrong in ["{id}", "{event", "a}", "{{event}}"] {
            let error = Template::new("subject", wrong).unwrap_err();
            assert!(error.to_string().contains("{event}"), "{error}");
        }
    }
}
