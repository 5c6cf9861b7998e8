//! Decides where the server stores its files and its database, by settings and variables of the system.
//!
//! Reads and creates no file: `settings::secure` creates the state directory before its first use.

use std::env;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use super::Settings;
use super::table::group;
use crate::settings::types::Database;
use crate::settings::{grants, hooks, value};

const OWN_DIR: &str = ".landfall";

const FILE: &str = "landfall.db";

group! {
    /// Settings of the state directory and of the database.
    pub struct State at state;
    dir: Option<PathBuf> = value::path_or_none, "state-dir", Text("DIR"), ""
        => "Directory of the server's own files; created when needed. Not set: STATE_DIRECTORY of \
            systemd, otherwise .landfall in the upload directory, or ~/.local/state/landfall with \
            a bucket.";
    database: Option<Database> = hooks::database, "database", Text("URL|FILE"), "", SecretInUrl
        => "Database of the outbox, grants, the dashboard and, with PostgreSQL, of certificates of \
            --acme-domain: a PostgreSQL URL, which several \
            nodes can share, such as postgres://landfall@db.example.com/landfall, or a SQLite \
            file. Not set: landfall.db in the state directory.";
    connections: u32 = value::connections, "database-connections", Number("COUNT"), "5"
        => "Maximum connections of this node to the PostgreSQL of --database, and to that of --lease if it is \
            another one; at least 3: one is for notifications, one for leases. All nodes together need less than \
            the server's max_connections.";
    retention: Duration = value::some_duration, "retention", Time, "30d"
        => "Time for which finished jobs and dead letters are stored.";
    node: Option<String> = grants::node, "node-name", Text("NAME"), ""
        => "Name of this node in a shared database. Not set: the host name.";
}

impl Settings {
    /// The configured one, systemd's, or the default.
    pub(crate) fn state_dir(&self) -> PathBuf {
        self.state_dir_by(|name| env::var_os(name).filter(|value| !value.is_empty()))
    }

    pub(crate) fn state_dir_by(&self, variable: impl Fn(&str) -> Option<OsString>) -> PathBuf {
        if let Some(dir) = &self.state.dir {
            return dir.clone();
        }
        // systemd separates several by colons.
        let of_unit = variable("STATE_DIRECTORY");
        let of_unit = of_unit.and_then(|dirs| env::split_paths(&dirs).next());
        if let Some(dir) = of_unit.filter(|dir| dir.is_absolute()) {
            return dir;
        }
        if self.uses_directory() {
            return self.own_dir();
        }
        let path = |name| variable(name).map(PathBuf::from);
        let absolute = |name| path(name).filter(|path| path.is_absolute());
        let in_home = || Some(absolute("HOME")?.join(".local/state"));
        let dir = absolute("XDG_STATE_HOME").or_else(in_home);
        dir.unwrap_or(PathBuf::from("/var/lib")).join("landfall")
    }

    pub(crate) fn own_dir(&self) -> PathBuf {
        self.storage.upload_dir.join(OWN_DIR)
    }

    /// The configured one, or a file in the state directory.
    pub(crate) fn database(&self) -> Database {
        match &self.state.database {
            Some(database) => database.clone(),
            None => Database::Sqlite(self.state_dir().join(FILE)),
        }
    }
}
