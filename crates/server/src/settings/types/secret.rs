//! Wraps settings that are passwords or keys, or URLs with them, so that they are not logged by mistake.
//!
//! Has no `Display` and is not serialized: a caller writes `reveal` or `redacted_url`.

use std::fmt;

use landfall_net::redacted_url;

/// A text that may contain a password; its `Debug` omits it.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Returns the text.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Returns the text as a URL without secrets, see [`redacted_url`].
    pub fn redacted_url(&self) -> String {
        redacted_url(&self.0)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_of_a_secret_omits_it() {
        let debug = format!("{:?}", Secret::new("http://u:p@h"));
        assert_eq!(debug, "Secret(…)");
    }
}
