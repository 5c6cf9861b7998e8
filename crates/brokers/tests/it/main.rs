//! Events to brokers: to real ones, and to servers that fail.
#![allow(clippy::unwrap_used)]

#[cfg(feature = "amqp")]
mod amqp;
mod broker;
#[cfg(feature = "kafka")]
mod kafka;
#[cfg(feature = "nats")]
mod nats;
#[cfg(feature = "redis")]
mod redis;
#[path = "../../../hooks/tests/it/samples.rs"]
mod samples;
