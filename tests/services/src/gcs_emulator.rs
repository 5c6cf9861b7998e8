//! gcp-storage-emulator: an emulator of Google Cloud Storage by others, for a second opinion on the form of requests.
//!
//! Version 2026.7.19 is lenient where [`GcsFake`](crate::GcsFake) is strict, so a test may rely on it for bytes, not for
//! rules. The table comes from calls to it and from its source:
//!
//! | call | difference from the service |
//! |---|---|
//! | all | needs no token; ignores `generation` and every precondition, those of sources too; a 404 has no body, in batches apart |
//! | connections | HTTP/1.0, one request at a time: a connection that is open and silent blocks all others |
//! | resumable session | granules are not enforced; a repeated chunk is a 400; to cancel is a 501 |
//! | compose | takes more than 32 sources; the result has an MD5 and no `componentCount`, and the content type of the first source unless the request has one; without a `destination` the connection breaks |
//! | rewrite | ignores the metadata of the request |
//! | list | all objects on one page: `maxResults`, `pageToken`, `startOffset` and `endOffset` are ignored; `prefixes` may be empty |
//! | batch | PATCH, DELETE and `copyTo` only, of any number; responses have no `Content-ID`, and no empty line before their status |
//! | download | a range after the end is a 206 without bytes; a range of the last bytes is ignored |
//! | `iam/testPermissions` | grants every permission |
//! | XML API | GET and PUT, signed or not; of the signature nothing is checked; a PUT ignores metadata |

use std::{
    process::Command,
    time::{Duration, Instant},
};

use crate::{
    Access, plain_http,
    process::{Process, StopSignal, find, user_folder},
};

const START_TIMEOUT: Duration = Duration::from_secs(60);

/// An emulator with one bucket, in memory. It ends when it is dropped, or with this process.
#[derive(Debug)]
pub struct GcsEmulator {
    access: Access,
    _process: Process,
}

impl GcsEmulator {
    /// The name of the bucket that it has from the start.
    pub const BUCKET: &str = "emulated";

    /// Starts an emulator, which takes about half a second.
    ///
    /// # Panics
    ///
    /// When the emulator is not installed or does not start.
    #[must_use]
    pub fn start() -> Self {
        let folder = user_folder("XDG_CACHE_HOME", ".cache").join("landfall-tests/gcs/bin");
        let program = find("gcp-storage-emulator", &folder);
        let (process, [port]) =
            Process::start("gcp-storage-emulator", StopSignal::Kill, |_, [port]| {
                let mut command = Command::new(&program);
                command
                    .args(["start", "--host", "127.0.0.1", "--port", &port.to_string()])
                    .args(["--quiet", "--in-memory", "--default-bucket", Self::BUCKET]);
                command
            });
        let emulator = Self {
            access: Access {
                endpoint: format!("http://127.0.0.1:{port}"),
                region: "auto".to_owned(),
                access_key: String::new(),
                secret_key: String::new(),
            },
            _process: process,
        };
        emulator.wait_for_bucket();
        emulator
    }

    /// Connections are accepted a moment before requests are.
    fn wait_for_bucket(&self) {
        let path = format!("/storage/v1/b/{}", Self::BUCKET);
        let started = Instant::now();
        loop {
            match plain_http::call(self.access.authority(), "GET", &path, &[], "") {
                Ok((200, _)) => return,
                _ if started.elapsed() < START_TIMEOUT => {}
                response => panic!("gcp-storage-emulator is not ready: {response:?}"),
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Returns its address: scheme, host and port, without a slash at the end.
    #[must_use]
    pub fn endpoint(&self) -> String {
        self.access.endpoint.clone()
    }

    /// Returns its address for a [`Proxy`](crate::Proxy). It has no keys.
    #[must_use]
    pub fn access(&self) -> Access {
        self.access.clone()
    }
}
