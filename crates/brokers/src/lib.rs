//! Message brokers for events: NATS, AMQP 0-9-1 (RabbitMQ), Redis streams and Kafka.
//!
//! A message is a [CloudEvent](landfall_hooks::format::cloud_event) in structured JSON
//! (`application/cloudevents+json`). A delivery succeeds when the broker has acknowledged it.
//! Delivery is at least once, and duplicates have the same id. Events of one upload stay in order
//! as long as each delivery starts after the previous acknowledgment, as in the outbox.
//!
//! Settings are validated at startup, when brokers may be down. A connection is opened for the first
//! delivery and again after it broke. The delay between attempts grows with jitter up to
//! [`MAX_BACKOFF`]; deliveries fail meanwhile. Blocking hooks (`pre-…`) are rejected: brokers do not respond.
//!
//! Each broker is a cargo feature.
#![cfg_attr(test, allow(clippy::unwrap_used))]

#[cfg(feature = "amqp")]
pub mod amqp;
mod connection;
#[cfg(feature = "kafka")]
pub mod kafka;
#[cfg(feature = "nats")]
pub mod nats;
#[cfg(feature = "redis")]
pub mod redis;
#[cfg(any(test, feature = "amqp", feature = "nats"))]
mod template;

use std::time::Duration;

#[cfg(feature = "amqp")]
pub use self::amqp::AmqpSettings;
#[cfg(feature = "kafka")]
pub use self::kafka::KafkaSettings;
#[cfg(feature = "nats")]
pub use self::nats::NatsSettings;
#[cfg(feature = "redis")]
pub use self::redis::RedisStreamSettings;

/// Default timeout of a delivery, including the connection.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(15);

/// Maximum delay between two connection attempts.
pub const MAX_BACKOFF: Duration = Duration::from_secs(5);

/// Default `source` of CloudEvents.
pub const DEFAULT_SOURCE: &str = "/landfall";

#[cfg(any(feature = "amqp", feature = "kafka", feature = "nats"))]
const CONTENT_TYPE: &str = "application/cloudevents+json";
