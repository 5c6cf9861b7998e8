//! The directory of a store; confines all paths to it.
//!
//! Files are opened relative to a handle of their directory, and no link below the store's
//! directory is followed. So neither an id, nor a path requested by a hook, nor a planted link can
//! lead outside. The store's directory itself may be a link.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use super::sys;
use crate::upload::UploadId;

/// Suffixes of names that are not data files: descriptions, and tusd's locks.
pub(super) const INFO: &str = ".info";
const RESERVED_SUFFIXES: [&str; 3] = [INFO, ".lock", ".stop"];
/// Maximum length of a name that a hook may request, in bytes; leaves space for `.info` and
/// temporary suffixes.
const MAX_NAME_LEN: usize = 230;

/// The maximum age of a check of the directory's place.
const PLACE_INTERVAL: Duration = Duration::from_millis(50);

/// Why the directory of a [`FileStore`](super::FileStore) cannot be used at present.
///
/// Nothing is created, written or removed meanwhile: files would be stored where no one looks for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DirectoryError {
    /// There is no directory at its path. Back there, it is used again.
    #[error("the upload directory is missing")]
    Missing,
    /// Another directory is at its path: it was created anew, or a file system was mounted over it.
    #[error("the upload directory was replaced")]
    Replaced,
}

#[derive(Debug)]
pub(super) struct Root {
    handle: OwnedFd,
    path: String,
    real: PathBuf,
    place: Mutex<Place>,
}

/// The last check of the directory's place.
#[derive(Debug, Clone, Copy, Default)]
struct Place {
    checked: Option<Instant>,
    error: Option<DirectoryError>,
}

#[derive(Debug)]
pub(super) enum Parent<'a> {
    Root(BorrowedFd<'a>),
    Below(OwnedFd),
}

impl AsFd for Parent<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Root(handle) => *handle,
            Self::Below(handle) => handle.as_fd(),
        }
    }
}

impl Root {
    pub(super) fn open(path: &Path, mode: u32) -> io::Result<Self> {
        use std::os::unix::fs::DirBuilderExt;
        let path = std::path::absolute(path)?;
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(mode)
            .create(&path)?;
        let real = path.canonicalize()?;
        let handle = OwnedFd::from(std::fs::File::open(&path)?);
        let path = path.into_os_string().into_string().map_err(|path| {
            io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("the path {} is not UTF-8", path.display()),
            )
        })?;
        let path = if path.len() > 1 {
            path.trim_end_matches('/').into()
        } else {
            path
        };
        Ok(Self {
            handle,
            path,
            real,
            place: Mutex::default(),
        })
    }

    /// Fails if the directory is not at its path; one system call every 50 ms at most, unless it failed.
    pub(super) fn check_place(&self) -> Result<(), DirectoryError> {
        let known = *self.place.lock();
        let is_recent = known.checked.is_some_and(|at| at.elapsed() < PLACE_INTERVAL);
        if is_recent && known.error.is_none() {
            return Ok(());
        }
        // Not under the lock, since a network file system may hang.
        let error = self.place_error();
        let checked = Some(Instant::now());
        *self.place.lock() = Place { checked, error };
        error.map_or(Ok(()), Err)
    }

    /// Any other error than a missing directory says nothing about its place.
    fn place_error(&self) -> Option<DirectoryError> {
        match sys::directory_at(&self.path) {
            Ok(found) => {
                let is_same = found.is_some() && found == sys::directory_of(self.handle()).ok();
                (!is_same).then_some(DirectoryError::Replaced)
            }
            Err(error) => {
                let missing = [io::ErrorKind::NotFound, io::ErrorKind::NotADirectory];
                missing.contains(&error.kind()).then_some(DirectoryError::Missing)
            }
        }
    }

    pub(super) fn handle(&self) -> BorrowedFd<'_> {
        self.handle.as_fd()
    }

    pub(super) fn path(&self) -> &Path {
        Path::new(&self.path)
    }

    pub(super) fn absolute(&self, relative: &str) -> String {
        let slash = if self.path.ends_with('/') { "" } else { "/" };
        [&self.path, slash, relative].concat()
    }

    pub(super) fn parent<'a, 'p>(&'a self, relative: &'p str) -> io::Result<(Parent<'a>, &'p str)> {
        match relative.rsplit_once('/') {
            None => Ok((Parent::Root(self.handle()), relative)),
            Some((above, name)) => Ok((Parent::Below(self.directory(above)?), name)),
        }
    }

    pub(super) fn make_parent<'a, 'p>(
        &'a self,
        relative: &'p str,
        mode: u32,
    ) -> io::Result<(Parent<'a>, &'p str)> {
        match self.parent(relative) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            done => return done,
        }
        let mut parent = Parent::Root(self.handle());
        let mut rest = relative;
        while let Some((segment, below)) = rest.split_once('/') {
            let next = match sys::open_dir(parent.as_fd(), segment) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    match sys::make_dir(parent.as_fd(), segment, mode) {
                        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                            return Err(error);
                        }
                        _ => sys::open_dir(parent.as_fd(), segment)?,
                    }
                }
                opened => opened?,
            };
            parent = Parent::Below(next);
            rest = below;
        }
        Ok((parent, rest))
    }

    pub(super) fn directory(&self, relative: &str) -> io::Result<OwnedFd> {
        sys::open_dir_beneath(self.handle(), relative).unwrap_or_else(|| self.walk(relative))
    }

    fn walk(&self, relative: &str) -> io::Result<OwnedFd> {
        let mut segments = relative.split('/');
        let mut handle = sys::open_dir(self.handle(), segments.next().unwrap_or(relative))?;
        for segment in segments {
            handle = sys::open_dir(handle.as_fd(), segment)?;
        }
        Ok(handle)
    }

    pub(super) fn resolve_requested(&self, path: &str) -> Result<String, String> {
        let relative = self
            .strip_root(path)
            .or_else(|| (!path.starts_with('/')).then_some(path))
            .ok_or_else(|| format!("{path:?} is outside the upload directory"))?;
        if is_valid_path(relative) {
            Ok(relative.into())
        } else {
            Err(format!(
                "{path:?} must consist of plain names that do not start with a dot and do not \
                 end with .info, .lock or .stop"
            ))
        }
    }

    /// `None` if the paths in the `.info` are invalid here.
    pub(super) fn data_path_of(
        &self,
        id: &UploadId,
        path: Option<&str>,
        info: Option<&str>,
    ) -> Option<String> {
        let path = path?;
        let relative = self.strip_root(path).or_else(|| {
            // The directory was moved: the `.info` has the old location.
            let old = info?.strip_suffix(INFO)?.strip_suffix(id.as_str())?;
            path.strip_prefix(old)
        });
        let relative = relative.or_else(|| (!path.starts_with('/')).then_some(path))?;
        is_valid_path(relative).then(|| relative.into())
    }

    fn strip_root<'p>(&self, path: &'p str) -> Option<&'p str> {
        let after = |root: &str| path.strip_prefix(root)?.strip_prefix('/');
        if self.path == "/" {
            return path.strip_prefix('/');
        }
        after(&self.path).or_else(|| after(self.real.to_str()?))
    }
}

