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
//! the outbox of `landfall-state` retries events.
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
