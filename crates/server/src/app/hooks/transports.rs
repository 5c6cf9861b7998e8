use anyhow::Context as _;
#[cfg(any(
    feature = "nats",
    feature = "amqp",
    feature = "redis",
    feature = "kafka"
))]
use landfall_brokers::DEFAULT_SOURCE;
use landfall_hooks::command::{Command, CommandSettings};
use landfall_hooks::{EventHeaders, Transport};

use super::{HookRoute, InstrumentedTransport};
use crate::settings::{Hooks, Settings};

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
    #[cfg(feature = "hooks-http")]
    if let Some(url) = &hooks.http.url {
        let line = format!("Using '{}' as the endpoint for hooks", url.redacted_url());
        routes.push(route(hooks, "hooks-http", http(settings, url), line)?);
    }
    #[cfg(feature = "hooks-grpc")]
    if let Some(target) = &hooks.grpc.target {
        let line = format!("Using '{target}' as the endpoint for gRPC hooks");
        routes.push(route(hooks, "hooks-grpc", grpc(hooks, target), line)?);
    }
    // The `source` attribute of CloudEvents.
    #[cfg(any(
        feature = "nats",
        feature = "amqp",
        feature = "redis",
        feature = "kafka"
    ))]
    let source = settings
        .urls
        .public_url
        .as_deref()
        .unwrap_or(DEFAULT_SOURCE);
    #[cfg(feature = "nats")]
    if let Some(url) = &hooks.brokers.nats.url {
        let mut nats = landfall_brokers::NatsSettings::new(url.reveal());
        nats.subject.clone_from(&hooks.brokers.nats.subject);
        nats.jetstream = hooks.brokers.nats.jetstream;
        source.clone_into(&mut nats.source);
        let line = broker_line(&url.redacted_url(), "NATS server");
        let nats = landfall_brokers::nats::transport(nats);
        routes.push(route(hooks, "hooks-nats", nats, line)?);
    }
    #[cfg(feature = "amqp")]
    if let Some(url) = &hooks.brokers.amqp.url {
        let mut amqp = landfall_brokers::AmqpSettings::new(url.reveal());
        amqp.exchange.clone_from(&hooks.brokers.amqp.exchange);
        amqp.routing_key.clone_from(&hooks.brokers.amqp.routing_key);
        source.clone_into(&mut amqp.source);
        let line = broker_line(&url.redacted_url(), "AMQP broker");
        let amqp = landfall_brokers::amqp::transport(amqp);
        routes.push(route(hooks, "hooks-amqp", amqp, line)?);
    }
    #[cfg(feature = "redis")]
    if let Some(url) = &hooks.brokers.redis.url {
        let mut redis = landfall_brokers::RedisStreamSettings::new(url.reveal());
        redis.stream.clone_from(&hooks.brokers.redis.stream);
        redis.max_length = hooks.brokers.redis.max_length;
        source.clone_into(&mut redis.source);
        let line = broker_line(&url.redacted_url(), "Redis server");
        let redis = landfall_brokers::redis::transport(redis);
        routes.push(route(hooks, "hooks-redis", redis, line)?);
    }
    #[cfg(feature = "kafka")]
    if !hooks.brokers.kafka.brokers.is_empty() {
        let addresses = hooks.brokers.kafka.brokers.join(",");
        let mut kafka = landfall_brokers::KafkaSettings::new(&*addresses);
        kafka.topic.clone_from(&hooks.brokers.kafka.topic);
        source.clone_into(&mut kafka.source);
        let line = broker_line(&addresses, "Kafka brokers");
        let kafka = landfall_brokers::kafka::transport(kafka);
        routes.push(route(hooks, "hooks-kafka", kafka, line)?);
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
    let transport = transport.with_context(|| format!("-{setting}"))?;
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

#[cfg(any(
    feature = "nats",
    feature = "amqp",
    feature = "redis",
    feature = "kafka"
))]
fn broker_line(address: &str, kind: &str) -> String {
    format!("Using '{address}' as the {kind} for events")
}

fn command(hooks: &Hooks, dir: &std::path::Path) -> anyhow::Result<Command> {
    let mut settings = CommandSettings::new(dir);
    settings.format = hooks.command.format;
    settings.timeout = hooks.command.timeout;
    settings.max_processes = hooks.command.max_processes;
    settings.stop_code = hooks.stop_code.map(i32::from);
    Ok(Command::new(settings)?)
}

#[cfg(feature = "hooks-http")]
fn http(
    all: &Settings,
    url: &crate::settings::Secret,
) -> anyhow::Result<landfall_hooks::http::Http> {
    use landfall_hooks::http::{Http, HttpSettings, Secret};

    let hooks = &all.hooks;
    let hooks_http = &hooks.http;
    let mut settings = HttpSettings::new(url.reveal());
    settings.format = hooks_http.format;
    settings.forward_headers = hooks_http.forward_headers.clone();
    settings.attempts = attempts(hooks_http.attempts);
    settings.backoff = hooks_http.backoff;
    settings.timeout = hooks_http.timeout;
    settings.size_limit = hooks_http.size_limit;
    settings.skip_verify = hooks_http.skip_verify;
    let secrets = hooks_http.secrets.iter();
    let secrets = secrets.map(|secret| secret.reveal().parse::<Secret>());
    let secrets = secrets.collect::<Result<_, _>>();
    settings.secrets = secrets.context("-hooks-http-secret")?;
    settings.follow_redirects = hooks_http.follow_redirects;
    settings.redirect_allow = hooks_http.redirect_allow.clone();
    settings.max_concurrency = hooks_http.max_concurrency;
    settings.stop_code = hooks.stop_code;
    settings.keeps_uploads = all.protocol.compat_tusd;
    Ok(Http::new(settings)?)
}

#[cfg(feature = "hooks-grpc")]
fn grpc(hooks: &Hooks, target: &str) -> anyhow::Result<landfall_hooks::grpc::Grpc> {
    use landfall_hooks::grpc::{Grpc, GrpcSettings};

    let hooks_grpc = &hooks.grpc;
    let mut settings = GrpcSettings::new(target);
    settings.attempts = attempts(hooks_grpc.attempts);
    settings.backoff = hooks_grpc.backoff;
    settings.timeout = hooks_grpc.timeout;
    settings.secure = hooks_grpc.secure;
    settings.server_ca = hooks_grpc.server_certificate.clone();
    settings.client_certificate = hooks_grpc.client_certificate.clone();
    settings.client_key = hooks_grpc.client_key.clone();
    settings.forward_headers = hooks_grpc.forward_headers.clone();
    Ok(Grpc::new(settings)?)
}

#[cfg(any(feature = "hooks-http", feature = "hooks-grpc"))]
fn attempts(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
