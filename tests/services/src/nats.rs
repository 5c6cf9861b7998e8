//! NATS with JetStream, which keeps its streams over a restart.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    folder::Folder,
    process::{Process, StopSignal, find},
};

/// A NATS server of one test. Ends when it is dropped, or with this process.
#[derive(Debug)]
pub struct Nats {
    // Before the folder: fields are dropped in this order.
    process: Option<Process>,
    folder: Folder,
    port: u16,
}

impl Nats {
    /// The user that may do everything, and the password.
    pub const USER: (&str, &str) = ("landfall", "p4ssword");
    /// The user that may publish nothing but requests.
    pub const LIMITED: (&str, &str) = ("limited", "p4ssword");

    /// Starts one, which takes some hundredths of a second.
    ///
    /// # Panics
    ///
    /// When NATS is not installed or does not start.
    #[must_use]
    pub fn start() -> Self {
        let folder = Folder::new();
        let (process, [port]) = Process::start("NATS", StopSignal::Kill, |_, [port]| {
            server(&config(folder.path(), port))
        });
        Self {
            process: Some(process),
            folder,
            port,
        }
    }

    /// `nats://USER:PASSWORD@127.0.0.1:PORT`.
    #[must_use]
    pub fn url(&self) -> String {
        self.url_of(Self::USER)
    }

    /// The same for another user.
    #[must_use]
    pub fn url_of(&self, (user, password): (&str, &str)) -> String {
        format!("nats://{user}:{password}@127.0.0.1:{}", self.port)
    }

    /// Kills it: connections break; streams stay.
    pub fn stop(&mut self) {
        self.process = None;
    }

    /// Starts it again on the same port, with its streams. One that runs is killed before.
    ///
    /// # Panics
    ///
    /// When it does not come up.
    pub fn restart(&mut self) {
        self.stop();
        let config = config(self.folder.path(), self.port);
        let process = Process::start_on("NATS", StopSignal::Kill, self.port, |_| server(&config));
        assert!(
            process.is_some(),
            "NATS did not start again on {}",
            self.port
        );
        self.process = process;
    }
}

fn config(dir: &Path, port: u16) -> PathBuf {
    let file = dir.join("nats.conf");
    let ((user, password), (limited, secret)) = (Nats::USER, Nats::LIMITED);
    let text = format!(
        "listen: \"127.0.0.1:{port}\"\n\
         jetstream {{ store_dir: {store:?} }}\n\
         authorization {{ users = [\n\
         {{ user: {user}, password: {password} }}\n\
         {{ user: {limited}, password: {secret}, permissions: \
            {{ publish: [\"_INBOX.>\"], subscribe: [\"_INBOX.>\"] }} }}\n\
         ] }}\n",
        store = dir.join("jetstream"),
    );
    fs::write(&file, text).unwrap();
    file
}

fn server(config: &Path) -> Command {
    let mut command = Command::new(find("nats-server", Path::new("/usr/sbin")));
    command.arg("-c").arg(config);
    command
}
