//! Where the parts meet: from checked settings to a running server.
//!
//! Nothing here has a policy of its own; it only says what is connected with what.

mod body;
#[cfg(feature = "s3")]
mod bucket;
mod client;
#[cfg(feature = "direct")]
mod direct;
mod doctor;
mod freshness;
#[cfg(feature = "grants")]
mod grants;
mod hooks;
#[cfg(feature = "grants")]
mod keys;
#[cfg(any(feature = "s3", feature = "redis", feature = "postgres"))]
mod leases;
#[cfg(feature = "grants")]
mod machine;
mod metrics;
mod migrate;
mod open_files;
mod prepare;
mod proxies;
mod routes;
mod state;
mod storage;
mod terminal;
mod waiting;

use std::{io, process::ExitCode, sync::Arc, time::Duration};

use anyhow::Context as _;
use landfall::{
    Composer, Config, Handler, Lifetimes, Limits, LocationStyle, SweepReason,
    service::{Cors, Forwarded},
};
use rustix::process::Signal;
use tokio::signal::unix::{SignalKind, signal};

#[cfg(feature = "s3")]
pub(crate) use self::bucket::options as s3_options;
#[cfg(feature = "direct")]
use self::direct::Direct;
pub(crate) use self::doctor::find_damaged;
#[cfg(feature = "grants")]
use self::grants::{Grants, PagesParts};
#[cfg(feature = "grants")]
pub use self::keys::keys;
pub use self::{doctor::doctor_files, migrate::migrate, prepare::config_check, waiting::events};
use self::{
    hooks::Hooks,
    open_files::ConnectionLimit,
    prepare::Prepared,
    routes::{App, Site},
    state::Opened,
    storage::Storage,
};
use crate::{
    log,
    net::{self, Listener, NetStats, Shutdown},
    settings::{Compat, Loaded, Settings},
};

/// After the grace time of a shutdown: how long requests that were cut have to keep what they received
/// and to say so. Whoever stops the server waits for it.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// How long it may take to write what goes into the database at the end.
const LAST_WRITES: Duration = Duration::from_secs(12);

