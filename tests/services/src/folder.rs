//! A folder that ends with the test, however the test ends.

use std::{
    env, fs, io,
    os::unix::{fs::DirBuilderExt as _, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use crate::fresh_name;

/// Processes that still run in the folder end at the same time, and may write until then.
const REMOVE: &str = r#"trap '' HUP INT TERM
read -r _
tries=150
until rm -rf "$1" 2>/dev/null || [ $((tries -= 1)) -eq 0 ]; do sleep 0.1; done"#;

/// The data of a service, which survives its restarts. Removed on drop or when this process ends; drop
/// it after the service.
#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    remover: Child,
}

impl Folder {
    pub(crate) fn new() -> Self {
        let path = temporary();
        let remover = Command::new("/bin/sh")
            .args(["-c", REMOVE, "remover"])
            .arg(&path)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .process_group(0)
            .spawn()
            .unwrap();
        Self { path, remover }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(self.remover.stdin.take());
        let _ = self.remover.wait();
    }
}

/// Makes a folder that only this user may enter.
pub(crate) fn temporary() -> PathBuf {
    loop {
        let dir = env::temp_dir().join(fresh_name("landfall-test"));
        match fs::DirBuilder::new().mode(0o700).create(&dir) {
            Ok(()) => return dir,
            // Of a process that had our id before a sudden end of the machine.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => panic!("{}: {error}", dir.display()),
        }
    }
}
