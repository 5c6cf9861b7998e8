use std::fmt::Write as _;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use super::files::inspect;
use crate::settings::sections::Settings;
use crate::settings::types::Database;

const WRITABLE_BY_OTHERS: u32 = 0o022;

/// Another user could replace the database with its keys.
pub(crate) fn check_private(dir: &Path) -> Result<(), String> {
    // A missing one is created for this user alone.
    let Some(found) = inspect(dir)? else {
        return Ok(());
    };
    let own = rustix::process::geteuid().as_raw();
    if found.uid() != own {
        return Err(format!(
            "{}: chown it, or name a directory that does not exist yet with --state-dir",
            wrong_owner(dir, &found, own)
        ));
    }
    match writers(&found) {
        None => Ok(()),
        Some(mode) => Err(format!(
            "the state directory {} can be written by other users (mode {mode:04o}): run chmod go-w on \
             it, or name a directory that does not exist yet with --state-dir",
            dir.display()
        )),
    }
}

/// Root may check the settings of a server of another user.
pub(super) fn belongs_to_service(dir: &Path) -> Option<String> {
    let own = rustix::process::geteuid();
    let found = inspect(dir).ok().flatten()?;
    let is_other = own.is_root() && found.uid() != 0 && writers(&found).is_none();
    let problem = wrong_owner(dir, &found, own.as_raw());
    is_other.then(|| format!("{problem}: run the server, and this check, as that user"))
}

fn wrong_owner(dir: &Path, found: &Metadata, own: u32) -> String {
    let (dir, owner) = (dir.display(), found.uid());
    format!("the state directory {dir} belongs to user {owner}, but this runs as user {own}")
}

/// Otherwise, users who can write to the upload directory choose where leases and keys are stored.
pub(crate) fn refuse_link(dir: &Path) -> Result<(), String> {
    let is_link = std::fs::symlink_metadata(dir).is_ok_and(|found| found.is_symlink());
    if !is_link {
        return Ok(());
    }
    Err(format!(
        "{} is a symbolic link, which is not allowed: remove it, and name its target with --state-dir if \
         the server's state is there",
        dir.display()
    ))
}

pub(super) fn written_by_others(path: &Path) -> Option<String> {
    let found = inspect(path).ok().flatten()?;
    let mode = writers(&found)?;
    // A group with the id of a user contains only that user.
    let users = [found.uid(), rustix::process::geteuid().as_raw()];
    if mode & 0o002 == 0 && users.contains(&found.gid()) {
        return None;
    }
    let shown = path.display();
    Some(match mode & 0o002 {
        0 => format!(
            "{shown} can be written by all users of its group {} (mode {mode:04o}); run chmod g-w on it \
             if they should not",
            found.gid()
        ),
        _ => format!(
            "{shown} can be written by all users of this machine (mode {mode:04o}); run chmod o-w on it"
        ),
    })
}

fn writers(found: &Metadata) -> Option<u32> {
    let mode = found.mode() & 0o7777;
    (mode & WRITABLE_BY_OTHERS != 0).then_some(mode)
}

pub(super) fn describe(settings: &Settings) -> String {
    let mut lines = String::from("\n# Directories\n");
    let mut line = |what: &str, path: &Path| {
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        // Writing to a String cannot fail.
        let _ = writeln!(lines, "# {what} {:?}: {}", path, owner_and_mode(&path));
    };
    let own = settings.own_dir();
    if settings.s3.bucket.is_none() {
        line("upload directory", &settings.storage.upload_dir);
        line("leases", &own);
    }
    if settings.tls.acme.is_on() {
        line("certificates", &settings.acme_dir());
    }
    match settings.database() {
        _ if !settings.uses_state_dir() => {
            lines.push_str("# state directory: none, because these settings store no state\n");
        }
        _ if !settings.stores_state() => line("state directory", &settings.state_dir()),
        Database::Postgres(_) => lines.push_str("# state directory: none, with PostgreSQL\n"),
        Database::File(file) => {
            if settings.state.database.is_none() {
                line("state directory", &settings.state_dir());
            }
            line("database", &file);
        }
    }
    lines
}

