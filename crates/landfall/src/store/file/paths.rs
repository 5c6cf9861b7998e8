//! The directory of a store; confines all paths to it.
//!
//! Files are opened relative to a handle of their directory, and no link below the store's
//! directory is followed. So neither an id, nor a path requested by a hook, nor a planted link can
//! lead outside. The store's directory itself may be a link.
//!
//! With [`data_dirs`](super::FileOptions::data_dirs), links and absolute paths may lead into these
//! directories, too. The directory that a link leads to is opened, and used only if the kernel says that it is
//! in one of them: a path is never checked before it is opened.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use super::sys;
use crate::upload::{FileLocation, UploadId};

/// Suffixes of names that are not data files: descriptions, and tusd's locks.
pub(super) const INFO: &str = ".info";
const RESERVED_SUFFIXES: [&str; 3] = [INFO, ".lock", ".stop"];
/// Maximum length of a name that a hook may request, in bytes; leaves space for `.info` and
/// temporary suffixes.
const MAX_NAME_LEN: usize = 230;
/// Of a file system whose names are longer than ours need to be.
const USUAL_NAME_MAX: usize = 255;
/// Of the path of a template below the directory: other programs use it with that of the directory, and `PATH_MAX` is
/// 4,096.
pub(super) const MAX_PATH_LEN: usize = 3000;

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

/// An upload is stored where this store does not go: its files are kept and not served.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{path} is not served: {reason}")]
pub(super) struct NotServed {
    pub(super) path: String,
    pub(super) reason: &'static str,
}

impl NotServed {
    fn error(path: &str, reason: &'static str) -> io::Error {
        let path = path.to_owned();
        io::Error::other(Self { path, reason })
    }

    pub(super) fn missing(path: &str) -> io::Error {
        Self::error(path, DANGLING)
    }

    /// A pipe, socket, device or directory has the name of a file. It may be opened with side effects, or not at all.
    pub(super) fn not_a_file(path: &str) -> io::Error {
        Self::error(path, NOT_A_FILE)
    }

    pub(super) fn of(error: &io::Error) -> Option<&Self> {
        error.get_ref()?.downcast_ref()
    }
}

const LINK: &str = "a symbolic link, which is not followed";
const DANGLING: &str = "it leads to a missing file or directory";
const OUTSIDE: &str = "it is outside the upload directory";
const NOT_A_FILE: &str = "it is not a regular file";

#[derive(Debug)]
pub(super) struct Root {
    handle: Arc<OwnedFd>,
    path: Arc<str>,
    real: PathBuf,
    data_dirs: Vec<PathBuf>,
    max_name_len: usize,
    /// When the directory's place is checked again; `None` if it was not there.
    next_check: Mutex<Option<Instant>>,
}

