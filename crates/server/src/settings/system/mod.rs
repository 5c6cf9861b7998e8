//! Checks of the system: files and directories exist and can be used, and host names resolve.
//!
//! The checks open nothing for writing and connect to nothing, so that `landfall config check` can run
//! while the server does. Only a start creates something: the state directory.

mod directories;
mod files;
mod hosts;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

pub(crate) use directories::{refuse_link, secure};
pub(crate) use files::file_system;
use landfall::store::{
    Enumerate as _,
    file::{FileOptions, FileStore},
};
use landfall_hooks::HookNames;
use landfall_net::Proxies;

use super::address::{host_of_target, host_of_url, hosts_of_url};
use super::check::Findings;
use super::layers::{Layers, Source};
use super::report;
use super::sections::{Settings, is_used_by, setting};
use super::types::{Database, HeaderKey, JwtKeys, LeaseKind};
use super::{Failure, Loaded, Subcommand};

const MAX_EXAMINED: usize = 1000;

/// `EnvironmentFile` of packaging/landfall.service.
const SERVICE_ENVIRONMENT: &str = "/etc/default/landfall";

impl Loaded {
    /// Returns the server's directories with owners and modes, as TOML comments.
    pub fn directories(&self) -> String {
        directories::describe(&self.settings)
    }

    /// Checks the files, directories and hosts of the settings, and adds warnings to
    /// [`warnings`](Self::warnings). Must be called inside a Tokio runtime.
    ///
    /// # Errors
    /// Returns everything that cannot work on this machine.
    pub async fn check_system(&mut self) -> Result<(), Failure> {
        let mut problems = Vec::new();
        let (subcommand, warnings) = (self.subcommand, &mut self.warnings);
        let mut findings = Findings::new(&self.layers, subcommand, &mut problems, warnings);
        let has_systemd_sockets = std::env::var_os("LISTEN_FDS").is_some();
        if has_systemd_sockets && findings.is_for_server() {
            let names = ["host", "port", "unix-sock"];
            findings.without_effect(&names, "with sockets passed by systemd");
        }
        let mut checks = SystemChecks {
            findings,
            failed: Vec::new(),
            lookups: Vec::new(),
            proxies: Proxies::from_env(),
        };
        if !has_systemd_sockets {
            checks.check_listen(&self.settings);
        }
        checks.check_storage(&self.settings);
        checks.check_state(&self.settings);
        checks.check_files(&self.settings);
        checks.check_secrets(&self.settings, secret_sources(&self.layers));
        checks.check_optional_hosts(&self.settings);
        checks.finish().await;
        if subcommand == Subcommand::ConfigCheck
            && problems.is_empty()
            && let Some(reason) = describe_unserved(&self.settings).await
        {
            let mut findings =
                Findings::new(&self.layers, subcommand, &mut problems, &mut self.warnings);
            findings.warning("upload-dir", reason);
        }
        match problems.is_empty() {
            true => Ok(()),
            false => Err(Failure { problems }),
        }
    }
}

/// Of the first entries of the upload directory; `landfall doctor files` examines all.
async fn describe_unserved(settings: &Settings) -> Option<String> {
    let storage = &settings.storage;
    if !settings.uses_directory() || !storage.upload_dir.is_dir() {
        return None;
    }
    let mut options = FileOptions::default();
    options.data_dirs.clone_from(&storage.data_dirs);
    let store = FileStore::open(&storage.upload_dir, options).ok()?;
    let unserved = store.page(None, MAX_EXAMINED).await.ok()?.unserved;
    let first = unserved.first()?;
    Some(format!(
        "{} uploads or directories are not served, such as {} ({}): name their directories with --data-dirs; \
         landfall doctor files lists all",
        unserved.len(),
        first.name,
        first.reason
    ))
}

