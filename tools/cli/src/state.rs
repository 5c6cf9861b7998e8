//! The user's directory for state.

use std::{
    env,
    fs::{DirBuilder, File},
    io,
    path::{Path, PathBuf},
};

use landfall_client::FileFingerprints;

/// Returns `$XDG_STATE_HOME/landfall`, by default `~/.local/state/landfall`; `None` without a home directory.
pub(crate) fn directory() -> Option<PathBuf> {
    // The specification of XDG ignores relative paths.
    let absolute = |name| {
        env::var_os(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    absolute("XDG_STATE_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".local/state")))
        .map(|state| state.join("landfall"))
}

/// Returns the store of unfinished transfers.
pub(crate) fn fingerprints() -> Option<FileFingerprints> {
    directory().map(|directory| FileFingerprints::new(directory.join("uploads")))
}

/// Opens a file of the directory for appending; only the user can read it.
pub(crate) fn append(path: &Path) -> io::Result<File> {
    let (mut file, mut directory) = (File::options(), DirBuilder::new());
    file.append(true).create(true);
    directory.recursive(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
        file.mode(0o600);
        directory.mode(0o700);
    }
    if let Some(parent) = path.parent() {
        directory.create(parent)?;
    }
    file.open(path)
}
