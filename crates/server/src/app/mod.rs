//! The application: assembles a server from checked settings.

mod acme;
mod bucket;
mod cached_probe;
mod cloud;
mod direct;
mod doctor;
mod events_command;
mod grants;
mod health;
mod hooks;
mod keys_command;
mod leases;
mod link_command;
mod metrics;
mod migrate;
mod open_files;
pub(crate) mod parts;
mod proxies;
mod reload;
#[cfg(target_os = "linux")]
mod resident;
mod routes;
mod startup;
mod state;
mod status;
mod storage;
mod systemd;
mod terminal;
mod tls;

use std::{io, net::SocketAddr, process::ExitCode, sync::Arc, time::Duration};

use anyhow::Context as _;
use landfall::{Composer, Config, InterimResponses, Lifetimes, SweepReason, service::Cors};
use landfall_console::Progress;
use landfall_http::{
    ConnectionLimits, Function, Listener, Shutdown, Tls, TrustedProxies, serve_uploads,
};
use parking_lot::RwLock;
use rustix::process::Signal;
use tokio::signal::unix::{SignalKind, signal};

pub use self::keys_command::keys;
pub use self::link_command::link;
#[cfg(target_os = "linux")]
pub(crate) use self::resident::unmap_used_pages;
pub(crate) use self::{
    bucket::options as s3_options,
    cloud::{azure_options, gcs_options},
    doctor::find_damaged,
    link_command::link_json,
    terminal::print,
};
pub use self::{
    doctor::doctor_files, events_command::events, health::health, migrate::migrate, tls::doctor_tls,
};
use self::{
    open_files::ConnectionLimit,
    parts::{AppParts, Prepared},
    reload::{Hangups, Reloader},
    routes::{App, AppRoutes},
    state::SharedDatabase,
    tls::HttpsRedirect,
};
use crate::{
    log,
    settings::{AllowOrigin, DisabledDownloads, Loaded, Options, Settings},
};

/// After the grace time of a shutdown, for aborted requests to store received bytes and respond.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(5);

/// A head of one packet needs no longer on any link; one of 1 MiB needs 70 KB/s.
const MIN_HEADER_TIMEOUT: Duration = Duration::from_secs(15);

/// `landfall config check`: runs all checks of a start, those of this machine unless `offline`, and prints
/// the effective settings, or those that are not at their defaults.
///
/// # Errors
/// The server could not start.
pub async fn config_check(
    mut loaded: Loaded,
    offline: bool,
    only_changed: bool,
) -> anyhow::Result<ExitCode> {
    let mut directories = String::new();
    let mut checked = Ok(());
    if !offline {
        let progress = Progress::new("checking this machine and the hosts");
        let prepared = progress.show_during(Prepared::new(&mut loaded, None)).await;
        checked = prepared.map(|_| directories = loaded.directories());
    }
    loaded.print_warnings();
    checked?;
    let settings = loaded.to_toml(only_changed);
    let verdict = match (offline, loaded.warnings.is_empty()) {
        (true, _) => "The values are valid; without --offline, this machine is checked too.",
        (false, true) => "The configuration is valid.",
        (false, false) => "The configuration is valid, with warnings.",
    };
    let report = format!("{settings}{directories}# {verdict}\n");
    terminal::print(report.trim_start())?;
    Ok(ExitCode::SUCCESS)
}

/// `landfall config show`: prints the effective settings.
///
/// # Errors
/// Standard output cannot be written.
pub async fn config_show(loaded: Loaded, options: Options) -> anyhow::Result<ExitCode> {
    loaded.print_warnings();
    let text = match options.json {
        true => format!("{:#}\n", loaded.to_json(options.changed)),
        false => loaded.to_toml(options.changed),
    };
    terminal::print(&text)?;
    Ok(ExitCode::SUCCESS)
}

