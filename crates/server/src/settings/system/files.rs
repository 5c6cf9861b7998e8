//! Checks that files and directories exist and that this process may use them.
//! Every error is the rest of a sentence that begins with the name of a setting.

use std::fs::Metadata;
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;

use rustix::{fs::Access, io::Errno};

/// Without the final NUL.
const MAX_SOCKET_PATH_LEN: usize = 107;

/// Magic numbers of procfs and sysfs. They let root write to their directories, but create nothing there.
const WITHOUT_NEW_FILES: [i64; 2] = [0x9fa0, 0x6265_6572];

/// Does not open the file: it may be a pipe, which can be read once.
pub(super) fn readable(path: &Path) -> Result<(), String> {
    let shown = path.display();
    let found = inspect(path)?.ok_or_else(|| format!("{shown} does not exist"))?;
    if found.is_dir() {
        return Err(format!("{shown} is a directory, not a file"));
    }
    allowed(path, &found, Access::READ_OK, "read")
}

pub(super) fn writable_dir(path: &Path) -> Result<(), String> {
    let shown = path.display();
    if let Some(found) = inspect(path)? {
        require_dir(path, &found)?;
        return allowed(path, &found, Access::WRITE_OK | Access::EXEC_OK, "write");
    }
    let cannot_create =
        |reason: String| format!("{shown} does not exist and cannot be created: {reason}");
    for above in path.ancestors().skip(1) {
        let is_empty = above.as_os_str().is_empty();
        let above = if is_empty { Path::new(".") } else { above };
        let Some(found) = inspect(above).map_err(cannot_create)? else {
            continue;
        };
        require_dir(above, &found).map_err(cannot_create)?;
        let access = Access::WRITE_OK | Access::EXEC_OK;
        return allowed(above, &found, access, "write").map_err(cannot_create);
    }
    Ok(())
}

pub(super) fn own_dir(path: &Path) -> Result<(), String> {
    inspect(path)?.map_or(Ok(()), |_| writable_dir(path))
}

/// False if it is missing.
pub(super) fn is_dir(path: &Path) -> Result<bool, String> {
    let Some(found) = inspect(path)? else {
        return Ok(false);
    };
    require_dir(path, &found).map(|()| true)
}

pub(super) fn dir_with_programs(path: &Path) -> Result<(), String> {
    let shown = path.display();
    let found = inspect(path)?.ok_or_else(|| {
        format!("{shown} does not exist; create it, or leave the setting out for no hooks")
    })?;
    require_dir(path, &found)?;
    allowed(path, &found, Access::EXEC_OK, "enter")
}

pub(super) fn program(path: &Path) -> Result<bool, String> {
    let shown = path.display();
    let Some(found) = inspect(path)? else {
        return Ok(false);
    };
    if !found.is_file() {
        return Err(format!("{shown} is not a file"));
    }
    match found.mode() & 0o111 {
        0 => Err(format!("{shown} is not executable; run chmod +x {shown}")),
        _ => allowed(path, &found, Access::EXEC_OK, "run").map(|()| true),
    }
}

pub(super) fn socket(path: &Path) -> Result<(), String> {
    let shown = path.display();
    let length = path.as_os_str().as_bytes().len();
    if length > MAX_SOCKET_PATH_LEN {
        return Err(format!(
            "{shown} has {length} bytes; the maximum for a socket is {MAX_SOCKET_PATH_LEN}"
        ));
    }
    if inspect(path)?.is_some_and(|found| !found.file_type().is_socket()) {
        return Err(format!("{shown} exists and is not a socket"));
    }
    let dir = parent(path);
    let shown = dir.display();
    let found = inspect(dir)?.ok_or_else(|| format!("the directory {shown} does not exist"))?;
    require_dir(dir, &found)?;
    allowed(dir, &found, Access::WRITE_OK | Access::EXEC_OK, "write")
}

/// SQLite has further files in the directory.
pub(super) fn database(path: &Path) -> Result<(), String> {
    if let Some(found) = inspect(path)? {
        let shown = path.display();
        if found.is_dir() {
            return Err(format!("{shown} is a directory, not a file"));
        }
        if !found.is_file() {
            return Err(format!("{shown} is not a file"));
        }
        allowed(path, &found, Access::READ_OK | Access::WRITE_OK, "write")?;
        if !is_sqlite(path).map_err(|error| format!("failed to read {shown}: {error}"))? {
            return Err(format!(
                "{shown} is not a SQLite database; name another file, or remove it"
            ));
        }
    }
    writable_dir(parent(path))
}

fn is_sqlite(path: &Path) -> io::Result<bool> {
    const MAGIC: &[u8] = b"SQLite format 3\0";
    let mut start = Vec::new();
    let file = std::fs::File::open(path)?;
    file.take(MAGIC.len() as u64).read_to_end(&mut start)?;
    Ok(start.is_empty() || start == MAGIC)
}

/// Returns whether all users of this machine can read a file. A group is one that an administrator chose.
///
/// Docker and Kubernetes mount secrets in `/run/secrets` for all users of the container, which has one.
pub(super) fn is_public(path: &Path) -> bool {
    const READ: u32 = 0o004;
    const ENTER: u32 = 0o001;
    let has =
        |path: &Path, bit| matches!(inspect(path), Ok(Some(found)) if found.mode() & bit != 0);
    let Ok(path) = std::fs::canonicalize(path) else {
        return false;
    };
    let mut above = path.ancestors().skip(1);
    !path.starts_with("/run/secrets") && has(&path, READ) && above.all(|dir| has(dir, ENTER))
}

fn require_dir(path: &Path, found: &Metadata) -> Result<(), String> {
    match found.is_dir() {
        true => Ok(()),
        false => Err(format!("{} is a file, not a directory", path.display())),
    }
}

fn parent(path: &Path) -> &Path {
    let parent = path.parent().filter(|parent| *parent != Path::new(""));
    parent.unwrap_or(Path::new("."))
}

pub(super) fn inspect(path: &Path) -> Result<Option<Metadata>, String> {
    match std::fs::metadata(path) {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        // A component of the path is a file; the caller finds it in the ancestors.
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => Ok(None),
        Err(error) => Err(format!("cannot read {}: {}", path.display(), error.kind())),
    }
}

/// Returns the magic number of the file system of a path that exists.
#[allow(
    clippy::useless_conversion,
    clippy::unnecessary_cast,
    reason = "its type differs between systems"
)]
pub(crate) fn file_system(path: &Path) -> Option<i64> {
    rustix::fs::statfs(path)
        .ok()
        .map(|system| system.f_type as i64)
}

fn allowed(path: &Path, found: &Metadata, access: Access, what: &str) -> Result<(), String> {
    rustix::fs::access(path, access).map_err(|error| {
        let shown = path.display();
        if error == Errno::ROFS {
            return format!("the file system of {shown} is read-only; mount a volume there, or name a directory on one");
        }
        format!(
            "{shown} (owner {}:{}, mode {:o}): user {} may not {what} it: {}",
            found.uid(),
            found.gid(),
            found.mode() & 0o7777,
            rustix::process::getuid().as_raw(),
            io::Error::from(error).kind()
        )
    })?;
    let is_unchangeable = file_system(path).is_some_and(|magic| WITHOUT_NEW_FILES.contains(&magic));
    match found.is_dir() && access.contains(Access::WRITE_OK) && is_unchangeable {
        true => Err(format!(
            "no files can be created in {}; name a directory on a disk",
            path.display()
        )),
        false => Ok(()),
    }
}
