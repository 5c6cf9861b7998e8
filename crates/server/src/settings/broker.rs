//! The URL of a message broker, with the parameters in its query that say where events go.
//!
//! An error must not show the query: what follows a `?` may be the rest of a password.

use percent_encoding::percent_decode_str;

use super::hooks::{is_host, name, name_or_empty, url};
use super::types::{BrokerKind, BrokerUrl, Secret};
use super::value::{Parsed, boolean, count, is_plain, list, or_none, valid};

const SCHEMES: &[&str] = &[
    "nats", "tls", "ws", "wss", "amqp", "amqps", "redis", "rediss",
];

pub(super) fn broker(text: &str) -> Parsed<Option<BrokerUrl>> {
    or_none(text, |text| {
        let (address, query) = text.split_once('?').unwrap_or((text, ""));
        let kind = kind(address)?;
        let mut broker = BrokerUrl {
            address: Secret::new(address),
            kind,
            ..BrokerUrl::default()
        };
        let mut of_client = Vec::new();
        for parameter in query.split('&').filter(|item| !item.is_empty()) {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            let value = percent_decode_str(value).decode_utf8_lossy();
            let named = |error: String| format!("{name}: {error}");
            match (kind, name) {
                (BrokerKind::Nats, "subject")
                | (BrokerKind::Amqp, "routing_key")
                | (BrokerKind::Redis, "stream")
                | (BrokerKind::Kafka, "topic") => {
                    broker.destination = Some(destination(&value, kind).map_err(named)?);
                }
                (BrokerKind::Nats, "jetstream") => {
                    broker.jetstream = boolean(&value).map_err(named)?;
                }
                (BrokerKind::Amqp, "exchange") => {
                    broker.exchange = name_or_empty(&value).map_err(named)?;
                }
                (BrokerKind::Redis, "max_length") => {
                    broker.max_length = Some(count(&value).map_err(named)?);
                }
                // Those that the client of the broker reads.
                (BrokerKind::Redis, "protocol")
                | (BrokerKind::Amqp, "auth_mechanism" | "channel_max" | "connection_timeout")
                | (BrokerKind::Amqp, "frame_max" | "heartbeat") => of_client.push(parameter),
                _ => {
                    let reason = "has an unknown parameter in its query";
                    return Err(format!("{reason}; landfall help hooks-broker lists them"));
                }
            }
        }
        if !of_client.is_empty() {
            broker.address = Secret::new(format!("{address}?{}", of_client.join("&")));
        }
        Ok(broker)
    })
}

fn kind(address: &str) -> Parsed<BrokerKind> {
    if let Some(brokers) = address.strip_prefix("kafka://") {
        return check_kafka(brokers).map(|()| BrokerKind::Kafka);
    }
    url(address, SCHEMES, "nats://127.0.0.1:4222")?;
    Ok(match address.split(':').next() {
        Some("amqp" | "amqps") => BrokerKind::Amqp,
        Some("redis" | "rediss") => BrokerKind::Redis,
        _ => BrokerKind::Nats,
    })
}

fn check_kafka(brokers: &str) -> Parsed<()> {
    let is_broker = |item: &str| {
        item.rsplit_once(':').is_some_and(|(host, port)| {
            is_host(host.trim_start_matches('[').trim_end_matches(']'))
                && matches!(port.parse::<u16>(), Ok(1..))
        })
    };
    if brokers.is_empty() {
        let reason = "has no broker; write kafka://HOST:PORT, such as kafka://127.0.0.1:9092";
        return Err(reason.to_owned());
    }
    let expected = "a broker; write HOST:PORT, such as 127.0.0.1:9092";
    list(brokers).try_for_each(|item| valid(item, is_broker(item), expected).map(drop))
}

/// Returns a name that is valid at this kind of broker.
fn destination(text: &str, kind: BrokerKind) -> Parsed<String> {
    match kind {
        BrokerKind::Nats => nats_subject(text),
        BrokerKind::Kafka => kafka_topic(text),
        BrokerKind::Amqp | BrokerKind::Redis => name(text),
    }
}

fn nats_subject(text: &str) -> Parsed<String> {
    let odd = |c: char| matches!(c, '*' | '>') || c.is_whitespace();
    let mut tokens = text.split('.');
    if tokens.any(|token| token.is_empty() || token.contains(odd)) {
        return Err(format!(
            "{text:?} is not a subject; write tokens separated by dots, without * and >, such as \
             landfall.{{event}}"
        ));
    }
    name(text)
}

fn kafka_topic(text: &str) -> Parsed<String> {
    let is_topic = text.len() <= 249 && !matches!(text, "" | "." | "..") && is_plain(text, "-_.");
    let expected = "a topic; write at most 249 letters, digits, dots, dashes and underscores";
    valid(text, is_topic, expected)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> BrokerUrl {
        broker(text).unwrap().unwrap()
    }

    #[test]
    fn parameters_are_those_of_the_broker() {
        for (url, address, destination) in [
            (
                "nats://h?subject=uploads.{event}",
                "nats://h",
                "uploads.{event}",
            ),
            (
                "amqps://h/%2f?routing_key={event}",
                "amqps://h/%2f",
                "{event}",
            ),
            ("rediss://h:6379/1?stream=a%26b", "rediss://h:6379/1", "a&b"),
            (
                "kafka://a:1,b:2?topic=uploads",
                "kafka://a:1,b:2",
                "uploads",
            ),
        ] {
            let found = parsed(url);
            assert_eq!(found.address.reveal(), address);
            assert_eq!(found.destination.as_deref(), Some(destination), "{url}");
        }
        assert!(parsed("tls://h?jetstream=true").jetstream);
        assert!(!parsed("nats://h?subject=a").jetstream);
        assert_eq!(parsed("redis://h?max_length=7").max_length, Some(7));
        let found = parsed("amqp://h/%2f?heartbeat=5&exchange=uploads&frame_max=9");
        assert_eq!(found.exchange, "uploads");
        let address = "amqp://h/%2f?heartbeat=5&frame_max=9";
        assert_eq!(found.address.reveal(), address);
    }

    #[test]
    fn invalid_parameters_are_rejected() {
        for (url, reason) in [
            ("nats://h?subject=a..b", "subject: "),
            ("nats://h?subject=*", "subject: "),
            ("nats://h?subject=", "subject: "),
            ("nats://h?jetstream=maybe", "jetstream: "),
            ("nats://h?jetstraem=true", "has an unknown parameter"),
            ("amqp://h?jetstream=true", "has an unknown parameter"),
            ("amqp://h?routing_key=a%20b", "routing_key: "),
            ("amqp://h?exchange={what}", "exchange: "),
            ("redis://h?exchange=e", "has an unknown parameter"),
            ("redis://h?stream={what}", "stream: "),
            ("redis://h?max_length=0", "max_length: "),
            ("kafka://h:1?max_length=3", "has an unknown parameter"),
            ("kafka://h:1?topic=a/b", "topic: "),
            ("redis://:hunter2?hunter2@h", "has an unknown parameter"),
        ] {
            let error = broker(url).unwrap_err();
            assert!(error.starts_with(reason), "{url}: {error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
    }
}
