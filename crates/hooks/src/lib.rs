//! Hooks for Landfall: an application allows, changes, observes and stops uploads.
//!
//! A [`Message`] is a blocking hook call or an event. A [`Transport`] brings it to the application
//! and returns a [`HookResponse`]. [`BlockingHooks`] implements [`Hook`](landfall::hook::Hook) over
//! a transport; the [outbox](outbox::Outbox) delivers events at least once.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod blocking;
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
pub mod message;
#[cfg(feature = "outbox")]
pub mod outbox;
mod progress_notifier;
pub mod response;
mod secret_url;
pub mod transport;
#[cfg(any(feature = "grpc", feature = "http"))]
#[cfg_attr(
    not(all(feature = "grpc", feature = "http")),
    allow(dead_code, reason = "each of the two creates it in one way")
)]
mod verifier;
#[cfg(feature = "wasm")]
pub mod wasm;

pub use self::{
    blocking::{BlockingHooks, FailureMode},
    message::{HookName, HookNames, Message},
    progress_notifier::{ProgressNotifier, ProgressStats, Route},
    response::{HookResponse, UploadChanges},
    secret_url::SecretUrl,
    transport::{DeliveryError, Transport},
};
