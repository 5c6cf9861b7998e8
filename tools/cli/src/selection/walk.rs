//! The files of a folder.

use std::path::{Component, Path};

use walkdir::WalkDir;

use super::{FileVersion, SelectedFile, Selection};

/// Adds the files of a folder and its subfolders, sorted by path.
pub(super) fn walk(folder: &Path, follow: bool, selection: &mut Selection) {
    // The relative path begins with the name of the folder, as that of a browser does (webkitRelativePath). A
    // folder such as `.` or `..` has no name.
    let parent = match folder.components().next_back() {
        Some(Component::Normal(_)) => folder.parent().unwrap_or(folder),
        _ => folder,
    };
    let entries = WalkDir::new(folder)
        .follow_links(follow)
        .sort_by_file_name();
    for entry in entries {
        let entry = match entry {
            Ok(entry) => entry,
            Err(error) => {
                selection.failures.push(format!("failed to read {error}"));
                continue;
            }
        };
        let kind = entry.file_type();
        if kind.is_dir() {
            continue;
        }
        // The argument itself may be a symbolic link.
        if !kind.is_file() {
            selection.skipped += usize::from(entry.depth() > 0);
            continue;
        }
        match entry.metadata() {
            Ok(metadata) => selection.files.push(SelectedFile {
                relative_path: Some(relative_path(entry.path(), parent)),
                version: FileVersion::from_metadata(&metadata),
                path: entry.into_path(),
            }),
            Err(error) => selection.failures.push(format!("failed to read {error}")),
        }
    }
}

fn relative_path(path: &Path, parent: &Path) -> String {
    let path = path.strip_prefix(parent).unwrap_or(path);
    let names = path
        .components()
        .map(|name| name.as_os_str().to_string_lossy());
    names.collect::<Vec<_>>().join("/")
}