fn owner_and_mode(path: &Path) -> String {
    match inspect(path) {
        Ok(Some(found)) => format!(
            "owner {}, group {}, mode {:04o}",
            named(found.uid(), "/etc/passwd"),
            named(found.gid(), "/etc/group"),
            found.mode() & 0o7777
        ),
        Ok(None) => "does not exist yet".to_owned(),
        Err(error) => error,
    }
}

fn named(id: u32, file: &str) -> String {
    let names = std::fs::read_to_string(file).unwrap_or_default();
    let number = id.to_string();
    let name = names.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == number).then_some(name)
    });
    match name {
        Some(name) => format!("{name} ({id})"),
        None => number,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn set_mode(path: &Path, mode: u32) {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn directories_writable_by_others_are_rejected() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("state");
        check_private(&folder).unwrap();
        std::fs::create_dir(&folder).unwrap();
        for (mode, is_fine) in [
            (0o700, true),
            (0o755, true),
            (0o770, false),
            (0o757, false),
            (0o1777, false),
        ] {
            set_mode(&folder, mode);
            let checked = check_private(&folder);
            assert_eq!(checked.is_ok(), is_fine, "{mode:o}: {checked:?}");
            if let Err(error) = checked {
                assert!(error.contains("chmod go-w"), "{error}");
            }
        }
    }

    #[test]
    fn directories_of_other_users_are_rejected() {
        // Root's directory, unless this is root, which can chown one.
        let dir = tempfile::tempdir().unwrap();
        let of_other = if rustix::process::geteuid().is_root() {
            std::os::unix::fs::chown(dir.path(), Some(12_345), None).unwrap();
            dir.path()
        } else {
            Path::new("/")
        };
        let error = check_private(of_other).unwrap_err();
        assert!(error.contains("belongs to user"), "{error}");
        assert!(error.contains("--state-dir"), "{error}");
    }

    #[test]
    fn symbolic_links_are_rejected() {
        let (dir, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let folder = dir.path().join(".landfall");
        refuse_link(&folder).unwrap();
        std::os::unix::fs::symlink(elsewhere.path(), &folder).unwrap();
        let error = refuse_link(&folder).unwrap_err();
        assert!(error.contains("is a symbolic link"), "{error}");
        std::fs::remove_file(&folder).unwrap();
        std::fs::create_dir(&folder).unwrap();
        refuse_link(&folder).unwrap();
    }

    #[test]
    fn warning_names_who_can_write() {
        let dir = tempfile::tempdir().unwrap();
        for (mode, expected) in [
            (0o755, None),
            (0o777, Some("all users of this machine")),
            (0o1777, Some("all users of this machine (mode 1777)")),
        ] {
            set_mode(dir.path(), mode);
            let found = written_by_others(dir.path());
            assert_eq!(found.is_some(), expected.is_some(), "{mode:o}: {found:?}");
            assert!(
                found
                    .unwrap_or_default()
                    .contains(expected.unwrap_or_default())
            );
        }
        assert_eq!(written_by_others(&dir.path().join("none")), None);
        if rustix::process::geteuid().is_root() {
            std::os::unix::fs::chown(dir.path(), None, Some(12_345)).unwrap();
            set_mode(dir.path(), 0o775);
            let warning = written_by_others(dir.path()).unwrap();
            assert!(
                warning.contains("all users of its group 12345"),
                "{warning}"
            );
        }
    }

    #[test]
    fn owners_have_names() {
        assert_eq!(named(0, "/etc/passwd"), "root (0)");
        assert_eq!(named(4_000_000_000, "/etc/passwd"), "4000000000");
        assert_eq!(named(7, "/nonexistent"), "7");
    }
}