/// Runs the server until a signal stops it.
///
/// # Errors
/// The server cannot start, or serving failed.
pub async fn serve(mut loaded: Loaded) -> anyhow::Result<ExitCode> {
    // Those that have read the settings.
    #[cfg(target_os = "linux")]
    unmap_used_pages();
    let prepared = Prepared::new(&mut loaded, None).await;
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    let open_files = open_files::raise_limit();
    let (mut prepared, settings) = (prepared?, loaded.settings.clone());
    let tls = prepared.tls.take().map(Tls::new);
    let challenges = std::mem::take(&mut prepared.challenges);
    let database = SharedDatabase::default();
    let (parts, handler) = AppParts::open(&settings, database, Some(prepared)).await?;
    let parts = Arc::new(parts);
    if settings.stores_state() {
        state::warn_about_location(&settings);
    }
    let acme = acme::open(&settings, challenges, &parts.database).await?;
    let (listeners, listening) = open_listeners(&settings, tls.as_ref())?;
    let shutdown = Shutdown::new(settings.timeouts.shutdown)
        .with_response_timeout(settings.timeouts.request_completion.min(RESPONSE_TIMEOUT));
    let on_signals = shutdown.clone().on_signals();
    tokio::spawn(on_signals.context("failed to install signal handlers")?);
    let hangups = Hangups::install().context("failed to install signal handlers")?;
    if let Some(grants) = &parts.grants {
        grants.run(&handler).await?;
        grants.warn(&settings).await;
    }
    let redirect = HttpsRedirect::new(&settings, &listeners);
    let routes = AppRoutes::new(
        &settings,
        &handler,
        parts.clone(),
        shutdown.clone(),
        tls.clone(),
        redirect,
        acme.clone(),
    )?;
    let stats = routes.stats.clone();
    let app = App {
        handler: handler.clone(),
        routes: Arc::new(routes),
    };
    let connection_limit = ConnectionLimit::new(open_files, settings.limits.max_connections);
    if settings.monitoring.show_startup_logs {
        startup::log_startup(&settings, &parts, &listening, &listeners, connection_limit);
    }

    // Caught, SIGXFSZ is an error of one write; by default it ends the process.
    let _too_large = signal(SignalKind::from_raw(Signal::XFSZ.as_raw()))
        .context("failed to install signal handlers")?;
    if let Some(interval) = settings.expiry.sweep_interval {
        if let Some(leases) = parts.storage.leases.clone() {
            tokio::spawn(leases.run_sweeper());
        }
        let sweeper = handler.sweeper();
        tokio::spawn(async move { sweeper.run_forever(interval).await });
    }
    parts.hooks.run(&handler);
    tokio::spawn(
        parts
            .clone()
            .watch_conditions(stats.clone(), handler.clone()),
    );
    if let Some(direct) = &parts.direct {
        direct.run();
    }
    let mut limits = net_limits(&settings);
    limits.max_connections = connection_limit.connections;
    let reloader = Reloader {
        running: loaded,
        parts: parts.clone(),
        app: app.clone(),
        address_limits: limits.addresses.clone(),
        tls: tls.clone(),
    };
    if let Some(tls) = tls {
        tokio::spawn(tls::maintain(tls, acme, shutdown.clone()));
    }
    systemd::notify_ready("Serving uploads");
    systemd::run_watchdog();
    tokio::spawn(reloader.run(hangups, shutdown.clone()));
    let stopping = shutdown.clone();
    let stopping = tokio::spawn(async move {
        stopping.started().await;
        systemd::notify_stopping();
    });
    #[cfg(target_os = "linux")]
    {
        unmap_used_pages();
        tokio::spawn(resident::unmap_startup_pages());
    }
    let served = serve_uploads(listeners, handler, Arc::new(app), limits, shutdown, stats);
    served.await.context("serving failed")?;
    stopping.await.context("serving failed")?;
    parts.close().await;
    #[cfg(feature = "full")]
    crate::trace::flush().await;
    log::say("Shutdown completed. Goodbye!");
    Ok(ExitCode::SUCCESS)
}

/// `landfall sweep`: removes or lists expired uploads.
///
/// # Errors
/// The storage or the database cannot be opened or listed.
pub async fn sweep(mut loaded: Loaded, dry_run: bool) -> anyhow::Result<ExitCode> {
    let checked = loaded.check_system().await;
    loaded.print_warnings();
    checked?;
    let progress = Progress::new("sweeping");
    let sweep = sweep_once(loaded.settings, dry_run, &progress);
    progress.show_during(sweep).await
}