/// Serves until told to stop.
///
/// # Errors
/// What keeps the server from starting, in words for the person who started it.
pub async fn serve(mut loaded: Loaded) -> anyhow::Result<ExitCode> {
    let prepared = Prepared::new(&mut loaded).await;
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    let open_files = open_files::raise_limit();
    let (prepared, settings) = (prepared?, loaded.settings);
    let (storage, composer) = Storage::open(&settings).await?;
    let database = Opened::default();
    let hooks = Hooks::open(&settings, &database, prepared.ways).await?;
    let mut config = handler_config(&settings, composer)?;
    hooks.join(&mut config);
    #[cfg(feature = "grants")]
    let (grants, cors) = (
        Grants::open(
            &settings,
            &database,
            hooks.told_outbox(),
            prepared.admin_key,
        )
        .await?,
        config.cors.clone(),
    );
    #[cfg(feature = "grants")]
    if let Some(grants) = &grants {
        grants.join(&settings, &mut config);
    }
    #[cfg(feature = "grants")]
    let policies = grants::policies(&settings, hooks.askers_of_grants());
    #[cfg(feature = "direct")]
    let direct = match &grants {
        None => None,
        Some(grants) => {
            let (queue, policies) = (grants.queue(), policies.clone());
            let secret = prepared.events_secret;
            let direct =
                Direct::open(&settings, &database, &storage, queue, policies, secret).await?;
            direct.map(Arc::new)
        }
    };
    #[cfg(feature = "direct")]
    if let Some(direct) = &direct {
        direct.join(&mut config);
    }
    let keeps = hooks.outbox().is_some();
    #[cfg(feature = "grants")]
    let keeps = keeps || grants.is_some();
    if keeps {
        state::warn(&settings);
    }
    let handler = Handler::new(config)?;
    #[cfg(feature = "direct")]
    if let Some(direct) = &direct {
        direct.follow(&handler);
    }
    let (listeners, listening) = open_listeners(&settings)?;
    let shutdown = Shutdown::new(settings.timeouts.shutdown)
        .answer_time(settings.timeouts.request_completion.min(LAST_WORDS));
    // Before anybody is told that it runs, and may want to stop it.
    tokio::spawn(
        shutdown
            .clone()
            .on_signals()
            .context("signals can't be listened to")?,
    );
    let stats = Arc::new(NetStats::default());
    let (storage, hooks) = (Arc::new(storage), Arc::new(hooks));
    #[cfg(feature = "grants")]
    let grants = match grants {
        None => None,
        Some(grants) => {
            grants.run(&handler).await?;
            grants.warn(&settings).await;
            let parts = PagesParts {
                settings: &settings,
                cors: cors.as_ref(),
                policies,
                jwt: prepared.jwt,
                handler: &handler,
                shutdown: &shutdown,
                storage: &storage,
                hooks: &hooks,
                #[cfg(feature = "direct")]
                direct: direct.as_deref(),
            };
            let pages = grants.pages(parts).await?;
            Some((Arc::new(grants), pages))
        }
    };
    let site = Site::new(
        &settings,
        &handler,
        storage.clone(),
        hooks.clone(),
        stats.clone(),
        shutdown.clone(),
    );
    #[cfg(feature = "grants")]
    let site = site.with_grants(grants.clone());
    #[cfg(feature = "direct")]
    let site = site.with_direct(direct.clone());
    let app = App::new(handler.clone(), Arc::new(site));
    let connection_limit = ConnectionLimit::new(open_files, settings.limits.max_connections);
    if settings.monitoring.show_startup_logs {
        announce(
            &settings,
            &storage,
            &hooks,
            #[cfg(feature = "grants")]
            grants.as_ref().map(|(grants, _)| &**grants),
            #[cfg(feature = "direct")]
            direct.as_deref(),
            &handler,
            (&listening, &listeners, connection_limit),
        );
    }

    // Caught, a limit on the size of files is an error of one write; left alone, it ends the process.
    let _too_large = signal(SignalKind::from_raw(Signal::XFSZ.as_raw()))
        .context("signals can't be listened to")?;
    if let Some(interval) = settings.expiry.sweep_interval {
        #[cfg(any(feature = "s3", feature = "redis", feature = "postgres"))]
        if let Some(leases) = storage.leases.clone() {
            tokio::spawn(leases.sweep_forever());
        }
        let sweeper = handler.sweeper().orphan_age(settings.expiry.orphan_age());
        tokio::spawn(async move { sweeper.run_forever(interval).await });
    }
    hooks.run(&handler);
    #[cfg(feature = "direct")]
    if let Some(direct) = &direct {
        direct.run();
    }
    let mut limits = net_limits(&settings);
    limits.max_connections = connection_limit.connections;
    // Hooks and events of clients that have gone run on.
    let drained = async { handler.shutdown().await };
    net::serve(listeners, app, limits, shutdown, stats, drained)
        .await
        .context("serving failed")?;
    let kept = async {
        #[cfg(feature = "direct")]
        if let Some(direct) = &direct {
            direct.close().await;
        }
        #[cfg(feature = "grants")]
        if let Some((grants, _)) = &grants {
            grants.close().await;
        }
        hooks.close().await;
        database.close().await;
    };
    if tokio::time::timeout(LAST_WRITES, kept).await.is_err() {
        tracing::warn!("the database is away; what it wasn't told is found out at the next start");
    }
    storage.close().await;
    log::say("Shutdown completed. Goodbye!");
    Ok(ExitCode::SUCCESS)
}

