//! Runs the program with a separate home directory.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, ExitStatus, Output, Stdio},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;
use tempfile::TempDir;

/// The home directory of a user who runs the program; it has the files to upload, too.
pub(crate) struct Home(TempDir);

/// The output of a finished program.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// A running program with `--json`. It is killed when the test ends.
pub(crate) struct Running {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Home {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    /// Writes a file of so many bytes, which depend on `seed`.
    pub(crate) fn file(&self, name: &str, size: usize, seed: u64) -> PathBuf {
        let path = self.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes(size, seed)).unwrap();
        path
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_landfall-cli"));
        command
            .args(arguments)
            .current_dir(self.path())
            .env_clear()
            .env("HOME", self.path())
            .env("PATH", "/usr/bin:/bin")
            .stdin(Stdio::null());
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Finished {
        self.command(arguments).output().unwrap().into()
    }

    /// Runs the program, which must succeed, and returns the lines of its output.
    pub(crate) fn lines(&self, arguments: &[&str]) -> Vec<String> {
        let finished = self.run(arguments);
        assert_eq!(finished.code, Some(0), "{finished:?}");
        finished.stdout.lines().map(str::to_owned).collect()
    }

    /// Runs the program with `--json`; returns the code and the events.
    pub(crate) fn events(&self, arguments: &[&str]) -> (Option<i32>, Vec<Value>) {
        let finished = self.run(&[arguments, &["--json"]].concat());
        let events = finished
            .stdout
            .lines()
            .map(|line| serde_json::from_str(line).unwrap());
        (finished.code, events.collect())
    }

    /// Starts the program with `--json`.
    pub(crate) fn start(&self, arguments: &[&str]) -> Running {
        let mut command = self.command(&[arguments, &["--json"]].concat());
        let command = command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        Running { child, lines }
    }
}

impl From<Output> for Finished {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

impl Running {
    /// Waits for an event that matches.
    pub(crate) fn wait_for(&mut self, matches: impl Fn(&Value) -> bool) -> Value {
        loop {
            let mut line = String::new();
            assert_ne!(
                self.lines.read_line(&mut line).unwrap(),
                0,
                "the program ended"
            );
            let event: Value = serde_json::from_str(&line).unwrap();
            if matches(&event) {
                return event;
            }
        }
    }

    /// Waits until the server has acknowledged or received so many bytes.
    pub(crate) fn wait_for_bytes(&mut self, bytes: u64) {
        self.wait_for(|event| {
            event["event"] == "progress" && event["bytes"].as_u64().unwrap() >= bytes
        });
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).unwrap();
        kill(Pid::from_raw(pid), signal).unwrap();
    }

    pub(crate) fn wait(&mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Pseudo-random bytes (splitmix64), in which a misplaced block shows.
pub(crate) fn bytes(size: usize, seed: u64) -> Vec<u8> {
    let mut state = seed;
    let mut bytes = Vec::with_capacity(size + 8);
    while bytes.len() < size {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = state;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bytes.extend((word ^ (word >> 31)).to_le_bytes());
    }
    bytes.truncate(size);
    bytes
}