async fn sweep_once(
    settings: Settings,
    dry_run: bool,
    progress: &Progress,
) -> anyhow::Result<ExitCode> {
    let dir = &settings.storage.upload_dir;
    let (exists, shown) = (dir.is_dir() || !settings.uses_directory(), dir.display());
    anyhow::ensure!(exists, "there is no upload directory {shown}");
    let prepared = match dry_run {
        true => None,
        false => Some(Prepared {
            hook_routes: hooks::sweep_routes(&settings)?,
            ..Prepared::default()
        }),
    };
    let (parts, handler) = AppParts::open(&settings, SharedDatabase::for_tool(), prepared).await?;
    parts.hooks.run(&handler);
    let sweeper = handler.sweeper();
    let sweeper = sweeper.count_examined(progress.examined.clone());
    let mut sweeper = sweeper.orphan_age(settings.expiry.orphan_age());
    if dry_run {
        sweeper = sweeper.dry_run();
    }
    if let Some(leases) = &parts.storage.leases {
        leases.find_dead_nodes().await?;
    }
    let verb = if dry_run { "would remove" } else { "removed" };
    let summary = sweeper
        .run(|doomed| {
            let (verb, why) = match doomed.why {
                SweepReason::UnfinishedExpired => (verb, "unfinished and expired"),
                SweepReason::FinishedExpired => (verb, "finished and expired"),
                SweepReason::Orphan(why) => (verb, why),
                SweepReason::Reported(why) => ("never removes", why),
                _ => (verb, "expired"),
            };
            let since = httpdate::fmt_http_date(doomed.modified);
            let (name, size) = (&doomed.name, doomed.size);
            progress.suspend(|| {
                println!("{verb} {name} ({size} bytes, last changed {since}): {why}");
            });
        })
        .await
        .with_context(|| format!("cannot list {}", parts.storage.name()))?;
    if let Some(leases) = parts.storage.leases.as_ref().filter(|_| !dry_run) {
        leases.sweep().await?;
    }
    if let Some(direct) = &parts.direct {
        let swept = direct.sweep().await?;
        progress.suspend(|| {
            println!(
                "checked {} direct uploads: {} completed, {} expired, {} failed, {} unknown",
                swept.examined, swept.completed, swept.expired, swept.failed, swept.check_failures
            );
        });
    }
    parts.close().await;
    progress.suspend(|| {
        println!(
            "{verb} {} of {} entries, {} bytes; {} in use or too young, {} without a description, {} failed",
            summary.removed,
            summary.examined,
            summary.bytes,
            summary.skipped,
            summary.reported,
            summary.failed
        );
    });
    Ok(ExitCode::from(u8::from(summary.failed > 0)))
}

fn handler_config(
    settings: &Settings,
    composer: Composer,
    allow_origin: Arc<RwLock<AllowOrigin>>,
) -> anyhow::Result<Config> {
    let (urls, protocol, cors) = (&settings.urls, &settings.protocol, &settings.cors);
    let mut config = Config::new(composer);
    config.disable_download = protocol.disable_download == DisabledDownloads::All;
    config.disable_unfinished_download = protocol.disable_download != DisabledDownloads::None;
    config.interop_versions = protocol.interop_versions.clone();
    config.interim_responses = match protocol.interim_responses {
        InterimResponses::Auto if settings.listen.proxy_protocol => InterimResponses::Off,
        interim_responses => interim_responses,
    };
    config.lenient = protocol.compat_tusd;
    config.disable_termination = protocol.disable_termination;
    config.disable_concatenation = protocol.disable_concatenation;
    config.disable_checksum = protocol.disable_checksum;
    config.base_path = urls.base_path.clone();
    config.location = urls.location.clone();
    config.forwarded = proxies::forwarded(urls);
    config.cors = None;
    if !cors.disable {
        let rule = move |origin: &str| allow_origin.read().matches(origin);
        let policy = Cors::default()
            .allow_origin(rule)
            .allow_credentials(cors.allow_credentials)
            .allow_methods(&cors.allow_methods)?
            .allow_headers(&cors.allow_headers)?
            .expose_headers(&cors.expose_headers)?
            .max_age(cors.max_age);
        config.cors = Some(policy);
    }
    let limits = &mut config.limits;
    limits.max_size = protocol.max_size;
    limits.max_append_size = protocol.max_append_size;
    limits.max_transfers = open_files::max_transfers(settings.limits.max_uploads_in_flight);
    let max_buffered_bytes = usize::try_from(settings.limits.max_buffered_bytes);
    limits.max_buffered_bytes = max_buffered_bytes.unwrap_or(usize::MAX);
    config.lifetimes = Lifetimes {
        unfinished: settings.expiry.unfinished,
        finished: settings.expiry.finished,
    };
    config.lease_wait = settings.timeouts.acquire_lock;
    // The HTTP server applies timeouts to all bodies, those of other routes included.
    config.body_timeout = None;
    Ok(config)
}

