//! Checks of the system: files and directories exist and can be used, and host names resolve.
//!
//! The checks create nothing, open nothing for writing, and connect to nothing, so that
//! `landfall config check` can run while the server does.

mod directories;
mod files;
mod hosts;
#[cfg(test)]
mod tests;

pub(crate) use directories::{check_private, refuse_link};

use std::path::{Path, PathBuf};

use landfall_hooks::HookNames;

use super::address::{host_of_target, host_of_url};
use super::check::Findings;
use super::sections::SECTIONS;
use super::types::{Database, JwtKeys, LeaseKind, Settings};
use super::{Failure, Loaded, Subcommand};

/// A condition that a setting requires.
enum Requirement<'a> {
    /// A readable file.
    File(&'a Path),
    /// A directory that can be written or created.
    WritableDir(&'a Path),
    /// The server's own directory inside one that is checked separately.
    OwnDir(PathBuf),
    /// The state directory.
    StateDir(PathBuf),
    /// A directory with programs.
    Programs(&'a Path, HookNames),
    /// A path for a UNIX socket.
    Socket(&'a Path),
    /// A path for a SQLite file.
    Database(PathBuf),
    /// A host whose address belongs to this machine.
    LocalHost(&'a str),
    /// A port that this user is allowed to listen on.
    Port(u16),
    /// A host that resolves.
    Host(String),
    /// A host that should resolve, but may start later.
    OptionalHost(String),
}

impl Loaded {
    /// Returns the server's directories with owners and modes, as TOML comments.
    pub fn directories(&self) -> String {
        directories::describe(&self.settings)
    }

    /// Checks the files, directories and hosts of the settings, and adds warnings to
    /// [`warnings`](Self::warnings).
    ///
    /// Must be called inside a Tokio runtime.
    ///
    /// # Errors
    ///
    /// Returns everything that cannot work on this machine.
    pub async fn check_system(&mut self) -> Result<(), Failure> {
        let mut problems = Vec::new();
        let mut findings = Findings::new(
            &self.layers,
            self.subcommand,
            &mut problems,
            &mut self.warnings,
        );
        let subcommand = match self.subcommand {
            Subcommand::ConfigCheck => Subcommand::Serve,
            other => other,
        };
        let mut lookups = Vec::new();
        let mut failed = Vec::new();
        let has_systemd_sockets = std::env::var_os("LISTEN_FDS").is_some();
        if has_systemd_sockets && findings.is_for_server() {
            let names = ["host", "port", "unix-sock"];
            findings.without_effect(&names, "with sockets passed by systemd");
        }
        for (name, requirement) in requirements(
            &self.settings,
            has_systemd_sockets,
            findings.is_for_server(),
        ) {
            // Only the first problem of a setting is reported: others often follow from it.
            if !is_used_by(name, subcommand) || failed.contains(&name) {
                continue;
            }
            let checked = match requirement {
                Requirement::File(path) => files::readable(path),
                Requirement::WritableDir(path) => {
                    files::writable_dir(path).map(|()| warn_if_shared(name, path, &mut findings))
                }
                Requirement::OwnDir(path) => directories::refuse_link(&path)
                    .and_then(|()| files::own_dir(&path))
                    .map(|()| warn_if_shared(name, &path, &mut findings)),
                Requirement::StateDir(path) => check_state_dir(name, &path, &mut findings),
                Requirement::Programs(path, names) => {
                    check_programs(name, path, names, &mut findings)
                }
                Requirement::Socket(path) => files::socket(path),
                Requirement::Database(path) => {
                    files::database(&path).map(|()| warn_if_shared(name, &path, &mut findings))
                }
                Requirement::LocalHost(host) => {
                    lookups.push((name, true, hosts::spawn_lookup(host.to_owned(), true)));
                    Ok(())
                }
                Requirement::Port(port) => hosts::check_port(port),
                Requirement::Host(host) => {
                    lookups.push((name, true, hosts::spawn_lookup(host, false)));
                    Ok(())
                }
                Requirement::OptionalHost(host) => {
                    lookups.push((name, false, hosts::spawn_lookup(host, false)));
                    Ok(())
                }
            };
            if let Err(reason) = checked {
                findings.problem_at_start(name, reason);
                failed.push(name);
            }
        }
        for (name, required, lookup) in lookups {
            match lookup.await {
                Err(reason) if required => findings.problem_at_start(name, reason),
                Err(reason) => findings.warning(name, format!("{reason}; it may start later")),
                Ok(()) => {}
            }
        }
        if problems.is_empty() {
            Ok(())
        } else {
            Err(Failure { problems })
        }
    }
}

/// Returns whether a command uses a setting.
fn is_used_by(name: &str, subcommand: Subcommand) -> bool {
    SECTIONS.iter().any(|section| {
        section.subcommands.contains(&subcommand)
            && section.settings.iter().any(|known| known.name == name)
    })
}

/// Returns the requirements of the settings.
fn requirements(
    settings: &Settings,
    has_systemd_sockets: bool,
    is_for_server: bool,
) -> Vec<(&'static str, Requirement<'_>)> {
    let mut requirements = Vec::new();
    let (listen, hooks) = (&settings.listen, &settings.hooks);
    if !has_systemd_sockets {
        match &listen.unix_sock {
            Some(path) => requirements.push(("unix-sock", Requirement::Socket(path))),
            None => requirements.extend([
                ("host", Requirement::LocalHost(&listen.host)),
                ("port", Requirement::Port(listen.port)),
            ]),
        }
    }
    match &settings.s3.bucket {
        None => {
            let dir = &settings.storage.upload_dir;
            requirements.push(("upload-dir", Requirement::WritableDir(dir)));
            requirements.push(("upload-dir", Requirement::OwnDir(settings.own_dir())));
        }
        Some(bucket) => {
            let endpoint = settings.s3.endpoint.as_deref().and_then(host_of_url);
            requirements.extend(endpoint.map(|host| {
                let host = match settings.s3.path_style {
                    Some(false) => format!("{bucket}.{host}"),
                    _ => host,
                };
                ("s3-endpoint", Requirement::Host(host))
            }));
        }
    }
    if let LeaseKind::Redis(url) | LeaseKind::Postgres(url) = &settings.leases.kind {
        requirements
            .extend(host_of_url(url.reveal()).map(|host| ("lease", Requirement::Host(host))));
    }
    if let Some(dir) = &hooks.command.dir {
        let names = hooks
            .command
            .events
            .unwrap_or_else(|| hooks.enabled_names());
        requirements.push(("hooks-dir", Requirement::Programs(dir, names)));
    }
    if let Some(dir) = &settings.state.dir {
        requirements.push(("state-dir", Requirement::WritableDir(dir)));
    }
    match &settings.state.database {
        Some(Database::File(path)) => {
            requirements.push(("database", Requirement::Database(path.clone())))
        }
        Some(Database::Postgres(url)) => {
            requirements.extend(
                host_of_url(url.reveal()).map(|host| ("database", Requirement::Host(host))),
            );
        }
        // Other commands check the directory when they open the database.
        None if is_for_server && settings.stores_state() => {
            requirements.push(("state-dir", Requirement::StateDir(settings.state_dir())));
            if let Database::File(path) = settings.database() {
                requirements.push(("state-dir", Requirement::Database(path)));
            }
        }
        None => {}
    }
    let jwt_keys = match &settings.grants.jwt.keys {
        Some(JwtKeys::File(path)) => Some(path),
        _ => None,
    };
    let files = [
        ("hooks-wasm", hooks.wasm.file.as_ref()),
        (
            "hooks-grpc-server-tls-certificate",
            hooks.grpc.server_certificate.as_ref(),
        ),
        (
            "hooks-grpc-client-tls-certificate",
            hooks.grpc.client_certificate.as_ref(),
        ),
        ("hooks-grpc-client-tls-key", hooks.grpc.client_key.as_ref()),
        ("grants-jwt-keys", jwt_keys),
        ("admin-key-file", settings.admin.key_file.as_ref()),
        (
            "direct-notifications-secret-file",
            settings.direct.notifications_secret_file.as_ref(),
        ),
    ];
    requirements.extend(
        files
            .into_iter()
            .filter_map(|(name, path)| Some((name, Requirement::File(path?)))),
    );
    requirements.extend(
        optional_hosts(settings)
            .into_iter()
            .map(|(name, host)| (name, Requirement::OptionalHost(host))),
    );
    requirements
}

/// Returns the hosts of applications and brokers. With containers, one that starts later does not resolve
/// yet.
fn optional_hosts(settings: &Settings) -> Vec<(&'static str, String)> {
    let (hooks, grants) = (&settings.hooks, &settings.grants);
    let brokers = &hooks.brokers;
    let jwt_url = match &grants.jwt.keys {
        Some(JwtKeys::Url(url)) => Some(url),
        _ => None,
    };
    let behind_proxy = hosts::has_http_proxy();
    let urls = [
        ("hooks-http", &hooks.http.url, !behind_proxy),
        ("hooks-nats", &brokers.nats.url, true),
        ("hooks-amqp", &brokers.amqp.url, true),
        ("hooks-redis", &brokers.redis.url, true),
        (
            "grants-forward-auth-url",
            &grants.forward_auth.url,
            !behind_proxy,
        ),
    ]
    .into_iter()
    .filter_map(|(name, url, is_direct)| Some((name, url.as_ref().filter(|_| is_direct)?)))
    .chain(
        jwt_url
            .filter(|_| !behind_proxy)
            .map(|url| ("grants-jwt-keys", url)),
    )
    .filter_map(|(name, url)| Some((name, host_of_url(url.reveal())?)));
    let grpc = hooks.grpc.target.as_deref().and_then(host_of_target);
    let kafka = brokers.kafka.brokers.iter();
    urls.chain(grpc.map(|host| ("hooks-grpc", host)))
        .chain(kafka.filter_map(|broker| Some(("hooks-kafka", host_of_target(broker)?))))
        .collect()
}

/// Checks the state directory.
fn check_state_dir(name: &str, dir: &Path, findings: &mut Findings<'_>) -> Result<(), String> {
    match directories::belongs_to_service(dir) {
        Some(reason) if findings.is_only_check() => {
            findings.warning(name, reason);
            Ok(())
        }
        _ => directories::check_private(dir),
    }
}

/// Warns if other users can write to a path.
fn warn_if_shared(name: &str, path: &Path, findings: &mut Findings<'_>) {
    if let Some(reason) = directories::written_by_others(path) {
        findings.warning(name, reason);
    }
}

/// Checks a directory with programs. A missing program is skipped, as in tusd, which allows all requests
/// it would decide about: that causes a warning.
fn check_programs(
    name: &str,
    dir: &Path,
    names: HookNames,
    findings: &mut Findings<'_>,
) -> Result<(), String> {
    files::dir_with_programs(dir)?;
    let mut missing = Vec::new();
    for hook in names.iter() {
        match files::program(&dir.join(hook.as_str())) {
            Ok(true) => {}
            Ok(false) if hook.is_blocking() => missing.push(hook.as_str()),
            Ok(false) => {}
            Err(reason) => findings.problem_at_start(name, reason),
        }
    }
    if !missing.is_empty() {
        findings.warning(
            name,
            format!(
                "no {} in {}; missing blocking hooks are skipped, and allow all requests",
                missing.join(" and no "),
                dir.display()
            ),
        );
    }
    Ok(())
}
