//! Integration tests of the crate's public API.
#![allow(clippy::unwrap_used)]

#[cfg(feature = "amqp")]
mod amqp;
#[cfg(any(
    feature = "amqp",
    feature = "kafka",
    feature = "nats",
    feature = "redis"
))]
mod broker;
mod command;
mod docs;
#[cfg(feature = "grpc")]
mod grpc;
#[cfg(feature = "http")]
mod http;
#[cfg(feature = "kafka")]
mod kafka;
#[cfg(feature = "nats")]
mod nats;
#[cfg(feature = "redis")]
mod redis;
mod samples;