fn net_limits(settings: &Settings) -> ConnectionLimits {
    let mut limits = ConnectionLimits::default();
    let network = settings.timeouts.network.unwrap_or_default();
    limits.workers = std::thread::available_parallelism().map_or(1, usize::from);
    reload::set_address_limits(&limits.addresses, settings);
    limits.addresses.client = proxies::limit_address(settings);
    let has_proxies = settings.urls.behind_proxy || settings.listen.proxy_protocol;
    limits.both_lengths = !has_proxies;
    limits.header_timeout = (network / 4).max(MIN_HEADER_TIMEOUT);
    limits.idle_timeout = network;
    limits.body_timeout = network;
    limits.write_timeout = network * 2;
    limits.min_rate = settings.limits.min_rate.unwrap_or_default();
    limits.rate_window = network;
    limits.unread_memory = settings.limits.max_buffered_bytes / 4;
    limits.http2 = settings.listen.h2c;
    limits.hsts = settings.tls.hsts.map(tls::hsts);
    if !settings.uses_directory() {
        // Data that was read and is not yet buffered counts besides that of --max-buffered-bytes.
        limits.read_buffer = 64 * 1024;
        limits.large_read_buffer = 0;
    }
    limits
}

fn open_listeners(
    settings: &Settings,
    tls: Option<&Tls>,
) -> anyhow::Result<(Vec<Listener>, String)> {
    let (mut listeners, listening) = open_sockets(settings)?;
    if let Some(tls) = tls {
        let with_tls = |listener: Listener| listener.with_tls(tls.clone());
        listeners = listeners.into_iter().map(with_tls).collect();
        if settings.tls.http3 {
            let addresses = listeners.iter().filter_map(Listener::local_addr);
            for address in addresses.collect::<Vec<_>>() {
                listeners.push(open_http3(address, tls)?);
            }
        }
        if let Some(port) = settings.tls.redirect_http {
            listeners.push(open_tcp(&settings.listen.host, port, "--redirect-http")?);
        }
    }
    if settings.listen.proxy_protocol {
        let urls = settings.urls.clone();
        let trusted: TrustedProxies = Function(Arc::new(move |peer| urls.is_trusted_proxy(peer)));
        let with_header = |listener: Listener| listener.with_proxy_protocol(trusted.clone());
        listeners = listeners.into_iter().map(with_header).collect();
    }
    Ok((listeners, listening))
}

fn open_sockets(settings: &Settings) -> anyhow::Result<(Vec<Listener>, String)> {
    let inherited = Listener::from_systemd().context("cannot use the sockets of systemd")?;
    if !inherited.is_empty() {
        let count = inherited.len();
        let plural = if count == 1 { "" } else { "s" };
        let line = format!("Using {count} socket{plural} of systemd to listen.");
        return Ok((inherited, line));
    }
    let listen = &settings.listen;
    if let Some(path) = &listen.unix_sock {
        let shown = path.display();
        let listener =
            Listener::unix(path).with_context(|| format!("cannot listen on the socket {shown}"))?;
        let line = format!("Using {shown} as socket to listen.");
        return Ok((vec![listener], line));
    }
    let listener = open_tcp(&listen.host, listen.port, "--port")?;
    let line = format!(
        "Using {}:{} as address to listen.",
        listen.host, listen.port
    );
    Ok((vec![listener], line))
}

fn open_http3(address: SocketAddr, tls: &Tls) -> anyhow::Result<Listener> {
    Listener::http3(address, tls.clone())
        .with_context(|| format!("--http3: cannot listen on the UDP port {address}"))
}

fn open_tcp(host: &str, port: u16, flag: &str) -> anyhow::Result<Listener> {
    Listener::tcp(host, port).map_err(|error| {
        let hint = match error.kind() {
            io::ErrorKind::AddrInUse => {
                format!("another program uses the port; choose one with {flag}")
            }
            io::ErrorKind::PermissionDenied => format!(
                "ports below 1024 need CAP_NET_BIND_SERVICE; choose a higher one with {flag}"
            ),
            io::ErrorKind::AddrNotAvailable => {
                "this machine does not have the address; choose one with --host".to_owned()
            }
            _ => error.to_string(),
        };
        anyhow::anyhow!("cannot listen on {host}:{port}: {hint}")
    })
}
