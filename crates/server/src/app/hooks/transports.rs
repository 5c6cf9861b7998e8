//! Creates the transports of hooks from settings, each with its event names and its line in the startup log.
//!
//! Connects to nothing, so that checks of settings and reloads can create transports. Does not decide which events a
//! transport receives: `settings::Hooks::transports` does.

use anyhow::Context as _;
use landfall_brokers::DEFAULT_SOURCE;
use landfall_hooks::command::{Command, CommandSettings};
use landfall_hooks::format::Format;
use landfall_hooks::{EventHeaders, Transport};

use super::{HookRoute, InstrumentedTransport};
use crate::settings::{BrokerKind, BrokerUrl, Hooks, Settings};

/// The transports of tusd, which sends all headers.
const ALL_HEADERS: [&str; 3] = ["hooks-dir", "hooks-http", "hooks-grpc"];

pub(in crate::app) fn hook_routes(settings: &Settings) -> anyhow::Result<Vec<HookRoute>> {
    let hooks = &settings.hooks;
    let mut routes = Vec::new();
    if let Some(dir) = &hooks.command.dir {
        let shown = std::path::absolute(dir).unwrap_or_else(|_| dir.clone());
        let line = format!("Using '{}' for hooks", shown.display());
        routes.push(route(hooks, "hooks-dir", command(hooks, dir), line)?);
    }
    if let Some(url) = &hooks.http.url {
        let line = format!("Using '{}' as the endpoint for hooks", url.redacted_url());
        routes.push(route(hooks, "hooks-http", http(settings, url), line)?);
    }
    if let Some(target) = &hooks.grpc.target {
        let line = format!("Using '{target}' as the endpoint for gRPC hooks");
        routes.push(route(hooks, "hooks-grpc", grpc(hooks, target), line)?);
    }
    if let Some(url) = &hooks.broker.url {
        routes.push(broker(settings, url)?);
    }
    Ok(routes)
}

fn route<T: Transport>(
    hooks: &Hooks,
    setting: &str,
    transport: Result<T, impl Into<anyhow::Error>>,
    line: String,
) -> anyhow::Result<HookRoute> {
    let transport = transport.map_err(Into::into);
    let transport = transport.with_context(|| format!("--{setting}"))?;
    let mut known = hooks.transports().into_iter();
    let known = known.find(|one| one.setting == setting);
    let known = known.with_context(|| format!("unknown transport {setting}"))?;
    let has_all = hooks.all_event_headers && ALL_HEADERS.contains(&setting);
    let headers = if has_all {
        EventHeaders::all()
    } else {
        transport.event_headers()
    };
    Ok(HookRoute {
        transport: InstrumentedTransport::new(transport, headers).into(),
        names: known.names,
        own_events: known.events.is_some(),
        line,
    })
}

