//! Where the server keeps what it keeps beside uploads.

use std::{
    env,
    ffi::OsString,
    io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use landfall_hooks::outbox::{Connections, Database, Durability as Kept};
use tokio::sync::OnceCell;

use crate::settings::{self, Durability, LeaseKind, Settings};

/// The file of SQLite in the state folder.
const FILE: &str = "landfall.db";

/// The state folder.
pub(super) fn dir(settings: &Settings) -> PathBuf {
    dir_by(settings, |name| {
        env::var_os(name).filter(|value| !value.is_empty())
    })
}

fn dir_by(settings: &Settings, variable: impl Fn(&str) -> Option<OsString>) -> PathBuf {
    if let Some(dir) = &settings.state.dir {
        return dir.clone();
    }
    // systemd: several are parted by colons.
    let of_unit = variable("STATE_DIRECTORY")
        .and_then(|dirs| env::split_paths(&dirs).next())
        .filter(|dir| dir.is_absolute());
    if let Some(dir) = of_unit {
        return dir;
    }
    if settings.s3.bucket.is_none() {
        // Beside the leases, where nothing is taken for an upload.
        return own_folder(&settings.storage.upload_dir);
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

/// The folder in an upload directory that is the server's own: its leases, and unless another place is
/// named, its state.
fn own_folder(upload_dir: &Path) -> PathBuf {
    upload_dir.join(".landfall")
}

/// Refuses an upload directory in which the server's own folder leads somewhere else: whoever may write
/// there would choose where leases and keys are stored.
pub(super) fn refuse_link(upload_dir: &Path) -> anyhow::Result<()> {
    let folder = own_folder(upload_dir);
    let is_link = std::fs::symlink_metadata(&folder).is_ok_and(|found| found.is_symlink());
    anyhow::ensure!(
        !is_link,
        "{} is a symbolic link, and may not be one: remove it, and name its target with -state-dir if \
         the server's state should be there",
        folder.display()
    );
    Ok(())
}

/// Refuses a state folder that somebody else controls: who may write there can replace the database
/// with its keys.
fn check_owner(folder: &Path) -> anyhow::Result<()> {
    let found = match std::fs::metadata(folder) {
        // It is created for this user alone.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        found => found.with_context(|| format!("failed to read {}", folder.display()))?,
    };
    let own = rustix::process::geteuid().as_raw();
    let shown = folder.display();
    anyhow::ensure!(
        found.uid() == own,
        "the state folder {shown} belongs to user {}, but this server runs as user {own}: chown it, or \
         name a folder that does not exist yet with -state-dir",
        found.uid()
    );
    let mode = found.mode() & 0o7777;
    anyhow::ensure!(
        mode & 0o022 == 0,
        "the state folder {shown} can be written by other users (mode {mode:04o}): run chmod go-w on it, \
         or name a folder that does not exist yet with -state-dir"
    );
    Ok(())
}

/// What this server is called: as it is told, or as the machine is.
pub(super) fn node(settings: &Settings) -> String {
    settings.state.node.clone().unwrap_or_else(|| {
        let system = rustix::system::uname();
        system.nodename().to_string_lossy().into_owned()
    })
}

/// The database of this server.
pub(super) fn database(settings: &Settings) -> settings::Database {
    match &settings.state.database {
        Some(database) => database.clone(),
        None => settings::Database::File(dir(settings).join(FILE)),
    }
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
             write -state-dir with a folder of this machine, or -database postgres://…"
        );
    }
    let shares_bucket = settings.s3.bucket.is_some()
        && matches!(settings.leases.kind, LeaseKind::Store | LeaseKind::Redis(_));
    if shares_bucket {
        tracing::warn!(
            file = %file.display(),
            "events and grants are in a file of this server: if its disk is lost, so are they, and \
             other servers don't know them; servers that share a bucket can share a database, see \
             -database"
        );
    }
}

/// The database of this server, opened when it is first needed, once for all who keep something in it.
#[derive(Debug, Default)]
pub(super) struct Opened(OnceCell<Connections>);

impl Opened {
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
            Kept::Power
        } else {
            Kept::Process
        };
        let open = async || {
            if settings.state.database.is_none() {
                check_owner(&dir(settings))?;
            }
            let connections = database.open(kept).await;
            connections.with_context(|| format!("{what} can't be kept in {}", place(&database)))
        };
        let connections = self.0.get_or_try_init(open).await?;
        Ok(connections.lend())
    }

    /// Closes it, once nobody uses it any more.
    pub(super) async fn close(&self) {
        if let Some(connections) = self.0.get() {
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
            dir_by(&settings(words), |name| {
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
    fn a_folder_that_others_can_write_is_refused() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("state");
        check_owner(&folder).unwrap();
        std::fs::create_dir(&folder).unwrap();
        for (mode, is_fine) in [
            (0o700, true),
            (0o755, true),
            (0o770, false),
            (0o757, false),
            (0o1777, false),
        ] {
            let permissions = std::fs::Permissions::from_mode(mode);
            std::fs::set_permissions(&folder, permissions).unwrap();
            let checked = check_owner(&folder);
            assert_eq!(checked.is_ok(), is_fine, "{mode:o}: {checked:?}");
            if let Err(error) = checked {
                assert!(error.to_string().contains("chmod go-w"), "{error}");
            }
        }
    }

    #[test]
    fn a_folder_of_another_user_is_refused() {
        // Of root, unless this is root, who can give it away.
        let dir = tempfile::tempdir().unwrap();
        let foreign = if rustix::process::geteuid().is_root() {
            std::os::unix::fs::chown(dir.path(), Some(12_345), None).unwrap();
            dir.path()
        } else {
            Path::new("/")
        };
        let error = check_owner(foreign).unwrap_err().to_string();
        assert!(error.contains("belongs to user"), "{error}");
        assert!(error.contains("-state-dir"), "{error}");
    }

    #[test]
    fn an_own_folder_that_is_a_link_is_refused() {
        let (dir, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        refuse_link(dir.path()).unwrap();
        let folder = dir.path().join(".landfall");
        std::os::unix::fs::symlink(elsewhere.path(), &folder).unwrap();
        let error = refuse_link(dir.path()).unwrap_err().to_string();
        assert!(error.contains("is a symbolic link"), "{error}");
        std::fs::remove_file(&folder).unwrap();
        std::fs::create_dir(&folder).unwrap();
        refuse_link(dir.path()).unwrap();
    }

    #[test]
    fn a_folder_of_this_machine_is_none_of_the_network() {
        let dir = tempfile::tempdir().unwrap();
        assert!(!is_on_network(&dir.path().join("not/yet")));
    }
}
