//! URLs that may contain a password.

use std::fmt;

/// A URL, or a list of them, that may contain a password; its `Debug` output does not show it.
#[derive(Clone)]
pub struct SecretUrl(String);

impl SecretUrl {
    /// Returns the URL.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the URL without user, password and query. The URL may be invalid.
    #[must_use]
    pub fn redacted(&self) -> String {
        let (scheme, rest) = match self.0.split_once("://") {
            Some((scheme, rest)) => (format!("{scheme}://"), rest),
            None => (String::new(), &*self.0),
        };
        let (user, host) = rest.rsplit_once('@').unwrap_or(("", rest));
        if user.contains(['/', '?', '#']) {
            // It is unclear where the password ends.
            return scheme + "…";
        }
        scheme + host.split(['?', '#']).next().unwrap_or_default()
    }
}

impl<T: Into<String>> From<T> for SecretUrl {
    fn from(url: T) -> Self {
        Self(url.into())
    }
}

impl fmt::Debug for SecretUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretUrl")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_redacted() {
        for (url, shown) in [
            ("redis://:secret@host:1/2", "redis://host:1/2"),
            ("redis://user:sec@ret@host", "redis://host"),
            ("redis+unix:///path?pass=secret", "redis+unix:///path"),
            ("user:secret@host:4222", "host:4222"),
            ("host", "host"),
            ("amqp://host/%2f", "amqp://host/%2f"),
            ("amqp://user:sec/ret@host", "amqp://…"),
            ("amqp://user:sec?ret@host/x", "amqp://…"),
            ("redis://host?pass=sec@ret", "redis://…"),
        ] {
            assert_eq!(SecretUrl::from(url).redacted(), shown);
        }
    }
}
