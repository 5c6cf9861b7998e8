//! Command hooks.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

/// Writes a hook as a shell script.
pub(crate) fn write_hook(dir: &Path, name: &str, script: &str) {
    let file = dir.join(name);
    let whole = dir.join(format!("{name}.new"));
    fs::write(&whole, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(&whole, fs::Permissions::from_mode(0o755)).unwrap();
    fs::rename(whole, file).unwrap();
}

/// A folder with one hook.
pub(crate) fn with_hook(name: &str, script: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    write_hook(dir.path(), name, script);
    dir
}
