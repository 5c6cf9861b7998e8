//! The directory of a store, and the confinement of everything to it.
//!
//! Files are reached through an open handle of the directory that holds them, got without following
//! a single link below the store's directory; so neither a name, nor a hook's wish, nor a link put
//! there by somebody else leads outside. (The store's directory itself may be a link.)

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
};

use super::sys;
use crate::upload::UploadId;

/// Names in the store that are no data: of descriptions, and of tusd's locks.
pub(super) const INFO: &str = ".info";
const RESERVED: [&str; 3] = [INFO, ".lock", ".stop"];
/// The longest name a hook may ask for, in bytes: room is left for `.info` and temporary names.
const MAX_NAME: usize = 230;

/// The directory of a store.
#[derive(Debug)]
pub(super) struct Root {
    handle: OwnedFd,
    /// Its absolute path as given, in UTF-8.
    path: String,
    /// Its absolute path without links.
    real: PathBuf,
}

/// A directory that holds a file of the store.
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
    /// Opens the directory, making it and its parents if need be.
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
        Ok(Self { handle, path, real })
    }

    pub(super) fn handle(&self) -> BorrowedFd<'_> {
        self.handle.as_fd()
    }

    /// Its absolute path as given.
    pub(super) fn path(&self) -> &Path {
        Path::new(&self.path)
    }

    /// The absolute path of a file in it.
    pub(super) fn absolute(&self, place: &str) -> String {
        let slash = if self.path.ends_with('/') { "" } else { "/" };
        format!("{}{slash}{place}", self.path)
    }

    /// The directory that holds `place`, and the name of `place` in it.
    pub(super) fn parent<'a, 'p>(&'a self, place: &'p str) -> io::Result<(Parent<'a>, &'p str)> {
        match place.rsplit_once('/') {
            None => Ok((Parent::Root(self.handle()), place)),
            Some((above, name)) => Ok((Parent::Below(self.directory(above)?), name)),
        }
    }

    /// [`Root::parent`], making the directories that are missing.
    pub(super) fn make_parent<'a, 'p>(
        &'a self,
        place: &'p str,
        mode: u32,
    ) -> io::Result<(Parent<'a>, &'p str)> {
        match self.parent(place) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            done => return done,
        }
        let mut parent = Parent::Root(self.handle());
        let mut rest = place;
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

    /// Opens a directory below the root.
    pub(super) fn directory(&self, place: &str) -> io::Result<OwnedFd> {
        sys::open_dir_beneath(self.handle(), place).unwrap_or_else(|| self.walk(place))
    }

    /// [`Root::directory`] step by step.
    fn walk(&self, place: &str) -> io::Result<OwnedFd> {
        let mut segments = place.split('/');
        let mut handle = sys::open_dir(self.handle(), segments.next().unwrap_or(place))?;
        for segment in segments {
            handle = sys::open_dir(handle.as_fd(), segment)?;
        }
        Ok(handle)
    }

    /// The place that a hook asks for, absolute or relative to the directory.
    pub(super) fn wish(&self, path: &str) -> Result<String, String> {
        let place = self
            .below(path)
            .or_else(|| (!path.starts_with('/')).then_some(path))
            .ok_or_else(|| format!("{path:?} is not in the upload directory"))?;
        if is_place(place) {
            Ok(place.into())
        } else {
            Err(format!(
                "{path:?} must be made of plain names that don't start with a dot and don't end \
                 with .info, .lock or .stop"
            ))
        }
    }

    /// Where the bytes of an upload should be, going by the paths in its `.info`; `None` if they
    /// say nothing that makes sense here.
    pub(super) fn place_of(
        &self,
        id: &UploadId,
        path: Option<&str>,
        info: Option<&str>,
    ) -> Option<String> {
        let path = path?;
        let place = self.below(path).or_else(|| {
            // The directory was moved: the `.info` says where it was.
            let old = info?.strip_suffix(INFO)?.strip_suffix(id.as_str())?;
            path.strip_prefix(old)
        });
        let place = place.or_else(|| (!path.starts_with('/')).then_some(path))?;
        is_place(place).then(|| place.into())
    }

    /// What comes after the directory in a path.
    fn below<'p>(&self, path: &'p str) -> Option<&'p str> {
        let after = |root: &str| path.strip_prefix(root)?.strip_prefix('/');
        if self.path == "/" {
            return path.strip_prefix('/');
        }
        after(&self.path).or_else(|| after(self.real.to_str()?))
    }
}

/// Whether a relative path is made of plain names only, none of which the store keeps for itself.
pub(super) fn is_place(place: &str) -> bool {
    place.len() <= 4096
        && place.split('/').all(|name| {
            !name.is_empty()
                && !name.starts_with('.')
                && name.len() <= MAX_NAME
                && !name.contains('\0')
                // Also as a directory it would be in the way of another upload's file.
                && !RESERVED.iter().any(|end| name.ends_with(end))
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
    fn wishes_stay_inside() {
        let (dir, root) = root();
        let inside = dir.path().join("data");
        let inside = inside.to_str().unwrap();
        assert_eq!(root.wish("a/b.pdf").unwrap(), "a/b.pdf");
        assert_eq!(
            root.wish(&format!("{inside}/a/b c.pdf")).unwrap(),
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
            assert!(root.wish(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_moved_directory_is_found_again() {
        let (_dir, root) = root();
        let id = UploadId::new("abc").unwrap();
        let place = |path, info| root.place_of(&id, path, info);
        assert_eq!(
            place(Some("/old/abc"), Some("/old/abc.info")).as_deref(),
            Some("abc")
        );
        assert_eq!(
            place(Some("/old/s/f.bin"), Some("/old/abc.info")).as_deref(),
            Some("s/f.bin")
        );
        assert_eq!(place(Some("s/f.bin"), None).as_deref(), Some("s/f.bin"));
        assert_eq!(place(Some("/old/abc"), None), None);
        assert_eq!(place(Some("/etc/passwd"), Some("/old/abc.info")), None);
        assert_eq!(place(Some("/old/../x"), Some("/old/abc.info")), None);
        assert_eq!(place(None, None), None);
    }

    #[test]
    fn links_are_not_followed_by_either_way_of_opening() {
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
