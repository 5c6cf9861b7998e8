//! The database that outbox, queue, direct uploads, certificates and leases share, and the name of this node in it.
//!
//! `SharedDatabase` opens it once, at its first use: on SQLite, several sets of connections would wait for each other.
//! Without `--database`, it secures the state directory first. Commands other than the server and
//! `landfall migrate` do not migrate existing tables.

use std::path::Path;

use anyhow::Context as _;
use landfall_state::sql::{Connections, Database, Durability as DatabaseDurability};
use parking_lot::Mutex;
use tokio::sync::OnceCell;

use crate::{
    condition::{ConditionKind, Conditions},
    settings::{self, Durability, LeaseKind, Settings},
};

pub(super) fn node_name(settings: &Settings) -> String {
    settings.state.node.clone().unwrap_or_else(|| {
        let system = rustix::system::uname();
        system.nodename().to_string_lossy().into_owned()
    })
}

/// Returns whether a path is on a network file system, where SQLite is not safe, and where acknowledged bytes may be in the
/// memory of one machine alone. Checks the nearest existing ancestor.
pub(super) fn is_on_network(path: &Path) -> bool {
    /// Magic numbers of NFS, SMB, CIFS, SMB2, Ceph, 9p and AFS.
    const OVER_NETWORK: [i64; 7] = [
        0x6969,
        0x517b,
        0xff53_4d42,
        0xfe53_4d42,
        0x00c3_6400,
        0x0102_1997,
        0x5346_414f,
    ];
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let mut ancestors = path.ancestors();
    let found = ancestors.find_map(settings::file_system);
    found.is_some_and(|magic| OVER_NETWORK.contains(&magic))
}

/// Says what a directory on a network file system needs if several machines serve it.
fn advice_on_network(settings: &Settings) -> Option<&'static str> {
    let is_local = !settings.uses_directory() || settings.leases.kind == LeaseKind::Memory;
    (!is_local && settings.storage.durability != Durability::Every).then_some(
        "the uploads are on a network file system: what this server has acknowledged may be in the memory of this \
         machine alone when another one takes over; use --durability every, or --lease memory if this server is the \
         only one",
    )
}

pub(super) fn warn_about_location(settings: &Settings) {
    let uploads = &settings.storage.upload_dir;
    if let Some(advice) = advice_on_network(settings)
        && is_on_network(uploads)
    {
        tracing::warn!(directory = %uploads.display(), "{advice}");
    }
    let Database::Sqlite(file) = settings.database() else {
        return;
    };
    if is_on_network(&file) {
        tracing::warn!(
            file = %file.display(),
            "the database is on a network file system, where SQLite is not safe: set --state-dir to a \
             local directory, or use --database postgres://…"
        );
    }
    let shares_bucket = !settings.uses_directory()
        && !matches!(settings.leases.kind, LeaseKind::Auto | LeaseKind::Memory);
    if shares_bucket {
        tracing::warn!(
            file = %file.display(),
            "events and grants are stored in a local file, which other nodes cannot read and which is \
             lost with this disk: nodes that share a bucket can share a database, see --database"
        );
    }
}

/// What the reason of a failed connection contains: the texts of PostgreSQL depend on its language.
const REJECTIONS: &[(ConditionKind, &[&str])] = &[
    (ConditionKind::DatabaseFull, &["(SQLSTATE 53"]),
    (
        ConditionKind::DatabaseLogin,
        &["(SQLSTATE 28", "(SQLSTATE 3D"],
    ),
    (ConditionKind::DatabaseReadOnly, &["it is read-only"]),
];

#[derive(Debug, Default)]
pub(super) struct SharedDatabase {
    connections: OnceCell<Connections>,
    /// Those of leases, if they are in another PostgreSQL.
    lease_connections: OnceCell<Connections>,
    is_tool: bool,
    /// The other users who can replace the file.
    exposed: Mutex<Option<String>>,
}

impl SharedDatabase {
    /// Commands other than the server check tables and do not migrate them.
    pub(super) fn for_tool() -> Self {
        Self {
            is_tool: true,
            ..Self::default()
        }
    }

    pub(super) async fn connect(
        &self,
        settings: &Settings,
        purpose: &str,
    ) -> anyhow::Result<Connections> {
        // The database need not survive what uploads do not survive.
        let is_durable =
            !settings.uses_directory() || settings.storage.durability != Durability::None;
        let durability = if is_durable {
            DatabaseDurability::PowerLoss
        } else {
            DatabaseDurability::ProcessCrash
        };
        let open = async || {
            let (database, name) = named_database(settings);
            *self.exposed.lock() = secure(settings)?;
            let max = settings.state.connections;
            let connections = database.open_with(durability, max).await;
            let failure = || format!("cannot store {purpose} in {name}");
            let connections = connections.with_context(failure)?;
            Ok::<_, anyhow::Error>(match self.is_tool {
                true => connections.without_migrations(),
                false => connections,
            })
        };
        let connections = self.connections.get_or_try_init(open).await?;
        Ok(connections.share())
    }

