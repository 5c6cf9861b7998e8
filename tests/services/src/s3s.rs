//! s3s: an S3 server that stores objects in files. It checks signatures and POST policies independently.

use std::{fs, path::PathBuf, process::Command};

use crate::{
    Access,
    folder::Folder,
    fresh_name,
    process::{Process, StopSignal, find, user_folder},
};

/// A server of s3s. Ends when it is dropped, or with this process.
#[derive(Debug)]
pub struct S3s {
    access: Access,
    root: PathBuf,
    _process: Process,
    _folder: Folder,
}

s3_service!(S3s);

impl S3s {
    /// Starts a separate server, which takes a tenth of a second.
    ///
    /// # Panics
    ///
    /// When s3s is not installed or does not start.
    #[must_use]
    pub fn start() -> Self {
        const KEY: &str = "AKIDTHIRD";
        const SECRET: &str = "third/secret+of/tests";
        let cargo = user_folder("CARGO_HOME", ".cargo").join("bin");
        let program = find("s3s-fs", &cargo);
        let folder = Folder::new();
        let root = folder.path().join("buckets");
        fs::create_dir_all(&root).unwrap();
        let (process, [port]) = Process::start("s3s", StopSignal::Kill, |_, [port]| {
            let mut command = Command::new(&program);
            command
                .args(["--host", "127.0.0.1", "--port", &port.to_string()])
                .args(["--access-key", KEY, "--secret-key", SECRET])
                .arg(&root)
                .env("RUST_LOG", "error");
            command
        });
        Self {
            access: Access {
                endpoint: format!("http://127.0.0.1:{port}"),
                region: "eu-central-1".to_owned(),
                access_key: KEY.to_owned(),
                secret_key: SECRET.to_owned(),
            },
            root,
            _process: process,
            _folder: folder,
        }
    }

    /// Creates a bucket and returns its name, which starts with `stem`.
    ///
    /// # Panics
    ///
    /// When the folder cannot be created.
    #[must_use]
    pub fn bucket(&self, stem: &str) -> String {
        let name = fresh_name(stem);
        fs::create_dir(self.root.join(&name)).unwrap();
        name
    }
}
