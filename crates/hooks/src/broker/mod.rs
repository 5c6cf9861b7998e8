//! Message brokers, for what is told: NATS, AMQP 0-9-1 (RabbitMQ), Redis streams and Kafka.
//!
//! A message is a [CloudEvent](crate::format::cloud_event) in structured JSON
//! (`application/cloudevents+json`). A delivery is done when the broker has acknowledged it; whether
//! consumers have it is between them and the broker. A message can come twice, with the same id, and
//! messages about one upload come in order as long as the next one is delivered after the one before
//! was acknowledged, as the outbox does.
//!
//! No broker needs to be there at the start. A connection is made when there is something to deliver,
//! and made anew after it broke; after each failure the next attempt waits longer, with jitter, up to
//! [`LONGEST_WAIT`], and deliveries meanwhile fail at once. Questions (`pre-…`) are refused: a broker
//! does not answer.

use std::time::Duration;

#[cfg(feature = "amqp")]
pub mod amqp;
#[cfg(feature = "kafka")]
pub mod kafka;
mod link;
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

/// How long a delivery may take, connecting included, unless the settings say otherwise.
pub const TIMEOUT: Duration = Duration::from_secs(15);

/// The longest wait between two attempts to connect.
pub const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// Where messages come from (`source` of a CloudEvent), unless the settings say otherwise.
pub const SOURCE: &str = "/landfall";

#[cfg(any(feature = "amqp", feature = "kafka", feature = "nats"))]
const CONTENT_TYPE: &str = "application/cloudevents+json";

/// Settings that can't work.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SettingsError(String);

/// A URL that may be shown: without user, password and query. It may be one that can't be read.
#[cfg(any(feature = "amqp", feature = "nats", feature = "redis"))]
fn public(url: &str) -> String {
    let (scheme, rest) = match url.split_once("://") {
        Some((scheme, rest)) => (format!("{scheme}://"), rest),
        None => (String::new(), url),
    };
    let (user, host) = rest.rsplit_once('@').unwrap_or(("", rest));
    if user.contains(['/', '?', '#']) {
        // Where a password ends is anybody's guess.
        return scheme + "…";
    }
    scheme + host.split(['?', '#']).next().unwrap_or_default()
}

#[cfg(all(test, any(feature = "amqp", feature = "nats", feature = "redis")))]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_not_shown() {
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
            assert_eq!(public(url), shown);
        }
    }
}