pub(super) fn is_valid_path(relative: &str) -> bool {
    relative.len() <= 4096
        && relative.split('/').all(|name| {
            !name.is_empty()
                && !name.starts_with('.')
                && name.len() <= MAX_NAME_LEN
                && !name.contains('\0')
                // A directory with such a name would conflict with a file of another upload.
                && !RESERVED_SUFFIXES.iter().any(|end| name.ends_with(end))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root() -> (tempfile::TempDir, Root) {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::open(&dir.path().join("data"), 0o775).unwrap();
        (dir, root)
    }

    #[test]
    fn requested_paths_stay_inside() {
        let (dir, root) = root();
        let inside = dir.path().join("data");
        let inside = inside.to_str().unwrap();
        assert_eq!(root.resolve_requested("a/b.pdf").unwrap(), "a/b.pdf");
        assert_eq!(
            root.resolve_requested(&format!("{inside}/a/b c.pdf"))
                .unwrap(),
            "a/b c.pdf"
        );
        for bad in [
            "",
            "/",
            "/etc/passwd",
            "../x",
            "a/../../x",
            "a//b",
            "a/",
            "./a",
            ".hidden",
            "a/.landfall/x",
            "x.info",
            "x.lock",
            "x.stop",
            "a\0b",
            inside,
            &format!("{inside}/"),
            &format!("{inside}x/y"),
            &format!("{inside}/../x"),
            &"n".repeat(231),
        ] {
            assert!(root.resolve_requested(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn data_path_survives_a_moved_directory() {
        let (_dir, root) = root();
        let id = UploadId::new("abc").unwrap();
        let relative = |path, info| root.data_path_of(&id, path, info);
        assert_eq!(
            relative(Some("/old/abc"), Some("/old/abc.info")).as_deref(),
            Some("abc")
        );
        assert_eq!(
            relative(Some("/old/s/f.bin"), Some("/old/abc.info")).as_deref(),
            Some("s/f.bin")
        );
        assert_eq!(relative(Some("s/f.bin"), None).as_deref(), Some("s/f.bin"));
        assert_eq!(relative(Some("/old/abc"), None), None);
        assert_eq!(relative(Some("/etc/passwd"), Some("/old/abc.info")), None);
        assert_eq!(relative(Some("/old/../x"), Some("/old/abc.info")), None);
        assert_eq!(relative(None, None), None);
    }

    #[test]
    fn a_directory_is_used_only_at_its_path() {
        let (dir, root) = root();
        let (here, away) = (dir.path().join("data"), dir.path().join("away"));
        root.check_place().unwrap();
        let recent = Instant::now();
        std::fs::rename(&here, &away).unwrap();
        std::fs::create_dir(&here).unwrap();
        // A check may be as old as the interval, and no older.
        if let Some(rest) = PLACE_INTERVAL.checked_sub(recent.elapsed()) {
            std::thread::sleep(rest);
        }
        assert_eq!(root.check_place(), Err(DirectoryError::Replaced));
        std::fs::remove_dir(&here).unwrap();
        assert_eq!(root.check_place(), Err(DirectoryError::Missing));
        std::fs::write(&here, "").unwrap();
        assert_eq!(root.check_place(), Err(DirectoryError::Replaced));
        std::fs::remove_file(&here).unwrap();
        std::fs::rename(&away, &here).unwrap();
        // Back at its place, it is used at once.
        root.check_place().unwrap();
    }

    #[test]
    fn links_are_never_followed() {
        let (dir, root) = root();
        let outside = dir.path().join("outside");
        std::fs::create_dir_all(outside.join("deep")).unwrap();
        let inside = dir.path().join("data");
        std::fs::create_dir_all(inside.join("real/deep")).unwrap();
        std::os::unix::fs::symlink(&outside, inside.join("link")).unwrap();
        std::os::unix::fs::symlink(&outside, inside.join("real/link")).unwrap();
        for open in [Root::directory, Root::walk] {
            open(&root, "real").unwrap();
            open(&root, "real/deep").unwrap();
            for bad in ["link", "link/deep", "real/link", "real/link/deep"] {
                assert!(open(&root, bad).is_err(), "{bad}");
            }
        }
        assert!(root.make_parent("link/new/file", 0o775).is_err());
        assert!(!outside.join("new").exists());
    }
}