/// A setting with a secret, and the file that has it.
type SecretSource = (&'static str, PathBuf);

/// Returns the files that secret settings come from: a configuration file, those of `…_FILE` variables, and
/// the file of variables of our service.
fn secret_sources(layers: &Layers) -> Vec<SecretSource> {
    let environment = std::fs::read_to_string(SERVICE_ENVIRONMENT).unwrap_or_default();
    let file_of = |source: &Source| match source {
        Source::File { file, .. } => Some(PathBuf::from(file)),
        Source::Variable(name)
            if environment
                .lines()
                .any(|line| line.trim_start().starts_with(&**name)) =>
        {
            Some(SERVICE_ENVIRONMENT.into())
        }
        Source::Variable(name) if name.ends_with("_FILE") => {
            std::env::var_os(name).map(PathBuf::from)
        }
        _ => None,
    };
    let given = layers
        .names()
        .filter_map(|name| setting(name).zip(layers.get(name)));
    let secret = given.filter(|(setting, given)| report::is_secret(setting, given.text()));
    secret
        .filter_map(|(setting, given)| Some((setting.name, file_of(&given.source)?)))
        .collect()
}

struct SystemChecks<'a> {
    findings: Findings<'a>,
    /// Only the first problem of a setting is reported: others often follow from it.
    failed: Vec<&'static str>,
    lookups: Vec<(&'static str, bool, hosts::Lookup)>,
    proxies: Proxies,
}

impl SystemChecks<'_> {
    fn check(
        &mut self,
        name: &'static str,
        check: impl FnOnce(&mut Findings<'_>) -> Result<(), String>,
    ) {
        if !is_used_by(name, self.findings.subcommand) || self.failed.contains(&name) {
            return;
        }
        if let Err(reason) = check(&mut self.findings) {
            self.findings.problem_at_start(name, reason);
            self.failed.push(name);
        }
    }

    fn check_shared(
        &mut self,
        name: &'static str,
        path: &Path,
        check: impl FnOnce(&Path) -> Result<(), String>,
    ) {
        self.check(name, |findings| {
            check(path)?;
            if let Some(reason) = directories::written_by_others(path) {
                findings.warning(name, reason);
            }
            Ok(())
        });
    }

    fn resolve(&mut self, name: &'static str, host: Option<String>, is_required: bool) {
        if let Some(host) = host.filter(|_| is_used_by(name, self.findings.subcommand)) {
            let lookup = hosts::spawn_lookup(host, name == "host");
            self.lookups.push((name, is_required, lookup));
        }
    }

    /// Of several hosts, some may be down for good.
    fn resolve_any(&mut self, name: &'static str, url: &str) {
        let hosts = hosts_of_url(url);
        let is_required = hosts.len() == 1;
        for host in hosts {
            self.resolve(name, Some(host), is_required);
        }
    }

    /// A proxy resolves names.
    fn resolve_url(&mut self, name: &'static str, url: &str, is_required: bool) {
        let is_proxied = |uri| self.proxies.for_uri(&uri).is_some();
        if !url.parse().is_ok_and(is_proxied) {
            self.resolve(name, host_of_url(url), is_required);
        }
    }

    fn check_listen(&mut self, settings: &Settings) {
        let listen = &settings.listen;
        if let Some(path) = &listen.unix_sock {
            return self.check("unix-sock", |_| files::socket(path));
        }
        self.resolve("host", Some(listen.host.clone()), true);
        self.check("port", |_| hosts::check_port(listen.port));
        if let Some(port) = settings.tls.redirect_http {
            self.check("redirect-http", |_| hosts::check_port(port));
        }
    }

    fn check_storage(&mut self, settings: &Settings) {
        match &settings.s3.bucket {
            None if !settings.uses_directory() => {
                let endpoints = [
                    ("gcs-endpoint", &settings.gcs.endpoint),
                    ("azure-endpoint", &settings.azure.endpoint),
                ];
                for (name, endpoint) in endpoints {
                    if let Some(url) = endpoint {
                        self.resolve_url(name, url, true);
                    }
                }
            }
            None => {
                let dir = &settings.storage.upload_dir;
                self.check_shared("upload-dir", dir, files::writable_dir);
                for dir in &settings.storage.data_dirs {
                    self.check("data-dirs", |findings| {
                        if !files::is_dir(dir)? {
                            let shown = dir.display();
                            let reason = format!("{shown} does not exist; it may be mounted later");
                            findings.warning("data-dirs", reason);
                        }
                        Ok(())
                    });
                }
                self.check_shared("upload-dir", &settings.own_dir(), |dir| {
                    directories::refuse_link(dir)?;
                    files::own_dir(dir)
                });
            }
            Some(bucket) => {
                if let Some(endpoint) = &settings.s3.endpoint {
                    let url = match settings.s3.path_style {
                        Some(false) => endpoint.replacen("://", &format!("://{bucket}."), 1),
                        _ => endpoint.clone(),
                    };
                    self.resolve_url("s3-endpoint", &url, true);
                }
            }
        }
        if let LeaseKind::Redis(url) | LeaseKind::Postgres(url) = &settings.leases.kind {
            self.resolve_any("lease", url.reveal());
        }
    }

    fn check_state(&mut self, settings: &Settings) {
        if let Some(dir) = &settings.state.dir {
            self.check_shared("state-dir", dir, files::writable_dir);
        }
        if self.findings.is_for_server() && settings.tls.acme.is_on() {
            let dir = settings.state_dir();
            self.check("state-dir", |findings| check_state_dir(&dir, findings));
            if !settings.shares_certificates() {
                self.check_shared("state-dir", &dir, files::writable_dir);
            }
        }
        match &settings.state.database {
            Some(Database::Sqlite(path)) => self.check_shared("database", path, files::database),
            Some(Database::Postgres(url)) => self.resolve_any("database", url),
            // Other commands check the directory when they open the database.
            None if self.findings.is_for_server() && settings.stores_state() => {
                let dir = settings.state_dir();
                self.check("state-dir", |findings| check_state_dir(&dir, findings));
                if let Database::Sqlite(path) = settings.database() {
                    self.check_shared("state-dir", &path, files::database);
                }
            }
            None => {}
        }
    }

    fn check_files(&mut self, settings: &Settings) {
        let hooks = &settings.hooks;
        if let Some(dir) = &hooks.command.dir {
            let [commands, ..] = hooks.transports();
            let names = commands.names;
            self.check("hooks-dir", |findings| check_programs(dir, names, findings));
        }
        let jwt_keys = match &settings.grants.jwt.keys {
            Some(JwtKeys::File(path)) => Some(path.clone()),
            _ => None,
        };
        let grpc = &hooks.grpc;
        let (server, client) = (&grpc.server_certificate, &grpc.client_certificate);
        for (name, files) in [
            ("tls-certificate", &settings.tls.certificates),
            ("tls-key", &settings.tls.keys),
        ] {
            for file in files {
                self.check(name, |_| files::readable(file));
            }
        }
        for (name, file) in [
            ("tls-client-ca", &settings.tls.client_authorities),
            ("hooks-grpc-server-tls-certificate", server),
            ("hooks-grpc-client-tls-certificate", client),
            ("hooks-grpc-client-tls-key", &grpc.client_key),
            ("grants-jwt-keys", &jwt_keys),
            ("page-logo", &settings.monitoring.page_logo),
        ] {
            if let Some(file) = file {
                self.check(name, |_| files::readable(file));
            }
        }
    }

    /// Warns of secrets in files that all users of this machine can read.
    fn check_secrets(&mut self, settings: &Settings, sources: Vec<SecretSource>) {
        let mut files: Vec<SecretSource> = Vec::new();
        for file in &settings.tls.keys {
            files.push(("tls-key", file.clone()));
        }
        let header_key = match &settings.hooks.outbox.header_key {
            Some(HeaderKey::File(file)) => Some(file.clone()),
            _ => None,
        };
        let database = match &settings.state.database {
            Some(Database::Sqlite(file)) => Some(file.clone()),
            _ => None,
        };
        for (name, file) in [
            ("hooks-grpc-client-tls-key", &settings.hooks.grpc.client_key),
            ("events-header-key", &header_key),
            ("database", &database),
        ] {
            files.extend(file.iter().map(|file| (name, file.clone())));
        }
        files.retain(|(name, _)| is_used_by(name, self.findings.subcommand));
        let mut reported = Vec::new();
        for (name, file) in files.into_iter().chain(sources) {
            if files::is_public(&file) && !reported.contains(&file) {
                let shown = file.display();
                let remedy = format!("chgrp it to the server's group and run chmod 640 {shown}");
                let reason =
                    format!("all users of this machine can read the secret in {shown}; {remedy}");
                self.findings.warning(name, reason);
                reported.push(file);
            }
        }
    }

    /// An application or broker that starts later, in a container, does not resolve yet.
    fn check_optional_hosts(&mut self, settings: &Settings) {
        let (hooks, grants) = (&settings.hooks, &settings.grants);
        let jwt_url = match &grants.jwt.keys {
            Some(JwtKeys::Url(url)) => Some(url.clone()),
            _ => None,
        };
        // Proxies are for http:// and https:// only.
        for (name, url) in [
            ("hooks-http", &hooks.http.url),
            ("grants-forward-auth-url", &grants.forward_auth.url),
            ("grants-jwt-keys", &jwt_url),
        ] {
            if let Some(url) = url {
                self.resolve_url(name, url.reveal(), false);
            }
        }
        if settings.tls.acme.is_on() {
            self.resolve_url("acme-directory", &settings.tls.acme.directory, false);
        }
        if let Some(host) = hooks.grpc.target.as_deref().and_then(host_of_target) {
            let host = if host.contains(':') {
                format!("[{host}]")
            } else {
                host
            };
            self.resolve_url("hooks-grpc", &format!("https://{host}"), false);
        }
        let broker = hooks.broker.url.as_ref();
        let brokers = broker.map_or_else(Vec::new, |broker| hosts_of_url(broker.address.reveal()));
        for host in brokers {
            self.resolve("hooks-broker", Some(host), false);
        }
    }

    async fn finish(mut self) {
        for (name, is_required, lookup) in self.lookups {
            let result = lookup.await.unwrap_or_else(|error| Err(error.to_string()));
            let findings = &mut self.findings;
            match result {
                Err(reason) if is_required => findings.problem_at_start(name, reason),
                Err(reason) => findings.warning(name, format!("{reason}; it may start later")),
                Ok(()) => {}
            }
        }
    }
}

fn check_state_dir(dir: &Path, findings: &mut Findings<'_>) -> Result<(), String> {
    let warning = match findings.is_only_check() {
        // Its exposure is a condition of the running server.
        false if dir.exists() => secure(dir).map(|_| None)?,
        // It is created when it is used, unless another check fails.
        false => None,
        true => match directories::belongs_to_service(dir) {
            None => directories::check_private(dir)?,
            other => other,
        },
    };
    if let Some(reason) = warning {
        findings.warning("state-dir", reason);
    }
    Ok(())
}

/// A missing program is skipped, as in tusd, which allows all requests it would decide about: that causes
/// a warning.
fn check_programs(dir: &Path, names: HookNames, findings: &mut Findings<'_>) -> Result<(), String> {
    files::dir_with_programs(dir)?;
    let mut missing = Vec::new();
    for hook in names.iter() {
        match files::program(&dir.join(hook.as_str())) {
            Ok(false) if hook.is_blocking() => missing.push(hook.as_str()),
            Ok(_) => {}
            Err(reason) => findings.problem_at_start("hooks-dir", reason),
        }
    }
    if !missing.is_empty() {
        let (missing, dir) = (missing.join(" and no "), dir.display());
        let effect = "missing blocking hooks are skipped, and allow all requests";
        findings.warning("hooks-dir", format!("no {missing} in {dir}; {effect}"));
    }
    Ok(())
}
