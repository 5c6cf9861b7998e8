//! Finds other users who can write to the server's directories, and keeps them out of the state directory.
//!
//! Only `secure` creates or changes anything. Other functions check or describe, so that `landfall config check` can
//! run at any time. Root and the groups of this process are trusted.

use std::fmt::Write as _;
use std::fs::{DirBuilder, Metadata, Permissions};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use super::files::{file_system, inspect};
use crate::condition::ConditionKind;
use crate::settings::sections::Settings;
use crate::settings::types::Database;

const WRITABLE_BY_GROUP: u32 = 0o020;
const WRITABLE_BY_ALL: u32 = 0o002;

/// The user and groups of this process.
struct Identity {
    user: u32,
    groups: Vec<u32>,
}

impl Identity {
    fn of_process() -> Self {
        let own = rustix::process::getegid();
        // Without the list, only the own group counts.
        let others = rustix::process::getgroups().unwrap_or_default();
        Self {
            user: rustix::process::geteuid().as_raw(),
            groups: [own]
                .into_iter()
                .chain(others)
                .map(|group| group.as_raw())
                .collect(),
        }
    }

    /// Returns who else can replace the files of a directory. Root can do that anyway, and an administrator
    /// chose the groups of this process: Kubernetes gives volumes to one of them (`fsGroup`).
    fn exposure(&self, found: &Metadata) -> Option<String> {
        let mode = found.mode() & 0o7777;
        let is_shared = mode & WRITABLE_BY_GROUP != 0 && self.groups.contains(&found.gid());
        let (owner, group) = (found.uid(), found.gid());
        if mode & WRITABLE_BY_ALL != 0 {
            Some(format!(
                "can be written by all users of this machine (mode {mode:04o})"
            ))
        } else if mode & WRITABLE_BY_GROUP != 0 && !is_shared {
            Some(format!(
                "can be written by the users of group {group} (mode {mode:04o})"
            ))
        } else if owner != self.user && owner != 0 && !is_shared {
            let user = self.user;
            Some(format!(
                "belongs to user {owner}, but this runs as user {user}"
            ))
        } else {
            None
        }
    }
}

/// Creates the state directory, which contains keys, and keeps other users from replacing its files.
///
/// Returns who else can replace them where the file system has no permissions (FAT, exFAT, shares
/// and mounts with fixed modes): nothing that the operator could do to the directory would help.
///
/// # Errors
/// Other users can replace the files, although the file system could prevent it.
pub(crate) fn secure(dir: &Path) -> Result<Option<String>, String> {
    let shown = dir.display();
    let created = DirBuilder::new().recursive(true).mode(0o700).create(dir);
    created.map_err(|error| format!("cannot create the state directory {shown}: {error}"))?;
    let identity = Identity::of_process();
    let exposure =
        || -> Result<_, String> { Ok(inspect(dir)?.and_then(|found| identity.exposure(&found))) };
    let Some(mut reason) = exposure()? else {
        return Ok(None);
    };
    if let Some(found) = inspect(dir)?.filter(|found| found.uid() == identity.user) {
        let private = found.mode() & 0o7777 & !(WRITABLE_BY_GROUP | WRITABLE_BY_ALL);
        // A file system without permissions may ignore the call or return an error.
        let _ = std::fs::set_permissions(dir, Permissions::from_mode(private));
        match exposure()? {
            Some(still) => reason = still,
            None => {
                tracing::warn!("the state directory {shown} {reason}; corrected");
                return Ok(None);
            }
        }
    }
    let reason = format!("the state directory {shown} {reason}");
    match has_permissions(dir, &identity) {
        true => Err(format!("{reason}: {REMEDY}")),
        false => Ok(Some(reason)),
    }
}

const REMEDY: &str = "let its owner run chmod go-w on it and chown it to the server's user, or name a \
                      directory that does not exist yet with --state-dir";

/// Finds out by creating a directory.
fn has_permissions(dir: &Path, identity: &Identity) -> bool {
    let probe = dir.join(format!(".permissions-{}", std::process::id()));
    if DirBuilder::new().mode(0o700).create(&probe).is_err() {
        return !has_fixed_modes(dir);
    }
    let found = inspect(&probe).ok().flatten();
    let _ = std::fs::remove_dir(&probe);
    found.is_none_or(|found| found.uid() == identity.user && found.mode() & 0o077 == 0)
}

/// Like [`secure`], but changes nothing.
pub(super) fn check_private(dir: &Path) -> Result<Option<String>, String> {
    let Some(found) = inspect(dir)? else {
        return Ok(None);
    };
    let identity = Identity::of_process();
    let Some(reason) = identity.exposure(&found) else {
        return Ok(None);
    };
    let reason = format!("the state directory {} {reason}", dir.display());
    if has_fixed_modes(dir) {
        let kind = ConditionKind::StateDirectoryExposed;
        return Ok(Some(format!("{reason}; {}", kind.remedy())));
    }
    match found.uid() == identity.user {
        true => Ok(Some(format!(
            "{reason}; the server corrects that when it starts"
        ))),
        false => Err(format!("{reason}: {REMEDY}")),
    }
}

/// True for file systems that usually have no permissions per file.
fn has_fixed_modes(path: &Path) -> bool {
    /// Magic numbers of FAT, exFAT, NTFS (both drivers), FUSE, SMB, CIFS, SMB2, 9p and VirtualBox.
    const FIXED_MODES: [i64; 10] = [
        0x4d44,
        0x2011_bab0,
        0x5346_544e,
        0x7366_746e,
        0x6573_5546,
        0x517b,
        0xff53_4d42,
        0xfe53_4d42,
        0x0102_1997,
        0x786f_4256,
    ];
    file_system(path).is_some_and(|magic| FIXED_MODES.contains(&magic))
}

