//! Hook transports for Landfall: they bring messages to an application.
//!
//! Each module implements [`Transport`](landfall_messages::Transport): [`command`] starts a process,
//! `http` and `grpc` call a server, and `broker` publishes events to NATS, AMQP, Redis or Kafka. All but the first are cargo features, and none knows another.
//!
//! [`mod@format`] serializes a message as the JSON that receivers written for tusd 1 or 2 expect, byte
//! for byte, or as a CloudEvent, and parses responses by the rules of Go's decoder.
//!
//! Responses come from outside: their size is limited, names in them are checked like those of
//! clients, and the target of a redirect is checked when it is connected to, after its name is
//! resolved. A transport retries a blocking hook only as long as the waiting client allows;
//! `landfall-outbox` retries events.
//!
//! Start reading at `command/mod.rs`, the simplest transport.
#![cfg_attr(test, allow(clippy::unwrap_used))]

#[cfg(any(
    feature = "amqp",
    feature = "kafka",
    feature = "nats",
    feature = "redis"
))]
pub mod broker;
pub mod command;
pub mod format;
#[cfg(feature = "grpc")]
pub mod grpc;
#[cfg(feature = "http")]
pub mod http;
#[cfg(any(feature = "grpc", feature = "http"))]
#[cfg_attr(
    not(all(feature = "grpc", feature = "http")),
    allow(dead_code, reason = "each of the two creates it in one way")
)]
mod verifier;

use std::fmt;

/// An invalid setting of a transport.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SettingsError(String);

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
mod secret_url_tests {
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
