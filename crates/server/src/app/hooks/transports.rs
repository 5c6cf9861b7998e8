use anyhow::Context as _;
use landfall_hooks::command::{Command, CommandSettings};
#[cfg(feature = "hooks-wasm")]
use landfall_messages::HookNames;

use super::HookRoute;
use crate::settings::{Hooks, Settings};

pub(in crate::app) fn hook_routes(settings: &Settings) -> anyhow::Result<Vec<HookRoute>> {
    let hooks = &settings.hooks;
    let mut routes = Vec::new();
    if let Some(dir) = &hooks.command.dir {
        let shown = std::path::absolute(dir).unwrap_or_else(|_| dir.clone());
        let line = format!("Using '{}' for hooks", shown.display());
        let command = command(hooks, dir).context("-hooks-dir")?;
        routes.push(HookRoute::new(command, hooks, hooks.command.events, line));
    }
    #[cfg(feature = "hooks-http")]
    if let Some(url) = &hooks.http.url {
        let line = format!("Using '{}' as the endpoint for hooks", url.redacted_url());
        let http = http(hooks, url).context("-hooks-http")?;
        routes.push(HookRoute::new(http, hooks, hooks.http.events, line));
    }
    #[cfg(feature = "hooks-grpc")]
    if let Some(target) = &hooks.grpc.target {
        let line = format!("Using '{target}' as the endpoint for gRPC hooks");
        let grpc = grpc(hooks, target).context("-hooks-grpc")?;
        routes.push(HookRoute::new(grpc, hooks, hooks.grpc.events, line));
    }
    #[cfg(feature = "hooks-wasm")]
    if let Some(file) = &hooks.wasm.file {
        let line = format!("Using '{}' as the plugin for hooks", file.display());
        let wasm = wasm(hooks, file).context("-hooks-wasm")?;
        let mut route = HookRoute::new(wasm, hooks, hooks.wasm.events, line);
        if !route.own_events {
            // Its events go nowhere else: keep only those whose response matters.
            route.names = route.names.intersection(HookNames::WITH_RESPONSE);
        }
        routes.push(route);
    }
    #[cfg(any(
        feature = "nats",
        feature = "amqp",
        feature = "redis",
        feature = "kafka"
    ))]
    super::brokers::add(settings, &mut routes)?;
    Ok(routes)
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
    hooks: &Hooks,
    url: &crate::settings::Secret,
) -> anyhow::Result<landfall_hooks::http::Http> {
    use landfall_hooks::http::{Http, HttpSettings, Secret};

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

#[cfg(feature = "hooks-wasm")]
fn wasm(hooks: &Hooks, file: &std::path::Path) -> anyhow::Result<landfall_hooks::wasm::Wasm> {
    use landfall_hooks::wasm::{Wasm, WasmSettings};

    let mut settings = WasmSettings::new(file);
    settings.fuel = hooks.wasm.fuel;
    settings.memory = usize::try_from(hooks.wasm.memory).unwrap_or(usize::MAX);
    Ok(Wasm::new(settings)?)
}

#[cfg(any(feature = "hooks-http", feature = "hooks-grpc"))]
fn attempts(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
