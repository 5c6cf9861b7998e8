//! The real program in a process of its own.

mod bytes;
mod client;

use std::{
    io::{BufRead, BufReader, Read},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, ExitStatus, Stdio},
    sync::{Arc, Condvar, Mutex},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

pub(crate) use self::{
    bytes::{KIB, MIB, assert_same, base64, content, crc32},
    client::{Answer, Client, Request, id_of, path_of},
};

/// Longer than anything here takes, on a busy machine too; a hang fails instead of blocking.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(60);

/// What stands before the URL in the start-up line that tools look for.
pub(crate) const URL_LINE: &str = "You can now upload files to: ";

/// A running server. It is killed when dropped.
pub(crate) struct Landfall {
    child: Child,
    said: Arc<Said>,
    address: Option<SocketAddr>,
    dir: PathBuf,
    own: Option<tempfile::TempDir>,
}

/// The lines of a process, as they come.
#[derive(Default)]
struct Said {
    lines: Mutex<(Vec<String>, bool)>,
    more: Condvar,
}

impl Said {
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

    /// The first line for which `wanted` holds, or `None` if the process ends without it.
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

/// The program, with nothing of the caller's environment that could change what it does.
pub(crate) fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_landfall"));
    remove_settings(&mut command);
    command
}

/// Keeps what looks like settings in the caller's environment from a command that runs the program.
pub(crate) fn remove_settings(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        if name.starts_with("LANDFALL_") || name.starts_with("LISTEN_") {
            command.env_remove(&*name);
        }
    }
}

impl Landfall {
    /// On a free port of 127.0.0.1, with an upload directory of its own.
    pub(crate) fn start(args: &[&str]) -> Self {
        let own = tempfile::tempdir().unwrap();
        let mut server = Self::on(own.path(), args);
        server.own = Some(own);
        server
    }

    /// On a free port of 127.0.0.1, with this upload directory.
    pub(crate) fn on(dir: &Path, args: &[&str]) -> Self {
        let mut command = program();
        command
            .args(["-host", "127.0.0.1", "-port", "0", "-upload-dir"])
            .arg(dir)
            .args(args);
        Self::spawn(command, dir)
    }

    /// By a command that runs the program, and prints the URL line.
    pub(crate) fn spawn(command: Command, dir: &Path) -> Self {
        Self::spawn_with_input(command, dir).0
    }

    /// Like [`Self::spawn`], with the end of a pipe to its standard input.
    pub(crate) fn spawn_with_input(command: Command, dir: &Path) -> (Self, ChildStdin) {
        let mut server = Self::launch(command, dir);
        let input = server.child.stdin.take().unwrap();
        let line = server
            .said
            .find(|line| line.contains(URL_LINE))
            .unwrap_or_else(|| panic!("it didn't start: {}", server.log()));
        let url = line.split_once(URL_LINE).unwrap().1;
        let authority = url
            .strip_prefix("http://")
            .and_then(|rest| rest.split('/').next());
        server.address = Some(authority.unwrap().parse().unwrap());
        (server, input)
    }

    /// Like [`Self::spawn`], without waiting for anything.
    pub(crate) fn launch(mut command: Command, dir: &Path) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let said = Arc::new(Said::default());
        said.listen(child.stdout.take().unwrap());
        let errors = child.stderr.take().unwrap();
        thread::spawn(move || {
            // Into the output of the test, which shows it if the test fails.
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

    /// The data file of an upload.
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

    /// Waits for its end.
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

    /// SIGTERM, and its end.
    pub(crate) fn stop(mut self) {
        self.signal(Signal::TERM);
        let status = self.wait();
        assert_eq!(status.code(), Some(0), "{}", self.log());
    }

    /// SIGKILL, and its end. Returns its directory, which lives as long as it is held.
    pub(crate) fn kill(mut self) -> Option<tempfile::TempDir> {
        self.child.kill().unwrap();
        landfall_test_services::count_kills(1);
        self.child.wait().unwrap();
        self.own.take()
    }

    /// Its standard output so far; all of it if it has ended.
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

    /// Waits until it accepts no connection any more.
    pub(crate) fn refuses_connections(&self) {
        eventually("it still accepts connections", || {
            TcpStream::connect(self.address()).is_err()
        });
    }

    /// A sample on its metrics page; 0 if it isn't there.
    pub(crate) fn metric(&self, name: &str) -> f64 {
        let page = self.client().ask(Request::get("/metrics")).text();
        page.lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))
            .map_or(0.0, |value| value.parse().unwrap())
    }
}

impl Drop for Landfall {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs the program to its end: status, standard output, standard error.
pub(crate) fn run(command: &mut Command) -> (Option<i32>, String, String) {
    let output = command.stdin(Stdio::null()).output().unwrap();
    (
        output.status.code(),
        String::from_utf8(output.stdout).unwrap(),
        String::from_utf8(output.stderr).unwrap(),
    )
}

/// Waits until something holds.
pub(crate) fn eventually(otherwise: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + TIMEOUT;
    while !holds() {
        assert!(Instant::now() < end, "{otherwise}");
        thread::sleep(Duration::from_millis(2));
    }
}