/// Root may check the settings of a server of another user.
pub(super) fn belongs_to_service(dir: &Path) -> Option<String> {
    let own = Identity::of_process();
    let found = inspect(dir).ok().flatten()?;
    let is_other = own.user == 0 && found.uid() != 0;
    let is_writable = found.mode() & (WRITABLE_BY_GROUP | WRITABLE_BY_ALL) != 0;
    let (dir, owner) = (dir.display(), found.uid());
    (is_other && !is_writable).then(|| {
        format!(
            "the state directory {dir} belongs to user {owner}, but this runs as user 0: run the server, and \
             this check, as that user"
        )
    })
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

/// Warns of other users who can write to a path, unless they are in a group of this process.
pub(super) fn written_by_others(path: &Path) -> Option<String> {
    let found = inspect(path).ok().flatten()?;
    let (mode, group) = (found.mode() & 0o7777, found.gid());
    // A group with the id of a user contains only that user.
    let is_own = group == found.uid() || Identity::of_process().groups.contains(&group);
    let (who, bits) = if mode & WRITABLE_BY_ALL != 0 {
        ("users of this machine".to_owned(), "o-w")
    } else if mode & WRITABLE_BY_GROUP != 0 && !is_own {
        (format!("users of its group {group}"), "g-w")
    } else {
        return None;
    };
    let remedy = match has_fixed_modes(path) {
        true => "mount its file system with a umask if they should not".to_owned(),
        false => format!("run chmod {bits} on it if they should not"),
    };
    let shown = path.display();
    Some(format!(
        "{shown} can be written by all {who} (mode {mode:04o}); {remedy}"
    ))
}

pub(super) fn describe(settings: &Settings) -> String {
    let mut lines = String::from("\n# Directories\n");
    let mut line = |what: &str, path: &Path| {
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        // Writing to a String cannot fail.
        let _ = writeln!(lines, "# {what} {:?}: {}", path, owner_and_mode(&path));
    };
    let own = settings.own_dir();
    if settings.uses_directory() {
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
        Database::Sqlite(file) => {
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
    use super::*;

    fn set_mode(path: &Path, mode: u32) {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_directory_of_this_user_is_created_and_corrected() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("new/state");
        assert_eq!(check_private(&folder), Ok(None));
        assert_eq!(secure(&folder), Ok(None));
        let mode = || std::fs::metadata(&folder).unwrap().mode() & 0o7777;
        assert_eq!(mode(), 0o700);
        let own_group = [0o770, 0o2770];
        for (before, after) in [
            (0o755, 0o755),
            (0o757, 0o755),
            (0o777, 0o755),
            (0o1777, 0o1755),
        ]
        .into_iter()
        .chain(own_group.map(|mode| (mode, mode)))
        {
            set_mode(&folder, before);
            let warning = check_private(&folder).unwrap();
            assert_eq!(
                warning.is_some(),
                before != after,
                "{before:o}: {warning:?}"
            );
            assert!(warning.unwrap_or_default().contains(match before == after {
                true => "",
                false => "the server corrects that when it starts",
            }));
            assert_eq!(secure(&folder), Ok(None));
            assert_eq!(mode(), after, "{before:o}");
        }
    }

    #[test]
    fn others_are_all_but_root_this_user_and_its_groups() {
        let dir = tempfile::tempdir().unwrap();
        let found = std::fs::metadata(dir.path()).unwrap();
        let (owner, group) = (found.uid(), found.gid());
        // The user and groups of the process, the mode, and the problem.
        let stranger = (owner + 1, vec![group + 1]);
        let member = (owner + 1, vec![group + 1, group]);
        let same = (owner, vec![group + 1]);
        for ((user, groups), mode, expected) in [
            (same.clone(), 0o700, ""),
            (same.clone(), 0o770, "by the users of group"),
            (same, 0o707, "by all users of this machine (mode 0707)"),
            (member.clone(), 0o2770, ""),
            (member.clone(), 0o777, "by all users"),
            (
                member,
                0o755,
                if owner == 0 { "" } else { "belongs to user" },
            ),
            (stranger.clone(), 0o775, "by the users of group"),
            (
                stranger,
                0o755,
                if owner == 0 { "" } else { "belongs to user" },
            ),
        ] {
            set_mode(dir.path(), mode);
            let found = std::fs::metadata(dir.path()).unwrap();
            let exposure = Identity { user, groups }.exposure(&found);
            assert_eq!(
                exposure.is_some(),
                !expected.is_empty(),
                "{mode:o}: {exposure:?}"
            );
            assert!(exposure.unwrap_or_default().contains(expected));
        }
    }

    #[test]
    fn a_directory_of_another_user_is_rejected_where_the_file_system_has_permissions() {
        if !rustix::process::geteuid().is_root() {
            // Of root, and accepted; without root, no directory of another user can be made.
            assert_eq!(check_private(Path::new("/")), Ok(None));
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::chown(dir.path(), Some(12_345), None).unwrap();
        for check in [check_private, secure] {
            let error = check(dir.path()).unwrap_err();
            assert!(error.contains("belongs to user 12345"), "{error}");
            assert!(error.contains("--state-dir"), "{error}");
        }
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
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
