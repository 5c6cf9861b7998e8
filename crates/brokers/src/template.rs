//! Names of subjects and routing keys.

use landfall_hooks::HookName;

use landfall_hooks::SettingsError;

/// The only placeholder is `{event}`.
pub(super) fn check_template(what: &str, text: &str) -> Result<(), SettingsError> {
    match text.replace("{event}", "").contains(['{', '}']) {
        true => Err(SettingsError(format!(
            "{what} {text:?}: the only placeholder is {{event}}"
        ))),
        false => Ok(()),
    }
}

/// `{event}` becomes the message's name.
pub(super) fn render(template: &str, hook: HookName) -> String {
    template.replace("{event}", hook.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renders_and_validates_templates() {
        for (template, rendered) in [("a.{event}.b", "a.post-finish.b"), ("uploads", "uploads")] {
            check_template("subject", template).unwrap();
            assert_eq!(render(template, HookName::PostFinish), rendered);
        }
        for wrong in ["{id}", "{event", "a}", "{{event}}"] {
            let error = check_template("subject", wrong).unwrap_err();
            assert!(error.to_string().contains("{event}"), "{error}");
        }
    }
}