/// `landfall sweep`: removes what has expired, or lists it.
///
/// # Errors
/// What keeps it from looking, in words for the person who started it.
pub async fn sweep(mut loaded: Loaded, dry_run: bool) -> anyhow::Result<ExitCode> {
    let checked = loaded.check_system().await;
    for warning in &loaded.warnings {
        eprintln!("landfall: warning: {warning}");
    }
    checked?;
    let settings = loaded.settings;
    let dir = &settings.storage.upload_dir;
    anyhow::ensure!(
        settings.s3.bucket.is_some() || dir.is_dir(),
        "there is no upload directory {}",
        dir.display()
    );
    let (storage, composer) = Storage::open(&settings).await?;
    let mut config = handler_config(&settings, composer)?;
    let database = Opened::for_tool();
    // Those who are told of what expires are told of this, too.
    let hooks = match dry_run {
        true => None,
        false => Hooks::open_for_sweep(&settings, &database).await?,
    };
    if let Some(hooks) = &hooks {
        hooks.join(&mut config);
    }
    #[cfg(feature = "grants")]
    let grants = match dry_run {
        true => None,
        false => {
            Grants::open(
                &settings,
                &database,
                hooks.as_ref().and_then(Hooks::told_outbox),
                None,
            )
            .await?
        }
    };
    #[cfg(feature = "grants")]
    if let Some(grants) = &grants {
        grants.follow(&mut config);
    }
    #[cfg(feature = "direct")]
    let direct = match &grants {
        None => None,
        // Nothing is asked for here.
        Some(grants) => {
            let (queue, policies) = (grants.queue(), Vec::new());
            Direct::open(&settings, &database, &storage, queue, policies, None).await?
        }
    };
    #[cfg(feature = "direct")]
    if let Some(direct) = &direct {
        direct.join(&mut config);
    }
    let handler = Handler::new(config)?;
    #[cfg(feature = "direct")]
    if let Some(direct) = &direct {
        direct.follow(&handler);
    }
    if let Some(hooks) = &hooks {
        hooks.run(&handler);
    }
    // Whoever calls this has decided, and can look first.
    let mut sweeper = handler
        .sweeper()
        .age_tusd_uploads_by_last_change()
        .orphan_age(settings.expiry.orphan_age());
    if dry_run {
        sweeper = sweeper.dry_run();
    }
    let verb = if dry_run { "would remove" } else { "removed" };
    let summary = sweeper
        .run(|doomed| {
            let (verb, why) = match doomed.why {
                SweepReason::UnfinishedExpired => (verb, "unfinished and expired"),
                SweepReason::FinishedExpired => (verb, "finished and expired"),
                SweepReason::DamagedExpired => (verb, "damaged and expired"),
                SweepReason::Orphan(why) => (verb, why),
                SweepReason::Reported(why) => ("never removes", why),
            };
            let since = httpdate::fmt_http_date(doomed.modified);
            println!(
                "{verb} {} ({} bytes, last changed {since}): {why}",
                doomed.name, doomed.size
            );
        })
        .await
        .with_context(|| format!("{} can't be listed", storage.name()))?;
    #[cfg(any(feature = "s3", feature = "redis", feature = "postgres"))]
    if let Some(leases) = storage.leases.as_ref().filter(|_| !dry_run) {
        leases.sweep().await?;
    }
    #[cfg(feature = "direct")]
    if let Some(direct) = &direct {
        let swept = direct.sweep().await?;
        println!(
            "looked at {} direct uploads: {} complete, {} expired, {} failed, {} unknown",
            swept.examined, swept.completed, swept.expired, swept.failed, swept.check_failures
        );
    }
    #[cfg(feature = "grants")]
    if let Some(grants) = &grants {
        grants.close().await;
    }
    if let Some(hooks) = &hooks {
        hooks.close().await;
    }
    database.close().await;
    storage.close().await;
    println!(
        "{verb} {} of {} entries, {} bytes; {} in use or too young, {} without a description, {} failed",
        summary.removed,
        summary.examined,
        summary.bytes,
        summary.skipped,
        summary.reported,
        summary.failed
    );
    Ok(if summary.failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn handler_config(settings: &Settings, composer: Composer) -> anyhow::Result<Config> {
    let Settings {
        urls,
        protocol,
        cors,
        expiry,
        timeouts,
        limits,
        ..
    } = settings;
    let mut config = Config::new(composer);
    config.disable_download = protocol.disable_download;
    config.disable_unfinished_download = protocol.disable_unfinished_download;
    config.lenient_metadata = protocol.compat == Compat::Tusd;
    config.disable_termination = protocol.disable_termination;
    config.disable_concatenation = protocol.disable_concatenation;
    config.base_path = urls.base_path.clone();
    config.location = match &urls.public_url {
        Some(prefix) => LocationStyle::Prefix(prefix.clone()),
        None if urls.relative_location => LocationStyle::Relative,
        None => LocationStyle::Absolute,
    };
    config.forwarded = if urls.behind_proxy {
        let urls = urls.clone();
        Forwarded::TrustIf(Arc::new(move |peer| urls.trusts(peer)))
    } else {
        Forwarded::Ignore
    };
    config.cors = if cors.disable {
        None
    } else {
        let rule = cors.allow_origin.clone();
        Some(
            Cors::default()
                .allow_origin(move |origin| rule.matches(origin))
                .allow_credentials(cors.allow_credentials)
                .extend(
                    &cors.allow_methods.join(", "),
                    &cors.allow_headers.join(", "),
                    &cors.expose_headers.join(", "),
                    &cors.max_age.as_secs().to_string(),
                )?,
        )
    };
    config.limits = Limits {
        max_size: protocol.max_size,
        max_transfers: limits.max_uploads_in_flight,
        max_buffered_bytes: usize::try_from(limits.max_buffered_bytes).unwrap_or(usize::MAX),
        ..Limits::default()
    };
    config.lifetimes = Lifetimes {
        unfinished: expiry.unfinished,
        finished: expiry.finished,
    };
    config.lease_wait = timeouts.acquire_lock;
    // The HTTP edge watches all bodies, those of other routes too.
    config.body_timeout = None;
    Ok(config)
}

fn net_limits(settings: &Settings) -> net::Limits {
    let mut limits = net::Limits::default();
    let network = settings.timeouts.network.unwrap_or_default();
    limits.workers = std::thread::available_parallelism().map_or(1, usize::from);
    let per_address = &settings.limits;
    limits.addresses.connections = per_address.max_connections_per_address;
    limits.addresses.requests = per_address.max_requests_per_address;
    limits.addresses.uploads = per_address.max_uploads_per_address;
    limits.addresses.client = client::counted(&settings.urls);
    limits.max_head = settings.limits.max_header_size;
    limits.header_timeout = settings.limits.header_timeout;
    limits.idle_timeout = network;
    limits.body_timeout = network;
    limits.write_timeout = network * 2;
    limits.min_rate = settings.limits.min_rate.unwrap_or_default();
    limits.rate_window = network;
    limits.http2 = settings.listen.h2c;
    #[cfg(feature = "s3")]
    if settings.s3.bucket.is_some() {
        // What was read and isn't gathered yet is memory beyond that for parts.
        limits.read_buffer = 64 * 1024;
    }
    limits
}

/// What is listened on, and the start-up line about it. What systemd hands over comes first;
/// otherwise a UNIX socket if one is asked for, else TCP.
fn open_listeners(settings: &Settings) -> anyhow::Result<(Vec<Listener>, String)> {
    let inherited = Listener::from_systemd().context("the sockets of systemd can't be used")?;
    if !inherited.is_empty() {
        let line = format!("Using {} of systemd to listen.", sockets(inherited.len()));
        return Ok((inherited, line));
    }
    let listen = &settings.listen;
    if let Some(path) = &listen.unix_sock {
        let shown = path.display();
        let listener =
            Listener::unix(path).with_context(|| format!("can't listen on the socket {shown}"))?;
        return Ok((
            vec![listener],
            format!("Using {shown} as socket to listen."),
        ));
    }
    let address = format!("{}:{}", listen.host, listen.port);
    let listener = Listener::tcp(&listen.host, listen.port).map_err(|error| {
        let hint = match error.kind() {
            io::ErrorKind::AddrInUse => "another program has the port; choose one with --port",
            io::ErrorKind::PermissionDenied => {
                "ports below 1024 need CAP_NET_BIND_SERVICE; choose a higher one with --port"
            }
            io::ErrorKind::AddrNotAvailable => {
                "this machine does not have the address; choose one with --host"
            }
            _ => return anyhow::anyhow!("cannot listen on {address}: {error}"),
        };
        anyhow::anyhow!("cannot listen on {address}: {hint}")
    })?;
    Ok((
        vec![listener],
        format!("Using {address} as address to listen."),
    ))
}

fn sockets(count: usize) -> String {
    format!("{count} socket{}", if count == 1 { "" } else { "s" })
}

/// The lines with which tusd starts; tools look for the last one.
fn announce(
    settings: &Settings,
    storage: &Storage,
    hooks: &Hooks,
    #[cfg(feature = "grants")] grants: Option<&Grants>,
    #[cfg(feature = "direct")] direct: Option<&Direct>,
    handler: &Handler,
    (listening, listeners, connection_limit): (&str, &[Listener], ConnectionLimit),
) {
    let base = &settings.urls.base_path;
    log::say(storage.line());
    let megabytes = settings.protocol.max_size.unwrap_or_default() as f64 / 1024.0 / 1024.0;
    log::say(format_args!("Using {megabytes:.2}MB as maximum size."));
    hooks.announce();
    #[cfg(feature = "grants")]
    if let Some(grants) = grants {
        grants.announce(settings);
    }
    #[cfg(feature = "direct")]
    if let Some(direct) = direct {
        direct.announce(settings);
    }
    log::say(format_args!(
        "Supported tus extensions: {}",
        handler.extensions()
    ));
    log::say(listening);
    log::say(format_args!("Using {base} as the base path."));
    if settings.monitoring.expose_metrics {
        let path = &settings.monitoring.metrics_path;
        log::say(format_args!("Using {path} as the metrics path."));
    }
    log::say(connection_limit);
    for address in listeners.iter().filter_map(Listener::local_addr) {
        log::say(format_args!(
            "You can now upload files to: http://{address}{base}"
        ));
    }
}
