//! The real program in a separate process.

mod bytes;

use std::{
    io::{BufRead, BufReader, Read},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, ExitStatus, Stdio},
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

pub(crate) use self::bytes::{KIB, MIB, assert_same, base64, content, crc32};
pub(crate) use landfall_test_services::http1::{
    Client, Message as Answer, Request, id_of, path_of,
};

/// Longer than any test takes, even on a busy machine; a hang fails instead of blocking.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(60);

/// The prefix of the URL in the start-up line that tools look for.
pub(crate) const URL_LINE: &str = "You can now upload files to: ";

/// A running server. It is killed when dropped.
pub(crate) struct Landfall {
    child: Child,
    said: Arc<OutputLines>,
    address: Option<SocketAddr>,
    dir: PathBuf,
    own: Option<tempfile::TempDir>,
}

/// The output lines of a process.
#[derive(Default)]
struct OutputLines {
    lines: Mutex<(Vec<String>, bool)>,
    more: Condvar,
}

impl OutputLines {
    fn listen(self: &Arc<Self>, from: impl Read + Send + 'static) {
        let said = self.clone();
        thread::spawn(move || {
            for line in BufReader::new(from).split(b'\n').map_while(Result::ok) {
                let line = String::from_utf8_lossy(&line).into_owned();
                said.lines.lock().unwrap().0.push(line);
                said.more.notify_all();
            }
            said.lines.lock().unwrap().1 = true;
            said.more.notify_all();
        });
    }

    /// Returns the first line that matches `wanted`, or `None` if the process ends without it.
    fn find(&self, wanted: impl Fn(&str) -> bool) -> Option<String> {
        let lines = self.lines.lock().unwrap();
        let (lines, wait) = self
            .more
            .wait_timeout_while(lines, TIMEOUT, |(lines, ended)| {
                !*ended && !lines.iter().any(|line| wanted(line))
            })
            .unwrap();
        assert!(!wait.timed_out(), "no such line in: {:#?}", lines.0);
        lines.0.iter().find(|line| wanted(line)).cloned()
    }
}

/// Returns the program without the environment variables that could change its behavior.
pub(crate) fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_landfall"));
    remove_settings(&mut command);
    command
}

/// Copies a program in a child process. A process that another test forks meanwhile inherits the files that this
/// process has open, and a program that is open for writing cannot be executed (`ETXTBSY`).
pub(crate) fn install(from: &Path, to: &Path) {
    let mut command = Command::new("install");
    let status = command.arg("-m755").args([from, to]).status();
    assert!(status.unwrap().success(), "{from:?} is not installed");
}

/// Removes environment variables that look like settings from a command.
pub(crate) fn remove_settings(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        if ["LANDFALL_", "LISTEN_", "OTEL_"]
            .iter()
            .any(|prefix| name.starts_with(prefix))
        {
            command.env_remove(&*name);
        }
    }
}

impl Landfall {
    /// Starts on a free port of 127.0.0.1, with a new upload directory.
    pub(crate) fn start(args: &[&str]) -> Self {
        let own = tempfile::tempdir().unwrap();
        let mut server = Self::on(own.path(), args);
        server.own = Some(own);
        server
    }

    /// Starts on a free port of 127.0.0.1, with this upload directory.
    pub(crate) fn on(dir: &Path, args: &[&str]) -> Self {
        let mut command = program();
        command
            .args(["-host", "127.0.0.1", "-port", "0", "-upload-dir"])
            .arg(dir)
            .args(args);
        Self::spawn(command, dir)
    }

    /// Starts a command that runs the program and prints the URL line.
    pub(crate) fn spawn(command: Command, dir: &Path) -> Self {
        Self::spawn_with_input(command, dir).0
    }

