//! grpcio: gRPC by others and in another language, for hook servers that know nothing of ours.

use std::{ffi::OsStr, path::Path, process::Command};

use crate::process::{Process, StopSignal, find, user_folder};

/// A Python program that serves gRPC. Ends when it is dropped, or with this process.
#[derive(Debug)]
pub struct Grpcio {
    port: u16,
    _process: Process,
}

impl Grpcio {
    /// Runs `script ARGUMENT... FOLDER PORT` in a Python that has grpcio and grpcio-tools. The folder
    /// is new and goes with the program, which has to listen on the port of loopback.
    ///
    /// # Panics
    ///
    /// When grpcio is not installed or the program does not listen.
    #[must_use]
    #[track_caller]
    pub fn start(script: &Path, arguments: &[&OsStr]) -> Self {
        let folder = user_folder("XDG_CACHE_HOME", ".cache").join("landfall-tests/grpcio/bin");
        // Any folder has a Python; this comes with grpcio-tools.
        let python = find("python-grpc-tools-protoc", &folder).with_file_name("python");
        let (process, [port]) = Process::start(
            "the grpcio server",
            StopSignal::Kill,
            |folder, [port]: [u16; 1]| {
                let mut command = Command::new(&python);
                command
                    .arg(script)
                    .args(arguments)
                    .arg(folder)
                    .arg(port.to_string());
                command
            },
        );
        Self {
            port,
            _process: process,
        }
    }

    /// The port of loopback on which it listens.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }
}
