//! What the settings of the server's own memory mean.

use std::env;
use std::ffi::OsString;
use std::path::PathBuf;

use super::{Secret, Settings};

/// The folder in an upload directory for leases and, unless another is named, for the server's state.
const OWN_FOLDER: &str = ".landfall";

/// The file of SQLite in the state folder.
const FILE: &str = "landfall.db";

/// What the server keeps beside uploads, and where.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct State {
    /// The folder; `None` is the usual one.
    pub dir: Option<PathBuf>,
    /// The database, if it isn't a file in that folder.
    pub database: Option<Database>,
    /// What this server is called among several; `None` is the name of the machine.
    pub node: Option<String>,
}

/// A database.
#[derive(Clone, Debug, PartialEq)]
pub enum Database {
    /// A file of SQLite.
    File(PathBuf),
    /// A PostgreSQL server, by its URL.
    Postgres(Secret),
}

impl Settings {
    /// The state folder: the one that is named, that of systemd, or the usual one.
    pub(crate) fn state_dir(&self) -> PathBuf {
        self.state_dir_by(|name| env::var_os(name).filter(|value| !value.is_empty()))
    }

    /// The same with these environment variables.
    pub(crate) fn state_dir_by(&self, variable: impl Fn(&str) -> Option<OsString>) -> PathBuf {
        if let Some(dir) = &self.state.dir {
            return dir.clone();
        }
        // systemd: several are parted by colons.
        let of_unit = variable("STATE_DIRECTORY")
            .and_then(|dirs| env::split_paths(&dirs).next())
            .filter(|dir| dir.is_absolute());
        if let Some(dir) = of_unit {
            return dir;
        }
        if self.s3.bucket.is_none() {
            // Beside the leases, where nothing is taken for an upload.
            return self.own_folder();
        }
        let absolute = |name: &str| {
            variable(name)
                .map(PathBuf::from)
                .filter(|path| path.is_absolute())
        };
        absolute("XDG_STATE_HOME")
            .or_else(|| Some(absolute("HOME")?.join(".local/state")))
            .unwrap_or_else(|| PathBuf::from("/var/lib"))
            .join("landfall")
    }

    /// The folder in the upload directory that is the server's own: its leases, and unless another place
    /// is named, its state.
    pub(crate) fn own_folder(&self) -> PathBuf {
        self.storage.upload_dir.join(OWN_FOLDER)
    }

    /// The database: the one that is named, or a file in the state folder.
    pub(crate) fn database(&self) -> Database {
        match &self.state.database {
            Some(database) => database.clone(),
            None => Database::File(self.state_dir().join(FILE)),
        }
    }
}
