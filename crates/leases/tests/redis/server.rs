//! A redis-server for one test.

use std::{
    fs,
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use landfall::{lease::Locker, upload::UploadId};
use landfall_leases::{LeaseSettings, RedisLocker};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use redis::Cmd;
use tempfile::TempDir;

pub(crate) const LONG: Duration = Duration::from_secs(30);

/// Returns settings that keep tests short.
pub(crate) fn quick() -> LeaseSettings {
    let mut settings = LeaseSettings::redis();
    settings.ttl = Duration::from_secs(2);
    settings.timeout = Duration::from_secs(1);
    settings
}

/// Runs "$@" until standard input is closed, which also happens if the test is killed.
const UNTIL_THE_TEST_ENDS: &str = r#"
"$@" </dev/null &
read -r _
kill -KILL $!
wait
"#;

/// A running redis-server behind a UNIX socket in a temporary directory; killed when dropped.
pub(crate) struct Server {
    dir: TempDir,
    shell: Child,
}

impl Server {
    /// Starts an empty server.
    pub(crate) fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let shell = spawn(&dir);
        Self { dir, shell }
    }

    /// Starts a server and waits until the grace period has passed.
    pub(crate) async fn ready(settings: &LeaseSettings) -> Self {
        let server = Self::start();
        server.wait_for_grace_period(settings).await;
        server
    }

    pub(crate) async fn wait_for_grace_period(&self, settings: &LeaseSettings) {
        let locker = self.locker(settings);
        drop(locker.acquire(&UploadId::random(), LONG).await.unwrap());
        locker.close().await;
    }

    pub(crate) fn socket(&self) -> String {
        self.dir.path().join("redis.sock").display().to_string()
    }

    pub(crate) fn address(&self) -> String {
        format!("redis+unix://{}", self.socket())
    }

    pub(crate) fn locker(&self, settings: &LeaseSettings) -> RedisLocker {
        RedisLocker::new(&self.address(), settings.clone()).unwrap()
    }

    /// Kills the server like SIGKILL; unsaved data is lost.
    pub(crate) fn kill(&mut self) {
        drop(self.shell.stdin.take());
        self.shell.wait().unwrap();
    }

    /// Starts the server again with its saved data.
    pub(crate) fn restart(&mut self) {
        self.shell = spawn(&self.dir);
    }

    pub(crate) fn stop(&self) {
        self.signal(Signal::SIGSTOP);
    }

    pub(crate) fn cont(&self) {
        self.signal(Signal::SIGCONT);
    }

    fn signal(&self, signal: Signal) {
        let pid = fs::read_to_string(self.dir.path().join("pid")).unwrap();
        kill(Pid::from_raw(pid.trim().parse().unwrap()), signal).unwrap();
    }

    /// Executes a command.
    pub(crate) fn run<T: redis::FromRedisValue>(&self, command: &[&str]) -> T {
        let client = redis::Client::open(self.address()).unwrap();
        let mut call = Cmd::new();
        for word in command {
            call.arg(word);
        }
        call.query(&mut client.get_connection().unwrap()).unwrap()
    }

    /// Removes the lease of an upload and its fence, as an eviction may.
    pub(crate) fn forget(&self, id: &UploadId) {
        let keys: Vec<String> = self.run(&["KEYS", &format!("landfall:*:{{{id}}}:*")]);
        for key in keys.iter().filter(|key| !key.contains(":unsettled:")) {
            self.run::<()>(&["DEL", key]);
        }
    }

    /// Returns the path of a file of this server.
    pub(crate) fn path(&self, name: &str) -> std::path::PathBuf {
        self.dir.path().join(name)
    }

    /// Also listens on a TLS port, with the certificates that `make` writes to a directory.
    pub(crate) fn listen_with_tls(&self, make: impl FnOnce(&std::path::Path)) -> u16 {
        make(self.dir.path());
        let port = landfall_test_services::free_port();
        let set = ["CONFIG", "SET", "tls-auth-clients", "no"];
        let [ca, cert, key] = ["ca.pem", "cert.pem", "key.pem"].map(|name| self.path(name));
        let files = [
            ("tls-ca-cert-file", ca.to_str().unwrap()),
            ("tls-cert-file", cert.to_str().unwrap()),
            ("tls-key-file", key.to_str().unwrap()),
            ("tls-port", &port.to_string()),
        ];
        let mut command = set.to_vec();
        for (name, value) in &files {
            command.extend([*name, *value]);
        }
        self.run::<()>(&command);
        port
    }

    /// Returns the number of executed scripts.
    pub(crate) fn calls(&self) -> u64 {
        let stats: String = self.run(&["INFO", "commandstats"]);
        let line = stats
            .lines()
            .find(|line| line.starts_with("cmdstat_evalsha:"));
        let calls = line.and_then(|line| line.split(['=', ',']).nth(1));
        calls.map_or(0, |calls| calls.parse().unwrap())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

fn spawn(dir: &TempDir) -> Child {
    let socket = dir.path().join("redis.sock");
    drop(fs::remove_file(&socket));
    let shell = Command::new("/bin/sh")
        .args(["-c", UNTIL_THE_TEST_ENDS, "sh", "redis-server"])
        .args(["--port", "0", "--save", "", "--appendonly", "no"])
        .args(["--daemonize", "no", "--unixsocket"])
        .arg(&socket)
        .arg("--pidfile")
        .arg(dir.path().join("pid"))
        .arg("--dir")
        .arg(dir.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let started = Instant::now();
    while std::os::unix::net::UnixStream::connect(&socket).is_err() {
        assert!(
            started.elapsed() < LONG,
            "redis-server does not start: is it installed? Run scripts/install-test-deps rust"
        );
        sleep(Duration::from_millis(5));
    }
    shell
}
