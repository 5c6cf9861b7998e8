//! The files that the arguments of an upload select: files, folders, patterns and standard input.

mod walk;

use std::{
    fs::{self, Metadata},
    io,
    path::{Path, PathBuf},
    time::SystemTime,
};

use self::walk::walk;

/// A file to upload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SelectedFile {
    pub(crate) path: PathBuf,
    /// The path below the selected folder, which it begins with, separated by slashes.
    pub(crate) relative_path: Option<String>,
    pub(crate) version: FileVersion,
}

/// The size and the time of the last change, to detect a changed file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FileVersion {
    pub(crate) length: u64,
    pub(crate) modified: Option<SystemTime>,
}

/// The selected files, and the messages of those that cannot be uploaded.
#[derive(Debug, Default)]
pub(crate) struct Selection {
    pub(crate) files: Vec<SelectedFile>,
    pub(crate) failures: Vec<String>,
    /// The number of symbolic links and special files in folders, which are not uploaded.
    pub(crate) skipped: usize,
}

impl FileVersion {
    pub(crate) fn read(path: &Path) -> io::Result<Self> {
        fs::metadata(path).map(|metadata| Self::from_metadata(&metadata))
    }

    fn from_metadata(metadata: &Metadata) -> Self {
        Self {
            length: metadata.len(),
            modified: metadata.modified().ok(),
        }
    }
}

impl SelectedFile {
    /// The name for messages.
    pub(crate) fn name(&self) -> String {
        match &self.relative_path {
            Some(path) => path.clone(),
            None => self.path.to_string_lossy().into_owned(),
        }
    }

    pub(crate) fn filename(&self) -> String {
        let name = self.path.file_name().unwrap_or(self.path.as_os_str());
        name.to_string_lossy().into_owned()
    }
}

/// Selects files in the order of the arguments; those of a folder are sorted by their path.
pub(crate) fn select(arguments: &[PathBuf], follow: bool) -> Selection {
    let mut selection = Selection::default();
    for argument in arguments {
        match fs::metadata(argument) {
            Ok(metadata) => selection.add(argument, &metadata, follow),
            Err(error) if error.kind() == io::ErrorKind::NotFound && is_pattern(argument) => {
                selection.add_pattern(argument, follow);
            }
            Err(error) => selection.fail(argument, &error),
        }
    }
    selection
}

impl Selection {
    fn add(&mut self, path: &Path, metadata: &Metadata, follow: bool) {
        if metadata.is_dir() {
            walk(path, follow, self);
        } else if metadata.is_file() {
            self.files.push(SelectedFile {
                path: path.to_owned(),
                relative_path: None,
                version: FileVersion::from_metadata(metadata),
            });
        } else {
            let path = path.display();
            self.failures.push(format!(
                "{path} is not a regular file; upload its content as standard input, with - as the file"
            ));
        }
    }

    /// Adds the files that match a pattern, which the shell has not expanded.
    fn add_pattern(&mut self, pattern: &Path, follow: bool) {
        let options = glob::MatchOptions {
            require_literal_leading_dot: true,
            require_literal_separator: true,
            ..glob::MatchOptions::default()
        };
        let text = pattern.to_string_lossy();
        let paths = match glob::glob_with(&text, options) {
            Ok(paths) => paths,
            Err(error) => {
                return self
                    .failures
                    .push(format!("{text}: invalid pattern: {error}"));
            }
        };
        let mut is_empty = true;
        for path in paths {
            is_empty = false;
            match path {
                Ok(path) => match fs::metadata(&path) {
                    Ok(metadata) => self.add(&path, &metadata, follow),
                    Err(error) => self.fail(&path, &error),
                },
                Err(error) => self.fail(error.path(), error.error()),
            }
        }
        if is_empty {
            self.failures.push(format!("no file matches {text}"));
        }
    }

    fn fail(&mut self, path: &Path, error: &io::Error) {
        let path = path.display();
        self.failures
            .push(format!("failed to read {path}: {error}"));
    }
}

fn is_pattern(path: &Path) -> bool {
    path.to_string_lossy().contains(['*', '?', '['])
}

#[cfg(test)]
mod tests;
