//! A PostgreSQL server, which keeps its data over a restart.

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, chown},
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
    thread,
    time::{Duration, Instant},
};

use crate::{
    folder::Folder,
    fresh_name,
    process::{Process, StopSignal, find},
};

const USER: &str = "landfall";
const READY_TIMEOUT: Duration = Duration::from_secs(60);

/// A PostgreSQL server. Ends when it is dropped, or with this process.
#[derive(Debug)]
pub struct Postgres {
    // Before the folder: fields are dropped in this order.
    process: Option<Process>,
    folder: Folder,
    port: u16,
    fsync: bool,
    max_connections: u16,
}

impl Postgres {
    /// Returns the server that all tests of this process share; each uses its own database.
    #[must_use]
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Postgres> = OnceLock::new();
        SHARED.get_or_init(|| Self::start(false))
    }

    /// Starts a separate server, which takes about two seconds.
    ///
    /// Without `fsync` it is fast; its data survives [`Self::stop`], but not a power loss.
    ///
    /// # Panics
    ///
    /// When PostgreSQL is not installed or does not start.
    #[must_use]
    pub fn start(fsync: bool) -> Self {
        Self::start_with(fsync, 200)
    }

    /// Starts a separate server without `fsync` that accepts this number of connections.
    ///
    /// # Panics
    ///
    /// When PostgreSQL is not installed or does not start.
    #[must_use]
    pub fn limited(max_connections: u16) -> Self {
        Self::start_with(false, max_connections)
    }

    fn start_with(fsync: bool, max_connections: u16) -> Self {
        let folder = Folder::new();
        if fs::metadata(folder.path()).unwrap().uid() == 0 {
            let (uid, gid) = unprivileged();
            chown(folder.path(), Some(uid), Some(gid)).unwrap();
        }
        must(
            as_owner(folder.path(), &program("initdb"))
                .args(["--no-sync", "--auth=trust", "--encoding=UTF8", "--locale=C"])
                .args(["--username", USER, "--pgdata"])
                .arg(folder.path().join("data")),
        );
        let (process, [port]) = Process::start("PostgreSQL", StopSignal::Quit, |_, [port]| {
            server(folder.path(), port, fsync, max_connections)
        });
        let postgres = Self {
            process: Some(process),
            folder,
            port,
            fsync,
            max_connections,
        };
        postgres.wait();
        postgres
    }

    /// `postgres://landfall@127.0.0.1:PORT/postgres`: a database that is always there.
    #[must_use]
    pub fn url(&self) -> String {
        self.url_of("postgres")
    }

    /// Makes an empty database and gives its URL; its name begins with `stem`.
    ///
    /// # Panics
    ///
    /// When PostgreSQL refuses, or is stopped.
    #[must_use]
    pub fn database(&self, stem: &str) -> String {
        let name = fresh_name(stem);
        self.query(&self.url(), &format!("CREATE DATABASE {name:?}"));
        self.url_of(&name)
    }

    /// Runs statements in the database at `url` with psql: one line per row, `|` between columns.
    ///
    /// # Panics
    ///
    /// When one of them fails.
    pub fn query(&self, url: &str, statements: &str) -> String {
        must(
            Command::new(program("psql"))
                .args(["--no-psqlrc", "--quiet", "--tuples-only", "--no-align"])
                .args(["--set=ON_ERROR_STOP=1", "--command", statements, url]),
        )
    }

    /// Ends it as a crash would: connections break, transactions that were not committed are lost,
    /// and the next start recovers from the log.
    pub fn stop(&mut self) {
        self.process = None;
    }

    /// Restarts it on the same port, with its committed data; stops it first if it is running.
    ///
    /// # Panics
    ///
    /// When it does not start.
    pub fn restart(&mut self) {
        self.stop();
        let (dir, port, fsync) = (self.folder.path(), self.port, self.fsync);
        let max_connections = self.max_connections;
        let process = Process::start_on("PostgreSQL", StopSignal::Quit, port, |_| {
            server(dir, port, fsync, max_connections)
        });
        assert!(
            process.is_some(),
            "PostgreSQL did not start again on {port}"
        );
        self.process = process;
        self.wait();
    }

    fn url_of(&self, database: &str) -> String {
        format!("postgres://{USER}@127.0.0.1:{}/{database}", self.port)
    }

    /// It listens a moment before it lets anyone in.
    fn wait(&self) {
        let program = program("pg_isready");
        let is_ready = || {
            let mut command = Command::new(&program);
            let status = command.args(["--quiet", "--dbname", &self.url()]).status();
            status.unwrap().success()
        };
        let started = Instant::now();
        while !is_ready() {
            assert!(started.elapsed() < READY_TIMEOUT, "PostgreSQL is not ready");
            thread::sleep(Duration::from_millis(20));
        }
    }
}

fn server(dir: &Path, port: u16, fsync: bool, max_connections: u16) -> Command {
    let mut command = as_owner(dir, &program("postgres"));
    command
        .arg("-D")
        .arg(dir.join("data"))
        .args(["-h", "127.0.0.1", "-p", &port.to_string()])
        .args(["-c", "unix_socket_directories="])
        .args(["-c", &format!("max_connections={max_connections}")])
        // Replicas and reserved connections would leave too little of a small number.
        .args([
            "-c",
            "max_wal_senders=0",
            "-c",
            "superuser_reserved_connections=0",
        ])
        .args(["-c", if fsync { "fsync=on" } else { "fsync=off" }]);
    command
}

/// PostgreSQL does not run as root: a command that runs as the folder's owner.
fn as_owner(dir: &Path, program: &Path) -> Command {
    let owner = fs::metadata(dir).unwrap();
    if owner.uid() == 0 || fs::metadata("/proc/self").unwrap().uid() == owner.uid() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command
        .arg(format!("--reuid={}", owner.uid()))
        .arg(format!("--regid={}", owner.gid()))
        .args(["--clear-groups", "--"])
        .arg(program)
        .current_dir("/");
    command
}

/// Returns the user for root to run it as: Debian's `postgres`, else `nobody`.
fn unprivileged() -> (u32, u32) {
    let users = fs::read_to_string("/etc/passwd").unwrap();
    let find = |name: &str| {
        let line = users
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        let mut ids = line.split(':').skip(1).map(str::parse);
        Some((ids.next()?.ok()?, ids.next()?.ok()?))
    };
    find("postgres").or_else(|| find("nobody")).unwrap()
}

/// A program of the newest version that is there; Debian keeps them out of $PATH.
fn program(name: &str) -> PathBuf {
    let version = |folder: &PathBuf| -> Option<u32> { folder.file_name()?.to_str()?.parse().ok() };
    let newest = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .map(|entry| entry.unwrap().path())
        .filter(|folder| folder.join("bin").join(name).is_file())
        .max_by_key(version);
    find(name, &newest.unwrap_or_default().join("bin"))
}

/// Returns the output of a command; panics if it fails.
#[track_caller]
fn must(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}
