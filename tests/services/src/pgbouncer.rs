//! PgBouncer, which shares few connections to PostgreSQL among many clients.

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::Path,
    process::Command,
};

use crate::process::{Process, StopSignal, find};

/// A `PgBouncer` in transaction mode. Ends when it is dropped, or with this process.
#[derive(Debug)]
pub struct PgBouncer {
    _process: Process,
    port: u16,
}

impl PgBouncer {
    /// Starts one with two connections to the server of a URL of [`Postgres`](crate::Postgres).
    ///
    /// # Panics
    /// When `PgBouncer` is not installed or does not start.
    #[must_use]
    pub fn start(url: &str) -> Self {
        let (user, rest) = url
            .strip_prefix("postgres://")
            .unwrap()
            .split_once('@')
            .unwrap();
        let (authority, _) = rest.split_once('/').unwrap();
        let (host, server) = authority.split_once(':').unwrap();
        let (process, [port]) = Process::start("PgBouncer", StopSignal::Kill, |folder, [port]| {
            command(folder, port, (user, host, server))
        });
        Self {
            _process: process,
            port,
        }
    }

    /// Returns the pooled URL of a database of the server.
    ///
    /// # Panics
    /// If it is not the URL of a database.
    #[must_use]
    pub fn url(&self, database: &str) -> String {
        let (user, rest) = database.split_once('@').unwrap();
        let (_, name) = rest.split_once('/').unwrap();
        let port = self.port;
        format!("{user}@127.0.0.1:{port}/{name}?statement-cache-capacity=0")
    }
}

fn command(folder: &Path, port: u16, (user, host, server): (&str, &str, &str)) -> Command {
    let (config, users) = (folder.join("pgbouncer.ini"), folder.join("users.txt"));
    fs::write(&users, format!("\"{user}\" \"\"\n")).unwrap();
    let text = format!(
        "[databases]\n* = host={host} port={server}\n[pgbouncer]\nlisten_addr = 127.0.0.1\n\
         listen_port = {port}\nunix_socket_dir =\nauth_type = trust\nauth_file = {}\n\
         pool_mode = transaction\ndefault_pool_size = 2\n",
        users.display()
    );
    fs::write(&config, text).unwrap();
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = Command::new(find("pgbouncer", Path::new("/usr/sbin")));
    command.arg("--quiet").arg(config);
    // It does not run as root.
    if fs::metadata("/proc/self").unwrap().uid() == 0 {
        command.args(["--user", "nobody"]);
    }
    command
}
