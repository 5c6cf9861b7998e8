//! Hook transports for Landfall: they bring messages to an application.
//!
//! Each module implements [`Transport`](landfall_messages::Transport): [`command`] starts a process,
//! `http` and `grpc` call a server, `wasm` runs a plugin, and `broker` publishes events to NATS, AMQP,
//! Redis or Kafka. All but the first are cargo features, and none knows another.
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
mod secret_url;
#[cfg(any(feature = "grpc", feature = "http"))]
#[cfg_attr(
    not(all(feature = "grpc", feature = "http")),
    allow(dead_code, reason = "each of the two creates it in one way")
)]
mod verifier;
#[cfg(feature = "wasm")]
pub mod wasm;

pub use self::secret_url::SecretUrl;
