//! Redis, which forgets everything when it is stopped.

use std::{path::Path, process::Command};

use crate::process::{Process, StopSignal, find};

/// A Redis server of one test. Ends when it is dropped, or with this process.
#[derive(Debug)]
pub struct Redis {
    process: Option<Process>,
    port: u16,
}

impl Redis {
    /// Starts one, which takes some hundredths of a second.
    ///
    /// # Panics
    ///
    /// When Redis is not installed or does not start.
    #[must_use]
    pub fn start() -> Self {
        let (process, [port]) =
            Process::start("Redis", StopSignal::Kill, |dir, [port]| server(dir, port));
        Self {
            process: Some(process),
            port,
        }
    }

    /// `redis://127.0.0.1:PORT`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// The port it listens on, also after it has been stopped and started again.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Kills the server: connections break, and its data is lost.
    pub fn stop(&mut self) {
        self.process = None;
    }

    /// Starts it again on the same port, empty. One that runs is killed before.
    ///
    /// # Panics
    ///
    /// When it does not come up.
    pub fn restart(&mut self) {
        self.stop();
        let port = self.port;
        let process = Process::start_on("Redis", StopSignal::Kill, port, |dir| server(dir, port));
        assert!(process.is_some(), "Redis did not start again on {port}");
        self.process = process;
    }
}

fn server(dir: &Path, port: u16) -> Command {
    let mut command = Command::new(find("redis-server", Path::new("/usr/bin")));
    command
        .args(["--bind", "127.0.0.1", "--port", &port.to_string()])
        .args(["--save", "", "--appendonly", "no", "--dir"])
        .arg(dir);
    command
}
