//! Message brokers for events: NATS, AMQP 0-9-1 (RabbitMQ), Redis streams and Kafka.
//!
//! A message is a [CloudEvent](crate::format::cloud_event) in structured JSON
//! (`application/cloudevents+json`). A delivery succeeds when the broker has acknowledged it.
//! Delivery is at least once, and duplicates have the same id. Events of one upload stay in order
//! as long as each delivery starts after the previous acknowledgment, as in the outbox.
//!
//! Brokers may be down at startup. A connection is opened for the first delivery and again after it
//! broke. The delay between attempts grows with jitter up to [`MAX_BACKOFF`], and deliveries fail
//! meanwhile. Blocking hooks (`pre-…`) are rejected, since brokers do not respond.

use std::time::Duration;

#[cfg(feature = "amqp")]
pub mod amqp;
mod connection;
#[cfg(feature = "kafka")]
pub mod kafka;
#[cfg(feature = "nats")]
pub mod nats;
#[cfg(feature = "redis")]
pub mod redis;
#[cfg(any(feature = "amqp", feature = "nats"))]
mod template;

#[cfg(feature = "amqp")]
pub use self::amqp::{Amqp, AmqpSettings};
#[cfg(feature = "kafka")]
pub use self::kafka::{Kafka, KafkaSettings};
#[cfg(feature = "nats")]
pub use self::nats::{Nats, NatsSettings};
#[cfg(feature = "redis")]
pub use self::redis::{RedisStream, RedisStreamSettings};

/// Default timeout of a delivery, including the connection.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(15);

/// Maximum delay between two connection attempts.
pub const MAX_BACKOFF: Duration = Duration::from_secs(5);

/// Default `source` of CloudEvents.
pub const DEFAULT_SOURCE: &str = "/landfall";

#[cfg(any(feature = "amqp", feature = "kafka", feature = "nats"))]
const CONTENT_TYPE: &str = "application/cloudevents+json";

/// An invalid setting.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SettingsError(String);

/// Returns a URL without user, password and query. The URL may be invalid.
#[cfg(any(feature = "amqp", feature = "nats", feature = "redis"))]
fn redacted_url(url: &str) -> String {
    let (scheme, rest) = match url.split_once("://") {
        Some((scheme, rest)) => (format!("{scheme}://"), rest),
        None => (String::new(), url),
    };
    let (user, host) = rest.rsplit_once('@').unwrap_or(("", rest));
    if user.contains(['/', '?', '#']) {
        // It is unclear where the password ends.
        return scheme + "…";
    }
    scheme + host.split(['?', '#']).next().unwrap_or_default()
}

#[cfg(all(test, any(feature = "amqp", feature = "nats", feature = "redis")))]
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
            assert_eq!(redacted_url(url), shown);
        }
    }
}
