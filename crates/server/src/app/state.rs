//! Where the server keeps what it keeps beside uploads.

use std::path::Path;

use anyhow::Context as _;
use landfall_hooks::outbox::{Connections, Database, Durability as Kept};
use tokio::sync::OnceCell;

use crate::settings::{self, Durability, LeaseKind, Settings};

/// What this server is called: as it is told, or as the machine is.
pub(super) fn node(settings: &Settings) -> String {
    settings.state.node.clone().unwrap_or_else(|| {
        let system = rustix::system::uname();
        system.nodename().to_string_lossy().into_owned()
    })
}

/// The database of this server.
pub(super) fn database(settings: &Settings) -> settings::Database {
    settings.database()
}

/// Whether a folder, or the nearest one above it that exists, is on a network file system, on which
/// SQLite can't keep a promise.
pub(super) fn is_on_network(path: &Path) -> bool {
    /// NFS, SMB, CIFS, SMB2, Ceph, 9p and AFS, by their magic numbers.
    const OVER_NETWORK: [i64; 7] = [
        0x6969,
        0x517b,
        0xff53_4d42,
        0xfe53_4d42,
        0x00c3_6400,
        0x0102_1997,
        0x5346_414f,
    ];
    let found = path.ancestors().find_map(|above| {
        let above = if above.as_os_str().is_empty() {
            Path::new(".")
        } else {
            above
        };
        rustix::fs::statfs(above).ok()
    });
    #[allow(
        clippy::useless_conversion,
        clippy::unnecessary_cast,
        reason = "its type differs between systems"
    )]
    found.is_some_and(|system| OVER_NETWORK.contains(&(system.f_type as i64)))
}

/// Whether what is kept there survives a loss of power: not if uploads don't, either.
pub(super) fn survives_power_loss(settings: &Settings) -> bool {
    settings.s3.bucket.is_some() || settings.storage.durability != Durability::None
}

/// Tells what is allowed but loses something if it isn't meant; once, when the database is used.
pub(super) fn warn(settings: &Settings) {
    let settings::Database::File(file) = database(settings) else {
        return;
    };
    if is_on_network(&file) {
        tracing::warn!(
            file = %file.display(),
            "the file of events and grants is on a network file system, where SQLite is not safe: \
             write --state-dir with a folder of this machine, or --database postgres://…"
        );
    }
    let shares_bucket = settings.s3.bucket.is_some()
        && !matches!(settings.leases.kind, LeaseKind::Auto | LeaseKind::Memory);
    if shares_bucket {
        tracing::warn!(
            file = %file.display(),
            "events and grants are in a file of this server: if its disk is lost, so are they, and \
             other servers don't know them; servers that share a bucket can share a database, see \
             --database"
        );
    }
}

/// The database of this server, opened when it is first needed, once for all parts that use it.
#[derive(Debug, Default)]
pub(super) struct Opened {
    connections: OnceCell<Connections>,
    is_tool: bool,
}

impl Opened {
    /// For commands other than the server: tables that exist are checked and not changed.
    pub(super) fn for_tool() -> Self {
        Self {
            is_tool: true,
            ..Self::default()
        }
    }

    /// Its connections, for one who uses them.
    ///
    /// # Errors
    /// It can't be opened; `what` is it for?
    pub(super) async fn lend(
        &self,
        settings: &Settings,
        what: &str,
    ) -> anyhow::Result<Connections> {
        let database = opened(&database(settings));
        let kept = if survives_power_loss(settings) {
            Kept::PowerLoss
        } else {
            Kept::ProcessCrash
        };
        let open = async || {
            if settings.state.database.is_none() {
                settings::check_private(&settings.state_dir()).map_err(anyhow::Error::msg)?;
            }
            let connections = database.open(kept).await;
            let connections = connections
                .with_context(|| format!("{what} can't be kept in {}", place(&database)))?;
            Ok::<_, anyhow::Error>(match self.is_tool {
                true => connections.without_migrations(),
                false => connections,
            })
        };
        let connections = self.connections.get_or_try_init(open).await?;
        Ok(connections.share())
    }

    /// Closes it, once nobody uses it any more.
    pub(super) async fn close(&self) {
        if let Some(connections) = self.connections.get() {
            connections.close().await;
        }
    }
}

/// A database as it is opened.
pub(super) fn opened(database: &settings::Database) -> Database {
    match database {
        settings::Database::File(file) => Database::Sqlite(file.clone()),
        #[cfg(feature = "postgres")]
        settings::Database::Postgres(url) => Database::Postgres(url.reveal().to_owned()),
        #[cfg(not(feature = "postgres"))]
        settings::Database::Postgres(_) => {
            unreachable!("settings with PostgreSQL are refused by a build without it")
        }
    }
}

/// What people call a database's place.
pub(super) fn place(database: &Database) -> String {
    match database {
        Database::Sqlite(file) => {
            let file = std::path::absolute(file).unwrap_or_else(|_| file.clone());
            format!("'{}'", file.display())
        }
        #[cfg(feature = "postgres")]
        Database::Postgres(url) => format!("'{}'", settings::Secret::new(url).redacted_url()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(words: &[&str]) -> Settings {
        match settings::read(words.iter().map(Into::into), []).unwrap() {
            settings::Invocation::Serve(loaded) => loaded.settings,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_nearest_word_about_the_folder_counts() {
        let said = |words: &[&str], variables: &[(&str, &str)]| {
            settings(words).state_dir_by(|name| {
                let found = variables.iter().find(|(known, _)| *known == name)?;
                Some(found.1.into())
            })
        };
        let systemd = ("STATE_DIRECTORY", "/var/lib/landfall:/var/lib/other");
        let home = ("HOME", "/home/u");
        assert_eq!(said(&["-state-dir=/s"], &[systemd]), Path::new("/s"));
        assert_eq!(said(&[], &[systemd, home]), Path::new("/var/lib/landfall"));
        assert_eq!(
            said(&["-upload-dir=/u"], &[home]),
            Path::new("/u/.landfall")
        );
        #[cfg(feature = "s3")]
        {
            let bucket = ["-s3-bucket=b"];
            assert_eq!(said(&bucket, &[systemd]), Path::new("/var/lib/landfall"));
            let xdg = ("XDG_STATE_HOME", "/x");
            assert_eq!(said(&bucket, &[home, xdg]), Path::new("/x/landfall"));
            let usual = Path::new("/home/u/.local/state/landfall");
            assert_eq!(said(&bucket, &[home, ("XDG_STATE_HOME", "x")]), usual);
            assert_eq!(said(&bucket, &[]), Path::new("/var/lib/landfall"));
        }
    }

    #[test]
    fn the_database_is_in_the_folder_unless_it_is_named() {
        let file = |path: &str| settings::Database::File(path.into());
        assert_eq!(
            database(&settings(&["-state-dir=/s"])),
            file("/s/landfall.db")
        );
        assert_eq!(database(&settings(&["-database=/d.db"])), file("/d.db"));
    }

    #[test]
    fn a_folder_of_this_machine_is_none_of_the_network() {
        let dir = tempfile::tempdir().unwrap();
        assert!(!is_on_network(&dir.path().join("not/yet")));
    }
}
