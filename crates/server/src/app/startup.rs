//! The lines at the start: where files go, who may do what, and the URLs.
//!
//! The lines about hooks and directories, and the last one, begin as those of tusd: scripts look for them. Nothing
//! here may decide anything.

use landfall_hooks::HookName;
use landfall_http::Listener;
use landfall_protocol::units::size_text;

use super::{acme, open_files::ConnectionLimit, parts::AppParts};
use crate::{
    log,
    settings::{DisabledDownloads, Settings},
};

/// Prints the lines. `listening` describes the sockets.
pub(super) fn log_startup(
    settings: &Settings,
    parts: &AppParts,
    listening: &str,
    listeners: &[Listener],
    connection_limit: ConnectionLimit,
) {
    let grants = parts.grants.as_ref();
    let version = env!("CARGO_PKG_VERSION");
    let database = parts.hooks.database_name();
    match database.or(grants.map(|grants| &*grants.database_name)) {
        Some(name) => {
            let kept = [
                grants.map(|_| "grants"),
                database.map(|_| "undelivered events"),
            ];
            let kept: Vec<_> = kept.into_iter().flatten().collect();
            let kept = kept.join(" and ");
            log::say(format_args!("Landfall {version}; {kept} are in {name}"));
        }
        None => log::say(format_args!("Landfall {version}")),
    }
    for line in parts.storage.describe().lines() {
        log::say(line);
    }
    if let Some(bytes) = settings.protocol.max_size {
        log::say(format_args!("Using {} as maximum size.", size_text(bytes)));
    }
    parts.hooks.log_startup();
    if let Some(direct) = &parts.direct {
        direct.log_startup(settings);
    }
    let grants = grants.and_then(|grants| grants.describe(settings));
    log::say(access(settings, grants, |hook| parts.hooks.receives(hook)));
    acme::log_startup(settings);
    let mut listening = listening.to_owned();
    if settings.monitoring.expose_metrics {
        listening += &format!(" Metrics are at {}.", settings.monitoring.metrics_path);
    }
    if !settings.admin.is_on() {
        listening += " Dashboard: off; --admin-key turns it on.";
    }
    log::say(listening);
    if connection_limit.is_low() {
        log::say(connection_limit);
    }
    log_urls(settings, listeners);
}

/// Returns who may upload, read and delete, and where grants are.
fn access(settings: &Settings, grants: Option<String>, has: impl Fn(HookName) -> bool) -> String {
    let (upload, tip) = if settings.grants.required {
        ("Uploads need a token of a grant", "")
    } else if has(HookName::PreCreate) {
        ("The hook pre-create decides who may upload", "")
    } else {
        (
            "Anyone may upload",
            " See landfall help grants, and help hooks.",
        )
    };
    let downloads = settings.protocol.disable_download != DisabledDownloads::All;
    let verbs = match (downloads, settings.protocol.disable_termination) {
        (true, false) => "read and delete it",
        (true, true) => "read it",
        (false, false) => "delete it",
        (false, true) => "continue it",
    };
    let later = match has(HookName::PreAccess) {
        true => "the hook pre-access decides about later requests".to_owned(),
        false => format!("anyone with the URL of an upload may {verbs}"),
    };
    format!("{upload}; {later}{}.{tip}", grants.unwrap_or_default())
}

fn log_urls(settings: &Settings, listeners: &[Listener]) {
    let (is_tls, base) = (settings.tls.is_on(), &settings.urls.base_path);
    let scheme = if is_tls { "https" } else { "http" };
    for listener in listeners.iter().filter(|one| one.is_http3()) {
        if let Some(address) = listener.local_addr() {
            log::say(format_args!("Serving HTTP/3 on {address}."));
        }
    }
    let listeners = listeners.iter().filter(|one| !one.is_http3());
    let (redirects, listeners): (Vec<_>, Vec<_>) =
        listeners.partition(|listener| is_tls && !listener.has_tls());
    if let Some(address) = redirects.first().and_then(|listener| listener.local_addr()) {
        log::say(format_args!("Redirecting http://{address} to HTTPS."));
    }
    for address in listeners.into_iter().filter_map(Listener::local_addr) {
        let host = match address.ip().is_unspecified() {
            true => format!("localhost:{}", address.port()),
            false => address.to_string(),
        };
        let server = format!("{scheme}://{host}");
        if settings.admin.is_on() {
            log::say(format_args!("Dashboard: {server}{}/", settings.admin.path));
        }
        if settings.has_page() {
            let how = match settings.grants.required {
                true => ", for links of landfall link",
                false => "",
            };
            log::say(format_args!("Upload page{how}: {server}/"));
        }
        log::say(format_args!("You can now upload files to: {server}{base}"));
    }
}