/// The default destination is that of the transport's settings.
fn broker(settings: &Settings, broker: &BrokerUrl) -> anyhow::Result<HookRoute> {
    let (hooks, url) = (&settings.hooks, &broker.address);
    // The `source` attribute of CloudEvents.
    let source = settings.urls.public_url().unwrap_or(DEFAULT_SOURCE);
    let set = |field: &mut String| {
        if let Some(destination) = &broker.destination {
            field.clone_from(destination);
        }
    };
    let line = |kind| format!("Using '{}' as the {kind} for events", url.redacted_url());
    match broker.kind {
        #[cfg(feature = "full")]
        BrokerKind::Nats => {
            let mut nats = landfall_brokers::NatsSettings::new(url.reveal());
            set(&mut nats.subject);
            nats.jetstream = broker.jetstream;
            source.clone_into(&mut nats.source);
            let nats = landfall_brokers::nats::transport(nats);
            route(hooks, "hooks-broker", nats, line("NATS server"))
        }
        #[cfg(feature = "full")]
        BrokerKind::Amqp => {
            let mut amqp = landfall_brokers::AmqpSettings::new(url.reveal());
            amqp.exchange.clone_from(&broker.exchange);
            set(&mut amqp.routing_key);
            source.clone_into(&mut amqp.source);
            let amqp = landfall_brokers::amqp::transport(amqp);
            route(hooks, "hooks-broker", amqp, line("AMQP broker"))
        }
        BrokerKind::Redis => {
            let mut redis = landfall_brokers::RedisStreamSettings::new(url.reveal());
            set(&mut redis.stream);
            redis.max_length = broker.max_length.unwrap_or(redis.max_length);
            source.clone_into(&mut redis.source);
            let redis = landfall_brokers::redis::transport(redis);
            route(hooks, "hooks-broker", redis, line("Redis server"))
        }
        #[cfg(feature = "full")]
        BrokerKind::Kafka => {
            let addresses = url.reveal().trim_start_matches("kafka://");
            let mut kafka = landfall_brokers::KafkaSettings::new(addresses);
            set(&mut kafka.topic);
            source.clone_into(&mut kafka.source);
            let kafka = landfall_brokers::kafka::transport(kafka);
            route(hooks, "hooks-broker", kafka, line("Kafka brokers"))
        }
        #[cfg(not(feature = "full"))]
        _ => unreachable!("such settings are rejected by a build without this broker"),
    }
}

fn command(hooks: &Hooks, dir: &std::path::Path) -> anyhow::Result<Command> {
    let mut settings = CommandSettings::new(dir);
    settings.format = match hooks.format {
        Format::Auto => Format::V2,
        format => format,
    };
    settings.timeout = hooks.command.timeout;
    settings.max_processes = hooks.max_concurrency.div_ceil(2);
    settings.stop_code = hooks.stop_code.map(i32::from);
    Ok(Command::new(settings)?)
}

fn http(
    all: &Settings,
    url: &crate::settings::Secret,
) -> anyhow::Result<landfall_hooks::http::Http> {
    use landfall_hooks::http::{Http, HttpSettings, Secret};

    let hooks = &all.hooks;
    let hooks_http = &hooks.http;
    let mut settings = HttpSettings::new(url.reveal());
    settings.format = hooks.format;
    settings.forward_headers = hooks_http.forward_headers.clone();
    settings.attempts = hooks_http.attempts;
    settings.backoff = hooks_http.backoff;
    settings.timeout = hooks_http.timeout;
    settings.size_limit = hooks_http.size_limit;
    settings.skip_verify = hooks_http.skip_verify;
    let secrets = hooks_http.secrets.iter();
    let secrets = secrets.map(|secret| secret.reveal().parse::<Secret>());
    let secrets = secrets.collect::<Result<_, _>>();
    settings.secrets = secrets.context("--hooks-http-secret")?;
    settings.follow_redirects = hooks_http.redirects.is_some();
    settings.redirect_allow = hooks_http.redirects.clone().unwrap_or_default();
    settings.max_concurrency = hooks.max_concurrency;
    settings.stop_code = hooks.stop_code;
    settings.keeps_uploads = all.protocol.compat_tusd;
    Ok(Http::new(settings)?)
}

fn grpc(hooks: &Hooks, target: &str) -> anyhow::Result<landfall_hooks::grpc::Grpc> {
    use landfall_hooks::grpc::{Grpc, GrpcSettings};

    let hooks_grpc = &hooks.grpc;
    let mut settings = GrpcSettings::new(target);
    settings.attempts = hooks_grpc.attempts;
    settings.backoff = hooks_grpc.backoff;
    settings.timeout = hooks_grpc.timeout;
    settings.secure = hooks_grpc.secure;
    settings.server_ca = hooks_grpc.server_certificate.clone();
    settings.client_certificate = hooks_grpc.client_certificate.clone();
    settings.client_key = hooks_grpc.client_key.clone();
    settings.forward_headers = hooks_grpc.forward_headers.clone();
    settings.max_concurrency = hooks.max_concurrency;
    Ok(Grpc::new(settings)?)
}
