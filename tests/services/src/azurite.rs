//! Azurite: Microsoft's emulator of Azure Blob Storage. It checks keys, shared access signatures and checksums.
//!
//! Unlike the service, it takes empty blocks, answers 202 when a blob that has only uncommitted blocks is deleted,
//! has an empty range at the end of a blob, and takes no signature of the account for a copy.

use std::{env, process::Command};

use crate::{
    fresh_name, plain_http,
    process::{Process, StopSignal, find, user_folder},
};

/// The account that every Azurite has, and its public key.
const ACCOUNT: &str = "devstoreaccount1";
const KEY: &str =
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

/// Made of the key above, for all containers and blobs of the account, until 2099.
const SAS: &str = "sv=2020-12-06&ss=b&srt=sco&sp=rwdlac&se=2099-01-01T00%3A00%3A00Z&\
    sig=N5uz2Xeys0I28PmqjyjbsCHaHaD7oWInzBEyCFTa6O8%3D";
const READ_ONLY_SAS: &str = "sv=2020-12-06&ss=b&srt=sco&sp=r&se=2099-01-01T00%3A00%3A00Z&\
    sig=z2mz0XtuYHxBqg8vstehgcV4KrllUhzeUBNrznY6z7c%3D";
const LIST_SAS: &str = "sv=2020-12-06&ss=b&srt=co&sp=l&se=2099-01-01T00%3A00%3A00Z&\
    sig=hD7Cgmm45h5uoIzhQ9m2wOc09CLuoC40y5wpWthwczs%3D";
const EXPIRED_SAS: &str = "sv=2020-12-06&ss=b&srt=sco&sp=rwdlac&se=2020-12-31T00%3A00%3A00Z&\
    sig=FS0oUwtKqTf5KzrbE8fmQKHmT%2BvwLr0K0Md04ucrjzg%3D";

/// An Azurite. Ends when it is dropped, or with this process.
#[derive(Debug)]
pub struct Azurite {
    authority: String,
    _process: Process,
}

impl Azurite {
    /// The name of the account.
    pub const ACCOUNT: &str = ACCOUNT;
    /// The key of the account, in base64.
    pub const KEY: &str = KEY;
    /// A shared access signature with all rights on containers and blobs, without a question mark.
    pub const SAS: &str = SAS;
    /// One that may only read blobs.
    pub const READ_ONLY_SAS: &str = READ_ONLY_SAS;
    /// One that may only list blobs.
    pub const LIST_SAS: &str = LIST_SAS;
    /// One that has expired.
    pub const EXPIRED_SAS: &str = EXPIRED_SAS;

    /// The one that all tests of this process share.
    #[must_use]
    pub fn shared() -> &'static Self {
        static SHARED: std::sync::OnceLock<Azurite> = std::sync::OnceLock::new();
        SHARED.get_or_init(Self::start)
    }

    /// Starts a separate one, which takes about a second.
    ///
    /// # Panics
    ///
    /// When Azurite is not installed or does not start.
    #[must_use]
    pub fn start() -> Self {
        let cache = user_folder("XDG_CACHE_HOME", ".cache").join("landfall-tests");
        let program = find("azurite-blob", &cache.join("azurite/node_modules/.bin"));
        // The system may have no Node, or an old one; scripts/install-test-deps puts one here.
        let mut folders = vec![cache.join("node/node_modules/.bin")];
        folders.extend(env::split_paths(&env::var_os("PATH").unwrap_or_default()));
        let path = env::join_paths(folders).unwrap();
        let (process, [port]) = Process::start("Azurite", StopSignal::Kill, |dir, [port]| {
            let mut command = Command::new(&program);
            command
                .args(["--blobHost", "127.0.0.1", "--blobPort", &port.to_string()])
                .arg("--location")
                .arg(dir)
                // Without the first, it reports to its maker.
                .args(["--disableTelemetry", "--silent"])
                .env("PATH", &path);
            command
        });
        Self {
            authority: format!("127.0.0.1:{port}"),
            _process: process,
        }
    }

    /// Its URL without the account, and without a slash at the end.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.authority)
    }

    /// Makes a new private container and gives its name, which begins with `stem`.
    ///
    /// # Panics
    ///
    /// When Azurite refuses.
    #[must_use]
    pub fn container(&self, stem: &str) -> String {
        let name = fresh_name(stem);
        let path = format!("/{ACCOUNT}/{name}?restype=container&{SAS}");
        plain_http::must(&self.authority, "PUT", &path, &[], "");
        name
    }
}
