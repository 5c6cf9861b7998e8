//! The location of an upload in its store. It must not cost what no hook, event or store reads.

use std::{
    collections::BTreeMap,
    ops::{Deref, DerefMut},
    sync::{Arc, OnceLock},
};

use super::UploadId;

type Pairs = BTreeMap<String, String>;

/// The location of an upload in its store, in the store's terms: a map of texts.
///
/// For a file store, made from paths when it is first read.
#[derive(Debug, Clone, Default)]
pub struct Storage {
    pairs: Pairs,
    /// In place of the pairs, which are made from it.
    files: Option<(FileLocation, OnceLock<Pairs>)>,
}

/// The two files of an upload.
#[derive(Debug, Clone)]
pub(crate) struct FileLocation {
    /// Absolute, and only that of the root ends with a slash.
    pub(crate) dir: Arc<str>,
    /// A path in another directory is absolute.
    pub(crate) data: Arc<str>,
    pub(crate) id: UploadId,
}

impl FileLocation {
    /// Returns the parts of an absolute path.
    pub(crate) fn absolute<'a>(dir: &'a str, path: &'a str) -> [&'a str; 3] {
        let dir = if path.starts_with('/') { "" } else { dir };
        let slash = if dir.is_empty() || dir.ends_with('/') {
            ""
        } else {
            "/"
        };
        [dir, slash, path]
    }

    /// Returns the parts of the values, in the order of their keys.
    pub(crate) fn pairs(&self) -> [(&'static str, [&str; 4]); 3] {
        let path = |path, suffix| {
            let [dir, slash, path] = Self::absolute(&self.dir, path);
            [dir, slash, path, suffix]
        };
        [
            ("InfoPath", path(self.id.as_str(), ".info")),
            ("Path", path(&self.data, "")),
            ("Type", ["filestore", "", "", ""]),
        ]
    }
}

impl Storage {
    #[cfg(feature = "file-store")]
    pub(crate) fn of_files(location: FileLocation) -> Self {
        Self {
            pairs: Pairs::new(),
            files: Some((location, OnceLock::new())),
        }
    }

    pub(crate) fn files(&self) -> Option<&FileLocation> {
        self.files.as_ref().map(|(location, _)| location)
    }
}

impl Deref for Storage {
    type Target = Pairs;

    fn deref(&self) -> &Pairs {
        let Some((location, pairs)) = &self.files else {
            return &self.pairs;
        };
        let of_path = |(key, value): (&str, [&str; 4])| (key.to_owned(), value.concat());
        pairs.get_or_init(|| location.pairs().map(of_path).into())
    }
}

impl DerefMut for Storage {
    fn deref_mut(&mut self) -> &mut Pairs {
        if self.files.is_some() {
            *self = Self::from((**self).clone());
        }
        &mut self.pairs
    }
}

impl<P: IntoIterator<Item = (String, String)>> From<P> for Storage {
    fn from(pairs: P) -> Self {
        Self {
            pairs: pairs.into_iter().collect(),
            files: None,
        }
    }
}

impl PartialEq for Storage {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for Storage {}

#[cfg(all(test, feature = "file-store"))]
mod tests {
    use super::*;

    #[test]
    fn the_location_of_files_is_that_of_their_paths() {
        for (dir, data, path, info) in [
            ("/data", "a/b", "/data/a/b", "/data/a/b.info"),
            ("/", "c", "/c", "/a/b.info"),
            ("/data", "/other/c", "/other/c", "/data/a/b.info"),
        ] {
            let mut storage = Storage::of_files(FileLocation {
                dir: dir.into(),
                data: data.into(),
                id: UploadId::new("a/b").unwrap(),
            });
            let pairs = [("Type", "filestore"), ("Path", path), ("InfoPath", info)];
            let same = Storage::from(pairs.map(|(key, value)| (key.into(), value.into())));
            assert_eq!(storage, same);
            storage.remove("Type");
            assert_eq!((storage.len(), storage.files().is_some()), (2, false));
            assert_eq!(storage["Path"], path);
        }
    }
}