impl Root {
    pub(super) fn open(path: &Path, mode: u32, data_dirs: &[PathBuf]) -> io::Result<Self> {
        use std::os::unix::fs::DirBuilderExt;
        let path = std::path::absolute(path)?;
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(mode)
            .create(&path)?;
        let real = path.canonicalize()?;
        let handle = OwnedFd::from(std::fs::File::open(&path)?);
        let max_name_len = max_name_len(sys::name_max(handle.as_fd()));
        let path = path.into_os_string().into_string().map_err(|path| {
            io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("the path {} is not UTF-8", path.display()),
            )
        })?;
        let path = if path.len() > 1 {
            path.trim_end_matches('/')
        } else {
            &path
        };
        Ok(Self {
            handle: Arc::new(handle),
            path: path.into(),
            real,
            data_dirs: data_dirs
                .iter()
                .map(std::path::absolute)
                .collect::<io::Result<_>>()?,
            max_name_len,
            next_check: Mutex::default(),
        })
    }

    /// Fails if the directory is not at its path; one system call every 50 ms at most, unless it failed. `now` may be
    /// a moment ago.
    pub(super) fn check_place(&self, now: Instant) -> Result<(), DirectoryError> {
        let next = *self.next_check.lock();
        if next.is_some_and(|at| now < at) {
            return Ok(());
        }
        // Not under the lock, since a network file system may hang.
        let error = self.place_error();
        *self.next_check.lock() = error.is_none().then(|| Instant::now() + PLACE_INTERVAL);
        error.map_or(Ok(()), Err)
    }

    /// Any other error than a missing directory says nothing about its place.
    fn place_error(&self) -> Option<DirectoryError> {
        match sys::stat_path(&self.path) {
            Ok(found) => {
                let own = sys::stat_open(self.handle());
                let is_same = own.is_ok_and(|own| own.is_same_file(&found));
                (!is_same).then_some(DirectoryError::Replaced)
            }
            Err(error) => {
                let missing = [io::ErrorKind::NotFound, io::ErrorKind::NotADirectory];
                missing
                    .contains(&error.kind())
                    .then_some(DirectoryError::Missing)
            }
        }
    }

    pub(super) fn handle(&self) -> BorrowedFd<'_> {
        self.handle.as_fd()
    }

    /// Of a name that a template makes, in bytes.
    pub(super) fn max_name_len(&self) -> usize {
        self.max_name_len
    }

    pub(super) fn path(&self) -> &Path {
        Path::new(&*self.path)
    }

    /// Returns the path without copying it.
    pub(super) fn to_text(&self) -> Arc<str> {
        Arc::clone(&self.path)
    }

    /// Returns the directory of a file, and its name there.
    pub(super) fn parent<'p>(&self, path: &'p str) -> io::Result<(Arc<OwnedFd>, &'p str)> {
        // Faster than for a character, and nearly all have none.
        match memchr::memchr(b'/', path.as_bytes()).and_then(|_| path.rsplit_once('/')) {
            None => Ok((Arc::clone(&self.handle), path)),
            Some((above, name)) => Ok((self.directory(above_of(above))?.into(), name)),
        }
    }

    pub(super) fn make_parent<'p>(
        &self,
        path: &'p str,
        mode: u32,
    ) -> io::Result<(Arc<OwnedFd>, &'p str)> {
        match self.parent(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            done => return done,
        }
        if let (Some((above, name)), true) = (path.rsplit_once('/'), path.starts_with('/')) {
            return Ok((self.make_outside(above, mode)?.into(), name));
        }
        let mut parent = Arc::clone(&self.handle);
        let mut rest = path;
        while let Some((segment, below)) = rest.split_once('/') {
            parent = self.enter_or_make(parent.as_fd(), segment, mode)?.into();
            rest = below;
        }
        Ok((parent, rest))
    }

    fn enter_or_make(&self, dir: BorrowedFd<'_>, name: &str, mode: u32) -> io::Result<OwnedFd> {
        match self.enter(dir, name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            entered => return entered,
        }
        match sys::make_dir(dir, name, mode) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            _ => self.enter(dir, name),
        }
    }

    /// A path that starts with `/` is outside.
    pub(super) fn directory(&self, path: &str) -> io::Result<OwnedFd> {
        if path.starts_with('/') {
            return self.outside(rustix::fs::CWD, path);
        }
        match sys::open_dir_beneath(self.handle(), path) {
            Some(Err(error)) if is_link_error(&error) => self.walk(path),
            Some(opened) => opened,
            None => self.walk(path),
        }
    }

    fn walk(&self, relative: &str) -> io::Result<OwnedFd> {
        let mut segments = relative.split('/');
        let mut handle = self.enter(self.handle(), segments.next().unwrap_or(relative))?;
        for segment in segments {
            handle = self.enter(handle.as_fd(), segment)?;
        }
        Ok(handle)
    }

    fn enter(&self, dir: BorrowedFd<'_>, name: &str) -> io::Result<OwnedFd> {
        match sys::open_dir(dir, name) {
            Err(error) => match sys::stat(dir, name) {
                Ok(found) if found.is_link => self.outside(dir, name),
                _ => Err(error),
            },
            opened => opened,
        }
    }

    /// Opens a directory by following links, if it is in one of the data directories.
    fn outside(&self, dir: BorrowedFd<'_>, path: &str) -> io::Result<OwnedFd> {
        let reason = if path.starts_with('/') { OUTSIDE } else { LINK };
        if self.data_dirs.is_empty() {
            return Err(NotServed::error(path, reason));
        }
        let place = sys::open_place(dir, path).map_err(|error| match error.kind() {
            // A missing directory below `path` may be created, one that a link names may not.
            io::ErrorKind::NotFound if reason == LINK => NotServed::error(path, DANGLING),
            _ => error,
        })?;
        self.check_data_dir(place.as_fd(), path)?;
        // Of the same directory, for reading.
        sys::open_dir(place.as_fd(), ".")
    }

    fn make_outside(&self, path: &str, mode: u32) -> io::Result<OwnedFd> {
        let path = above_of(path);
        match (self.outside(rustix::fs::CWD, path), path.rsplit_once('/')) {
            (Err(error), Some((above, name)))
                if error.kind() == io::ErrorKind::NotFound && !name.is_empty() =>
            {
                let parent = self.make_outside(above, mode)?;
                self.enter_or_make(parent.as_fd(), name, mode)
            }
            (opened, _) => opened,
        }
    }

    /// Returns the directory and the name of the file that a link leads to.
    pub(super) fn follow(&self, dir: BorrowedFd<'_>, name: &str) -> io::Result<(OwnedFd, String)> {
        if self.data_dirs.is_empty() {
            return Err(NotServed::error(name, LINK));
        }
        let place = sys::open_place(dir, name).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => NotServed::error(name, DANGLING),
            _ => error,
        })?;
        let real = self.check_data_dir(place.as_fd(), name)?;
        let (Some(above), Some(target)) = (
            real.parent().and_then(Path::to_str),
            real.file_name().and_then(|target| target.to_str()),
        ) else {
            return Err(NotServed::error(name, OUTSIDE));
        };
        let dir = sys::open_place(rustix::fs::CWD, above)?;
        if sys::real_path(dir.as_fd())?.to_str() != Some(above) {
            return Err(NotServed::error(name, OUTSIDE));
        }
        Ok((dir, target.to_owned()))
    }

    fn check_data_dir(&self, place: BorrowedFd<'_>, path: &str) -> io::Result<PathBuf> {
        let real = sys::real_path(place)?;
        match self.is_data_dir(&real) {
            true => Ok(real),
            false => Err(NotServed::error(path, OUTSIDE)),
        }
    }

    /// Hidden names in the directory of the store are those of the server, such as its database.
    fn is_data_dir(&self, real: &Path) -> bool {
        use std::os::unix::ffi::OsStrExt as _;
        if let Ok(inside) = real.strip_prefix(&self.real) {
            return !inside.iter().any(|name| name.as_bytes().starts_with(b"."));
        }
        // It may be mounted later than this store is opened.
        self.data_dirs.iter().any(|dir| {
            real.starts_with(dir) || dir.canonicalize().is_ok_and(|dir| real.starts_with(dir))
        })
    }

    /// True if names in a directory belong to the store, so that they can be synced.
    pub(super) fn owns(&self, dir: &str) -> bool {
        !dir.starts_with('/') || self.is_data_dir(Path::new(dir))
    }

    pub(super) fn resolve_requested(&self, path: &str) -> Result<String, String> {
        let clean = (!self.data_dirs.is_empty())
            .then(|| self.clean(path))
            .flatten();
        let path = clean.as_deref().unwrap_or(path);
        let relative = self
            .strip_root(path)
            .or_else(|| (!path.starts_with('/')).then_some(path));
        match relative {
            Some(relative) if is_valid_path(relative) => Ok(relative.into()),
            Some(_) => Err(format!(
                "{path:?} must consist of plain names that do not start with a dot and do not \
                 end with .info, .lock or .stop"
            )),
            None if clean.is_some() => Ok(path.into()),
            None => Err(format!("{path:?} is outside the upload directory")),
        }
    }

    /// Makes a path absolute and resolves `..` in its text, as tusd does.
    fn clean(&self, path: &str) -> Option<String> {
        let is_file = !path.is_empty() && path.len() <= 4096 && !path.ends_with('/');
        if !is_file || path.contains('\0') {
            return None;
        }
        let absolute = FileLocation::absolute(&self.path, path).concat();
        let mut names = Vec::new();
        for name in absolute.split('/') {
            match name {
                "" | "." => {}
                ".." => drop(names.pop()),
                name => names.push(name),
            }
        }
        (!names.is_empty()).then(|| ["/", &names.join("/")].concat())
    }

    /// `None` if the paths in the `.info` are invalid here. A path outside is absolute.
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
        let relative = relative.or_else(|| (!path.starts_with('/')).then_some(path));
        if let Some(relative) = relative {
            return is_valid_path(relative).then(|| relative.into());
        }
        // At the usual path in a directory that was moved.
        let is_usual = path
            .strip_suffix(id.as_str())
            .is_some_and(|dir| dir.ends_with('/'));
        let is_usable = path.len() <= 4096 && !path.contains('\0');
        (!is_usual && is_usable).then(|| path.to_owned())
    }

    fn strip_root<'p>(&self, path: &'p str) -> Option<&'p str> {
        let after = |root: &str| path.strip_prefix(root)?.strip_prefix('/');
        if &*self.path == "/" {
            return path.strip_prefix('/');
        }
        after(&self.path).or_else(|| after(self.real.to_str()?))
    }
}