    /// Returns connections to the PostgreSQL of leases: those of the database if it has the same URL.
    pub(super) async fn connect_leases(
        &self,
        settings: &Settings,
        url: &str,
    ) -> anyhow::Result<Connections> {
        if settings.database() == Database::Postgres(url.to_owned()) {
            return self.connect(settings, "leases").await;
        }
        let max = settings.state.connections;
        let open = async || {
            let durability = DatabaseDurability::PowerLoss;
            Connections::to_postgres(url, durability, max).context("--lease")
        };
        let connections = self.lease_connections.get_or_try_init(open).await?;
        Ok(connections.share())
    }

    /// Raises why PostgreSQL rejects connections, or clears it.
    pub(super) fn report(&self, conditions: &Conditions) {
        let opened = [
            ("--database", &self.connections),
            ("--lease", &self.lease_connections),
        ];
        for (setting, connections) in opened {
            let Some(connections) = connections.get() else {
                continue;
            };
            let error = connections.connect_error();
            for (kind, signs) in REJECTIONS {
                let is_of_kind = |error: &&String| signs.iter().any(|sign| error.contains(sign));
                let detail = error.as_ref().filter(is_of_kind);
                conditions.set(*kind, setting, detail);
            }
        }
    }

    pub(super) fn exposed(&self) -> Option<String> {
        self.exposed.lock().clone()
    }

    pub(super) async fn close(&self) {
        for connections in [&self.connections, &self.lease_connections] {
            if let Some(connections) = connections.get() {
                connections.close().await;
            }
        }
    }
}

/// Checks the directory of the default database before it is opened, and creates it: see [`settings::secure`].
pub(super) fn secure(settings: &Settings) -> anyhow::Result<Option<String>> {
    if settings.state.database.is_some() {
        return Ok(None);
    }
    let dir = settings.state_dir();
    let is_link_refused = match dir == settings.own_dir() {
        true => settings::refuse_link(&dir),
        false => Ok(()),
    };
    let secured = is_link_refused.and_then(|()| settings::secure(&dir));
    secured.map_err(anyhow::Error::msg)
}

/// Returns the database, and its name for the log.
pub(super) fn named_database(settings: &Settings) -> (Database, String) {
    let database = settings.database();
    let name = match &database {
        Database::Sqlite(file) => {
            let shown = std::path::absolute(file).unwrap_or_else(|_| file.clone());
            format!("'{}'", shown.display())
        }
        Database::Postgres(url) => format!("'{}'", landfall_net::redacted_url(url)),
    };
    (database, name)
}

pub(super) fn stored_database(
    settings: &Settings,
    item: &str,
) -> anyhow::Result<(Database, String)> {
    let (database, name) = named_database(settings);
    if let Database::Sqlite(file) = &database {
        anyhow::ensure!(
            file.is_file(),
            "{name} does not exist: no {item} yet, or the server uses another database (see the \
             first line of its start); run this command with the settings of the server, or \
             set --state-dir DIR or --database URL"
        );
    }
    Ok((database, name))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::app) fn settings(args: &[&str]) -> Settings {
        match settings::read(args.iter().map(Into::into), []).unwrap() {
            settings::Invocation::Run(loaded, _) => loaded.settings,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_most_specific_state_directory_is_used() {
        let state_dir = |args: &[&str], variables: &[(&str, &str)]| {
            settings(args).state_dir_by(|name| {
                let found = variables.iter().find(|(known, _)| *known == name)?;
                Some(found.1.into())
            })
        };
        let systemd = ("STATE_DIRECTORY", "/var/lib/landfall:/var/lib/other");
        let home = ("HOME", "/home/u");
        assert_eq!(state_dir(&["-state-dir=/s"], &[systemd]), Path::new("/s"));
        assert_eq!(
            state_dir(&[], &[systemd, home]),
            Path::new("/var/lib/landfall")
        );
        assert_eq!(
            state_dir(&["-upload-dir=/u"], &[home]),
            Path::new("/u/.landfall")
        );
        let bucket = ["-s3-bucket=b"];
        assert_eq!(
            state_dir(&bucket, &[systemd]),
            Path::new("/var/lib/landfall")
        );
        let xdg = ("XDG_STATE_HOME", "/x");
        assert_eq!(state_dir(&bucket, &[home, xdg]), Path::new("/x/landfall"));
        let usual = Path::new("/home/u/.local/state/landfall");
        assert_eq!(state_dir(&bucket, &[home, ("XDG_STATE_HOME", "x")]), usual);
        assert_eq!(state_dir(&bucket, &[]), Path::new("/var/lib/landfall"));
    }

    #[test]
    fn the_database_is_in_the_state_directory_by_default() {
        let file = |path: &str| Database::Sqlite(path.into());
        assert_eq!(
            settings(&["-state-dir=/s"]).database(),
            file("/s/landfall.db")
        );
        assert_eq!(settings(&["-database=/d.db"]).database(), file("/d.db"));
    }

    #[test]
    fn a_shared_directory_on_a_network_needs_synced_bytes() {
        for (args, is_told) in [
            (&[][..], true),
            (&["-lease=redis://r"], true),
            (&["-lease=redis://r", "-durability=every"], false),
            (&["-lease=memory"], false),
            (&["-s3-bucket=b"], false),
        ] {
            assert_eq!(
                advice_on_network(&settings(args)).is_some(),
                is_told,
                "{args:?}"
            );
        }
    }

    #[test]
    fn a_local_directory_is_not_on_a_network_file_system() {
        let dir = tempfile::tempdir().unwrap();
        assert!(!is_on_network(&dir.path().join("not/yet")));
    }
}
