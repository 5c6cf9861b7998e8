//! Hooks and events of Landfall: the messages to an application, and the transports that bring them.
//!
//! A [`Message`] has tusd's fields, an id and a sequence number, however it travels. A [`Transport`] brings
//! it to the application and returns a [`HookResponse`]; it does nothing else. Retries, ordering, counting and
//! logging are outside of it. [`command`] starts a process; `http` and `grpc`, which are cargo features, call a
//! server. None knows another. `landfall-brokers` has more.
//!
//! [`BlockingHooks`] implements [`Hook`](landfall::hook::Hook): it calls a transport directly, and a
//! call that fails denies the request or allows it, by [`FailureMode`]. [`ProgressNotifier`] sends
//! progress, best effort: newer progress replaces progress that waits. All other events go through
//! the outbox of `landfall-state`, which stores them and delivers them at least once. They carry a built-in list of request
//! headers, and to a transport those that it names ([`EventHeaders`]); blocking hooks carry all.
//!
//! [`mod@format`] serializes a message as the JSON that receivers written for tusd 1 or 2 expect, byte
//! for byte, or as a CloudEvent, and parses responses by the rules of Go's decoder.
//!
//! Responses come from outside: their size is limited, names in them are checked like those of
//! clients, and the target of a redirect is checked when it is connected to, after its name is
//! resolved. A transport retries a blocking hook only as long as the waiting client allows;
//! the outbox of `landfall-state` retries events.
//!
//! Start reading at `message/mod.rs`, `transport.rs` and `command/mod.rs`, the simplest transport.
#![cfg_attr(test, allow(clippy::unwrap_used))]

// Samples of the integration tests serve those in here, too.
#[cfg(test)]
extern crate self as landfall_hooks;

mod blocking;
pub mod command;
mod creations;
pub mod format;
#[cfg(feature = "grpc")]
pub mod grpc;
#[cfg(feature = "http")]
pub mod http;
mod message;
mod progress_notifier;
mod response;
mod response_json;
mod transport;

use std::fmt;

pub use self::{
    blocking::{BlockingHooks, FailureMode},
    creations::Creations,
    message::{
        EventHeaders, HookName, HookNames, JobData, Message, MessageId, RedactedHeaders,
        RequestData, TraceContext, UnknownName, UploadData, contains_secret, rfc3339,
    },
    progress_notifier::{ProgressNotifier, ProgressStats, Route},
    response::{HookResponse, InvalidUploadId, UploadChanges},
    response_json::{UnknownResponse, media_type, require_identity, response_json, without_mark},
    transport::{DeliveryError, Transport, error_chain},
};

/// An invalid setting of a transport.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SettingsError(pub String);

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
