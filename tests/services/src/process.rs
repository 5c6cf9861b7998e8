//! A process that ends with the test, however the test ends.

use std::{
    env,
    net::{Ipv4Addr, TcpStream},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use crate::{folder::temporary, ports::free_ports};

/// RabbitMQ takes ten seconds, and most of a minute on a machine that is busy.
const START_TIMEOUT: Duration = Duration::from_secs(120);
/// Another process may take a port between our looking for one and the service's binding it.
const ATTEMPTS: u32 = 5;

/// Nothing a test process does, or fails to do, leaves a service or its folder behind.
const WATCHDOG: &str = include_str!("watchdog.sh");

/// The signal that stops a service.
#[derive(Debug, Clone, Copy)]
pub(crate) enum StopSignal {
    /// SIGKILL, for a single process.
    Kill,
    /// SIGQUIT, for a service with child processes; as abrupt.
    Quit,
    /// SIGTERM, for a script, which cannot trap SIGQUIT in the background.
    Terminate,
}

/// A service and its folder. Both are gone after the drop, or when this process ends.
#[derive(Debug)]
pub(crate) struct Process {
    watchdog: Child,
}

impl Process {
    /// Starts a program on `N` free ports, and waits until it accepts connections on the first
    /// one. `command` makes the command line, given a new folder and the ports.
    ///
    /// # Panics
    ///
    /// When the program isn't there or does not come up.
    #[track_caller]
    pub(crate) fn start<const N: usize>(
        what: &str,
        ending: StopSignal,
        mut command: impl FnMut(&Path, [u16; N]) -> Command,
    ) -> (Self, [u16; N]) {
        for _ in 0..ATTEMPTS {
            let ports = free_ports();
            if let Some(process) = Self::start_on(what, ending, ports[0], |dir| command(dir, ports))
            {
                return (process, ports);
            }
        }
        panic!("{what} ended {ATTEMPTS} times while it started; its output is above")
    }

    /// Like [`Self::start`], on a port that is known. `None` when the program ended while it
    /// started.
    #[track_caller]
    pub(crate) fn start_on(
        what: &str,
        ending: StopSignal,
        port: u16,
        command: impl FnOnce(&Path) -> Command,
    ) -> Option<Self> {
        let dir = temporary();
        let service = command(&dir);
        let mut shell = Command::new("/bin/sh");
        shell
            .args(["-c", WATCHDOG, "watchdog"])
            .arg(&dir)
            .arg(match ending {
                StopSignal::Kill => "KILL",
                StopSignal::Quit => "QUIT",
                StopSignal::Terminate => "TERM",
            })
            .arg(service.get_program())
            .args(service.get_args())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            // Ctrl-C is for the test; this process is stopped by the pipe.
            .process_group(0);
        for (name, value) in service.get_envs() {
            match value {
                Some(value) => shell.env(name, value),
                None => shell.env_remove(name),
            };
        }
        let mut process = Self {
            watchdog: shell.spawn().unwrap(),
        };
        let started = Instant::now();
        loop {
            if TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok() {
                // Unless another process has taken the port.
                return process.is_running().then_some(process);
            }
            if !process.is_running() {
                return None;
            }
            assert!(
                started.elapsed() < START_TIMEOUT,
                "{what} did not listen within {START_TIMEOUT:?}"
            );
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Waits until it accepts connections on another of its ports, too.
    ///
    /// # Panics
    ///
    /// When it ends before that.
    #[track_caller]
    pub(crate) fn wait_for(&mut self, port: u16) {
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
            assert!(self.is_running(), "it ended before it listened on {port}");
            thread::sleep(Duration::from_millis(10));
        }
    }

    fn is_running(&mut self) -> bool {
        self.watchdog.try_wait().unwrap().is_none()
    }

    /// The watchdog's process id.
    pub(crate) fn id(&self) -> u32 {
        self.watchdog.id()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.watchdog.stdin.take());
        let _ = self.watchdog.wait();
    }
}

/// The program `name` in `folder`, where scripts/install-test-deps puts it, or else in $PATH.
///
/// # Panics
///
/// When it is in neither, with the line to run.
#[track_caller]
pub(crate) fn find(name: &str, folder: &Path) -> PathBuf {
    let path = env::var_os("PATH").unwrap_or_default();
    [folder.to_owned()]
        .into_iter()
        .chain(env::split_paths(&path))
        .map(|folder| folder.join(name))
        .find(|program| program.is_file())
        .unwrap_or_else(|| panic!("{name} is not installed; run: scripts/install-test-deps rust"))
}

/// A folder below the user's home: `$variable`, or else `~/fallback`.
pub(crate) fn user_folder(variable: &str, fallback: &str) -> PathBuf {
    env::var_os(variable)
        .filter(|value| !value.is_empty())
        .map_or_else(
            || PathBuf::from(env::var_os("HOME").unwrap_or_default()).join(fallback),
            PathBuf::from,
        )
}