    /// Like [`Self::spawn`], with a pipe to its standard input.
    pub(crate) fn spawn_with_input(command: Command, dir: &Path) -> (Self, ChildStdin) {
        let mut server = Self::launch(command, dir);
        let input = server.child.stdin.take().unwrap();
        let line = server
            .said
            .find(|line| line.contains(URL_LINE))
            .unwrap_or_else(|| panic!("it didn't start: {}", server.log()));
        let url = line.split_once(URL_LINE).unwrap().1;
        let authority = url
            .split_once("://")
            .and_then(|(_, rest)| rest.split('/').next());
        let authority = authority.unwrap().replace("localhost", "[::]");
        server.address = Some(authority.parse().unwrap());
        (server, input)
    }

    /// Like [`Self::spawn`], without waiting for the URL line.
    pub(crate) fn launch(mut command: Command, dir: &Path) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let said = Arc::new(OutputLines::default());
        said.listen(child.stdout.take().unwrap());
        let errors = child.stderr.take().unwrap();
        thread::spawn(move || {
            // Into the output of the test, which is shown if it fails.
            for line in BufReader::new(errors).lines().map_while(Result::ok) {
                eprintln!("{line}");
            }
        });
        Self {
            child,
            said,
            address: None,
            dir: dir.to_owned(),
            own: None,
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address.unwrap()
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Returns the data file of an upload.
    pub(crate) fn file(&self, path: &str) -> PathBuf {
        self.dir.join(id_of(path))
    }

    pub(crate) fn client(&self) -> Client {
        Client::connect(self.address())
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    /// Waits for its exit.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let end = Instant::now() + TIMEOUT;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < end, "it doesn't end: {}", self.log());
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Sends SIGTERM and waits for its exit.
    pub(crate) fn stop(mut self) {
        self.signal(Signal::TERM);
        let status = self.wait();
        assert_eq!(status.code(), Some(0), "{}", self.log());
    }

    /// Sends SIGKILL and waits; returns its directory, which lives as long as it is held.
    pub(crate) fn kill(mut self) -> Option<tempfile::TempDir> {
        self.child.kill().unwrap();
        landfall_test_services::count_kills(1);
        self.child.wait().unwrap();
        self.own.take()
    }

    /// Returns its standard output so far.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.said.lines.lock().unwrap().0.clone()
    }

    pub(crate) fn log(&self) -> String {
        self.lines().join("\n")
    }

    /// Waits for a line on its standard output.
    pub(crate) fn says(&self, what: &str) -> String {
        self.said
            .find(|line| line.contains(what))
            .unwrap_or_else(|| panic!("it ended without {what:?}: {}", self.log()))
    }

    /// Waits until it accepts no more connections.
    pub(crate) fn refuses_connections(&self) {
        eventually("it still accepts connections", || {
            TcpStream::connect(self.address()).is_err()
        });
    }

    /// Returns a sample of its metrics; 0 if it is missing.
    pub(crate) fn metric(&self, name: &str) -> f64 {
        metric(&mut self.client(), name)
    }
}

/// See [`Landfall::metric`].
pub(crate) fn metric(client: &mut Client, name: &str) -> f64 {
    let page = client.ask(Request::get("/metrics")).text();
    page.lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))
        .map_or(0.0, |value| value.parse().unwrap())
}

impl Drop for Landfall {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs the program to its exit; returns status, standard output and standard error.
pub(crate) fn run(command: &mut Command) -> (Option<i32>, String, String) {
    let output = command.stdin(Stdio::null()).output().unwrap();
    (
        output.status.code(),
        String::from_utf8(output.stdout).unwrap(),
        String::from_utf8(output.stderr).unwrap(),
    )
}

/// Ends background work of a test, also when it fails: a scope waits for its threads even then.
pub(crate) struct Over<'a>(pub(crate) &'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

/// Waits until a condition holds.
pub(crate) fn eventually(otherwise: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + TIMEOUT;
    while !holds() {
        assert!(Instant::now() < end, "{otherwise}");
        thread::sleep(Duration::from_millis(2));
    }
}