/// Some file systems have shorter names, such as those that encrypt them. Some state nonsense.
fn max_name_len(stated: Option<u64>) -> usize {
    let stated = stated.and_then(|stated| usize::try_from(stated).ok());
    let stated = stated.filter(|stated| (100..=USUAL_NAME_MAX).contains(stated));
    MAX_NAME_LEN - (USUAL_NAME_MAX - stated.unwrap_or(USUAL_NAME_MAX))
}

/// Of `/name`.
fn above_of(dir: &str) -> &str {
    if dir.is_empty() { "/" } else { dir }
}

pub(super) fn is_link_error(error: &io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error())
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
        let root = Root::open(&dir.path().join("data"), 0o775, &[]).unwrap();
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
    fn names_fit_the_file_system() {
        for (stated, max) in [
            (None, 230),
            (Some(255), 230),
            (Some(1020), 230),
            (Some(143), 118),
            (Some(0), 230),
        ] {
            assert_eq!(max_name_len(stated), max, "{stated:?}");
        }
        let (_dir, root) = root();
        assert_eq!(root.max_name_len(), 230);
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
        assert_eq!(relative(Some("/old/../x"), Some("/old/abc.info")), None);
        assert_eq!(relative(None, None), None);
        // Outside: it may be opened only in a data directory.
        let outside = relative(Some("/etc/passwd"), Some("/old/abc.info")).unwrap();
        assert_eq!(outside, "/etc/passwd");
        for dir in ["/etc", "/"] {
            let error = root.directory(dir).unwrap_err();
            assert!(NotServed::of(&error).is_some(), "{error}");
        }
    }

    #[test]
    fn a_directory_is_used_only_at_its_path() {
        let (dir, root) = root();
        let (here, away) = (dir.path().join("data"), dir.path().join("away"));
        root.check_place(Instant::now()).unwrap();
        let recent = Instant::now();
        std::fs::rename(&here, &away).unwrap();
        std::fs::create_dir(&here).unwrap();
        // A check may be as old as the interval, and no older.
        if let Some(rest) = PLACE_INTERVAL.checked_sub(recent.elapsed()) {
            std::thread::sleep(rest);
        }
        assert_eq!(
            root.check_place(Instant::now()),
            Err(DirectoryError::Replaced)
        );
        std::fs::remove_dir(&here).unwrap();
        assert_eq!(
            root.check_place(Instant::now()),
            Err(DirectoryError::Missing)
        );
        std::fs::write(&here, "").unwrap();
        assert_eq!(
            root.check_place(Instant::now()),
            Err(DirectoryError::Replaced)
        );
        std::fs::remove_file(&here).unwrap();
        std::fs::rename(&away, &here).unwrap();
        // Back at its place, it is used at once.
        root.check_place(Instant::now()).unwrap();
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

    #[test]
    fn links_lead_into_data_directories_only() {
        let dir = tempfile::tempdir().unwrap();
        let (archive, secret) = (dir.path().join("archive"), dir.path().join("secret"));
        for dir in [archive.join("deep"), secret.clone()] {
            std::fs::create_dir_all(dir).unwrap();
        }
        let data = dir.path().join("data");
        let root = Root::open(&data, 0o775, std::slice::from_ref(&archive)).unwrap();
        std::fs::create_dir_all(data.join(".landfall")).unwrap();
        let link = |to: &Path, name: &str| std::os::unix::fs::symlink(to, data.join(name)).unwrap();
        link(&archive, "archive");
        link(&secret, "secret");
        link(&archive.join("none"), "dangling");
        link(&data.join(".landfall"), "own");
        // Out of the archive again.
        std::os::unix::fs::symlink(&secret, archive.join("secret")).unwrap();
        std::fs::write(archive.join("file"), "x").unwrap();
        std::fs::write(secret.join("file"), "x").unwrap();
        link(&archive.join("file"), "good");
        link(&secret.join("file"), "bad");
        let absolute = |dir: &Path, name: &str| dir.join(name).to_str().unwrap().to_owned();
        for open in [Root::directory, Root::walk] {
            open(&root, "archive").unwrap();
            open(&root, "archive/deep").unwrap();
            for bad in ["secret", "archive/secret", "dangling", "own"] {
                let error = open(&root, bad).unwrap_err();
                assert!(NotServed::of(&error).is_some(), "{bad}: {error}");
            }
        }
        root.directory(&absolute(&archive, "deep")).unwrap();
        for bad in [
            absolute(&archive, "secret"),
            absolute(&secret, ""),
            "/".into(),
        ] {
            let error = root.directory(&bad).unwrap_err();
            assert!(NotServed::of(&error).is_some(), "{bad}: {error}");
        }
        let (target, name) = root.follow(root.handle(), "good").unwrap();
        assert_eq!(sys::stat(target.as_fd(), &name).unwrap().size, 1);
        assert!(NotServed::of(&root.follow(root.handle(), "bad").unwrap_err()).is_some());
        // Directories are created below a data directory, and nowhere else.
        root.make_parent("archive/new/file", 0o775).unwrap();
        root.make_parent(&absolute(&archive, "a/b/file"), 0o775)
            .unwrap();
        assert!(archive.join("new").is_dir() && archive.join("a/b").is_dir());
        root.make_parent(&absolute(&secret, "new/file"), 0o775)
            .unwrap_err();
        assert!(!secret.join("new").exists());
        // As tusd resolves them.
        let resolve = |path: &str| root.resolve_requested(path);
        assert_eq!(resolve("a/../b").unwrap(), "b");
        assert_eq!(resolve("../archive/x").unwrap(), absolute(&archive, "x"));
        assert_eq!(resolve(&absolute(&data, "./x")).unwrap(), "x");
        for bad in ["", "/", ".hidden", "a/x.info", "x/"] {
            assert!(resolve(bad).is_err(), "{bad}: {:?}", resolve(bad));
        }
    }
}
