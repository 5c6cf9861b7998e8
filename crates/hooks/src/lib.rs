//! Hooks for Landfall: an application allows, changes, observes and stops uploads.
//!
//! A [`Message`] is a question or an event; a [`Transport`] brings it to the application and returns
//! its [`Reaction`]. [`Asker`] makes a transport a [`Hook`](landfall::hook::Hook) of a handler, for
//! what is asked before the effect.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod ask;
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
pub mod progress;
pub mod reaction;
pub mod transport;
#[cfg(feature = "wasm")]
pub mod wasm;

pub use self::{
    ask::{Asker, WhenDown},
    message::{HookName, HookNames, Message},
    reaction::{Changes, Reaction},
    transport::{Failure, Transport},
};
