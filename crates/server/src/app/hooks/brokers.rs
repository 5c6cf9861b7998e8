use anyhow::Context as _;
use landfall_hooks::broker::DEFAULT_SOURCE;
#[cfg(feature = "amqp")]
use landfall_hooks::broker::{AmqpSettings, amqp};
#[cfg(feature = "kafka")]
use landfall_hooks::broker::{KafkaSettings, kafka};
#[cfg(feature = "nats")]
use landfall_hooks::broker::{NatsSettings, nats};
#[cfg(feature = "redis")]
use landfall_hooks::broker::{RedisStreamSettings, redis};
use landfall_messages::{HookName, HookNames, Transport};

use super::HookRoute;
use crate::settings::{Hooks, Settings};

pub(super) fn add(settings: &Settings, routes: &mut Vec<HookRoute>) -> anyhow::Result<()> {
    let hooks = &settings.hooks;
    let brokers = &hooks.brokers;
    // The `source` attribute of CloudEvents.
    let source = settings.urls.public_url.as_deref();
    let source = source.unwrap_or(DEFAULT_SOURCE);
    #[cfg(feature = "nats")]
    if let Some(url) = &brokers.nats.url {
        let mut options = NatsSettings::new(url.reveal());
        options.subject.clone_from(&brokers.nats.subject);
        options.jetstream = brokers.nats.jetstream;
        source.clone_into(&mut options.source);
        let nats = nats::transport(options).context("-hooks-nats")?;
        let name = (url.redacted_url(), "NATS server");
        routes.push(event_route(nats, hooks, brokers.nats.events, name));
    }
    #[cfg(feature = "amqp")]
    if let Some(url) = &brokers.amqp.url {
        let mut options = AmqpSettings::new(url.reveal());
        options.exchange.clone_from(&brokers.amqp.exchange);
        options.routing_key.clone_from(&brokers.amqp.routing_key);
        source.clone_into(&mut options.source);
        let amqp = amqp::transport(options).context("-hooks-amqp")?;
        let name = (url.redacted_url(), "AMQP broker");
        routes.push(event_route(amqp, hooks, brokers.amqp.events, name));
    }
    #[cfg(feature = "redis")]
    if let Some(url) = &brokers.redis.url {
        let mut options = RedisStreamSettings::new(url.reveal());
        options.stream.clone_from(&brokers.redis.stream);
        options.max_length = brokers.redis.max_length;
        source.clone_into(&mut options.source);
        let redis = redis::transport(options).context("-hooks-redis")?;
        let name = (url.redacted_url(), "Redis server");
        routes.push(event_route(redis, hooks, brokers.redis.events, name));
    }
    #[cfg(feature = "kafka")]
    if !brokers.kafka.brokers.is_empty() {
        let addresses = brokers.kafka.brokers.join(",");
        let mut options = KafkaSettings::new(addresses.as_str());
        options.topic.clone_from(&brokers.kafka.topic);
        source.clone_into(&mut options.source);
        let kafka = kafka::transport(options).context("-hooks-kafka")?;
        let name = (addresses, "Kafka brokers");
        routes.push(event_route(kafka, hooks, brokers.kafka.events, name));
    }
    Ok(())
}

fn event_route(
    transport: impl Transport,
    hooks: &Hooks,
    events: Option<HookNames>,
    (address, kind): (String, &str),
) -> HookRoute {
    let line = format!("Using '{address}' as the {kind} for events");
    let all = HookName::ALL.into_iter();
    let notifications: HookNames = all.filter(|name| !name.is_blocking()).collect();
    let mut route = HookRoute::new(transport, hooks, events, line);
    route.names = route.names.intersection(notifications);
    route
}
