//! What has to hold outside of the settings: that files and directories are there and can be used, and
//! that names of hosts can be resolved.
//!
//! Nothing is made, opened for writing, or connected to, so that `landfall config check` can do all of
//! it beside a running server.

mod files;
mod folders;
mod hosts;
#[cfg(test)]
mod tests;

pub(crate) use folders::{check_private, refuse_link};
pub(super) use hosts::host_of_target;

use std::path::{Path, PathBuf};

use landfall_hooks::HookNames;

use super::check::Findings;
use super::sections::SECTIONS;
use super::types::{Database, JwtKeys, LeaseKind, Settings};
use super::{Failure, Loaded, Verb};

/// What a setting needs to work.
enum Need<'a> {
    /// A file that can be read.
    File(&'a Path),
    /// A directory that can be written, or made.
    WritableDir(&'a Path),
    /// A directory of the server's own, in one that is checked by itself.
    OwnFolder(PathBuf),
    /// A directory with the server's own state.
    StateFolder(PathBuf),
    /// A directory with programs.
    Programs(&'a Path, HookNames),
    /// A place for a socket.
    Socket(&'a Path),
    /// A place for a file of SQLite.
    Database(PathBuf),
    /// A host whose address this machine must have.
    OwnHost(&'a str),
    /// A port that this user may listen on.
    Port(u16),
    /// A host that must have an address.
    Host(String),
    /// A host that should have one: what is behind it may start later.
    LaterHost(String),
}

impl Loaded {
    /// The folders of the server with their owners and modes, as comments of TOML.
    pub fn folders(&self) -> String {
        folders::describe(&self.settings)
    }

    /// Checks what the settings name outside of themselves: files, directories, hosts. What is found to
    /// be worth a warning is added to [`warnings`](Self::warnings).
    ///
    /// Must be called inside a Tokio runtime.
    ///
    /// # Errors
    /// Everything that cannot work on this machine, at once.
    pub async fn check_system(&mut self) -> Result<(), Failure> {
        let mut problems = Vec::new();
        let mut findings =
            Findings::new(&self.layers, self.verb, &mut problems, &mut self.warnings);
        // Whoever checks the settings means those of the server.
        let verb = match self.verb {
            Verb::ConfigCheck => Verb::Serve,
            verb => verb,
        };
        let mut lookups = Vec::new();
        let mut refused = Vec::new();
        let is_given_sockets = std::env::var_os("LISTEN_FDS").is_some();
        if is_given_sockets && findings.is_for_server() {
            for name in ["host", "port", "unix-sock"] {
                findings.without_effect(name, "beside the sockets that systemd hands over");
            }
        }
        for (name, need) in needs(&self.settings, is_given_sockets, findings.is_for_server()) {
            // What follows from the first problem of a setting is not worth telling.
            if !is_used_by(name, verb) || refused.contains(&name) {
                continue;
            }
            let checked = match need {
                Need::File(path) => files::readable(path),
                Need::WritableDir(path) => {
                    files::writable_dir(path).map(|()| warn_of_writers(name, path, &mut findings))
                }
                Need::OwnFolder(path) => folders::refuse_link(&path)
                    .and_then(|()| files::own_folder(&path))
                    .map(|()| warn_of_writers(name, &path, &mut findings)),
                Need::StateFolder(path) => check_state_folder(name, &path, &mut findings),
                Need::Programs(path, names) => check_programs(name, path, names, &mut findings),
                Need::Socket(path) => files::socket(path),
                Need::Database(path) => {
                    files::database(&path).map(|()| warn_of_writers(name, &path, &mut findings))
                }
                Need::OwnHost(host) => {
                    lookups.push((name, true, hosts::spawn_lookup(host.to_owned(), true)));
                    Ok(())
                }
                Need::Port(port) => hosts::check_port(port),
                Need::Host(host) => {
                    lookups.push((name, true, hosts::spawn_lookup(host, false)));
                    Ok(())
                }
                Need::LaterHost(host) => {
                    lookups.push((name, false, hosts::spawn_lookup(host, false)));
                    Ok(())
                }
            };
            if let Err(reason) = checked {
                findings.problem_at_start(name, reason);
                refused.push(name);
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

/// Whether a command makes use of a setting.
fn is_used_by(name: &str, verb: Verb) -> bool {
    SECTIONS.iter().any(|section| {
        section.verbs.contains(&verb) && section.settings.iter().any(|known| known.name == name)
    })
}

/// What the settings need.
fn needs(
    settings: &Settings,
    is_given_sockets: bool,
    is_for_server: bool,
) -> Vec<(&'static str, Need<'_>)> {
    let mut needs = Vec::new();
    let (listen, hooks) = (&settings.listen, &settings.hooks);
    if !is_given_sockets {
        match &listen.unix_sock {
            Some(path) => needs.push(("unix-sock", Need::Socket(path))),
            None => needs.extend([
                ("host", Need::OwnHost(&listen.host)),
                ("port", Need::Port(listen.port)),
            ]),
        }
    }
    match &settings.s3.bucket {
        None => {
            let dir = &settings.storage.upload_dir;
            needs.push(("upload-dir", Need::WritableDir(dir)));
            needs.push(("upload-dir", Need::OwnFolder(settings.own_folder())));
        }
        Some(bucket) => {
            let endpoint = settings.s3.endpoint.as_deref().and_then(hosts::host_of_url);
            needs.extend(endpoint.map(|host| {
                let host = match settings.s3.path_style {
                    Some(false) => format!("{bucket}.{host}"),
                    _ => host,
                };
                ("s3-endpoint", Need::Host(host))
            }));
        }
    }
    if let LeaseKind::Redis(url) | LeaseKind::Postgres(url) = &settings.leases.kind {
        needs.extend(hosts::host_of_url(url.reveal()).map(|host| ("lease", Need::Host(host))));
    }
    if let Some(dir) = &hooks.command.dir {
        let names = hooks
            .command
            .events
            .unwrap_or_else(|| hooks.enabled_names());
        needs.push(("hooks-dir", Need::Programs(dir, names)));
    }
    if let Some(dir) = &settings.state.dir {
        needs.push(("state-dir", Need::WritableDir(dir)));
    }
    match &settings.state.database {
        Some(Database::File(path)) => needs.push(("database", Need::Database(path.clone()))),
        Some(Database::Postgres(url)) => {
            needs.extend(
                hosts::host_of_url(url.reveal()).map(|host| ("database", Need::Host(host))),
            );
        }
        // Other commands check the folder when they open the database, if they do.
        None if is_for_server && settings.stores_state() => {
            needs.push(("state-dir", Need::StateFolder(settings.state_dir())));
            if let Database::File(path) = settings.database() {
                needs.push(("state-dir", Need::Database(path)));
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
            settings.direct.events_secret_file.as_ref(),
        ),
    ];
    needs.extend(
        files
            .into_iter()
            .filter_map(|(name, path)| Some((name, Need::File(path?)))),
    );
    needs.extend(
        later_hosts(settings)
            .into_iter()
            .map(|(name, host)| (name, Need::LaterHost(host))),
    );
    needs
}

/// The hosts of what Landfall talks to once it runs: an application or a broker that is started after
/// it has no address yet where containers get theirs at their start.
fn later_hosts(settings: &Settings) -> Vec<(&'static str, String)> {
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
            &grants.authorize.url,
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
    .filter_map(|(name, url)| Some((name, hosts::host_of_url(url.reveal())?)));
    let grpc = hooks.grpc.target.as_deref().and_then(hosts::host_of_target);
    let kafka = brokers.kafka.brokers.iter();
    urls.chain(grpc.map(|host| ("hooks-grpc", host)))
        .chain(kafka.filter_map(|broker| Some(("hooks-kafka", hosts::host_of_target(broker)?))))
        .collect()
}

/// Checks the folder with the server's state.
fn check_state_folder(
    name: &str,
    folder: &Path,
    findings: &mut Findings<'_>,
) -> Result<(), String> {
    match folders::belongs_to_service(folder) {
        Some(reason) if findings.is_only_check() => {
            findings.warning(name, reason);
            Ok(())
        }
        _ => folders::check_private(folder),
    }
}

/// Warns of what other users can write to.
fn warn_of_writers(name: &str, path: &Path, findings: &mut Findings<'_>) {
    if let Some(reason) = folders::written_by_others(path) {
        findings.warning(name, reason);
    }
}

/// Checks a directory with programs. A program that is missing is skipped, as in tusd, so that what it
/// would decide is allowed: that is worth a warning.
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
                "there is no {} in {}; what is missing is skipped, and allows everything",
                missing.join(", no "),
                dir.display()
            ),
        );
    }
    Ok(())
}
