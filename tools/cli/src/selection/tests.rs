use std::{fs, os::unix::fs::symlink, path::PathBuf};

use tempfile::TempDir;

use super::{Selection, select};

/// album/{b.txt, a/2.txt, a/10.txt, .hidden, link -> b.txt}, x1.txt, x[1].txt
fn files() -> TempDir {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir_all(root.path().join("album/a")).unwrap();
    for name in [
        "album/b.txt",
        "album/a/2.txt",
        "album/a/10.txt",
        "album/.hidden",
        "x1.txt",
        "x[1].txt",
    ] {
        fs::write(root.path().join(name), name).unwrap();
    }
    symlink("b.txt", root.path().join("album/link")).unwrap();
    root
}

fn relative_paths(selection: &Selection) -> Vec<&str> {
    let paths = selection.files.iter();
    paths
        .filter_map(|file| file.relative_path.as_deref())
        .collect()
}

fn selected(root: &TempDir, arguments: &[&str], follow: bool) -> Selection {
    let paths: Vec<PathBuf> = arguments
        .iter()
        .map(|name| root.path().join(name))
        .collect();
    select(&paths, follow)
}

#[test]
fn a_folder_has_sorted_files_with_relative_paths() {
    let root = files();
    for name in ["album", "album/", "album/a/../../album"] {
        let selection = selected(&root, &[name], false);
        let expected = [
            "album/.hidden",
            "album/a/10.txt",
            "album/a/2.txt",
            "album/b.txt",
        ];
        assert_eq!(relative_paths(&selection), expected, "{name}");
        assert_eq!((selection.skipped, selection.failures.len()), (1, 0));
    }
    let selection = selected(&root, &["album/."], false);
    assert_eq!(relative_paths(&selection)[3], "album/b.txt");
}

#[test]
fn symbolic_links_are_followed_on_request() {
    let root = files();
    let selection = selected(&root, &["album"], true);
    assert!(relative_paths(&selection).contains(&"album/link"));
    assert_eq!(selection.skipped, 0);
    // One that is an argument always is.
    assert_eq!(selected(&root, &["album/link"], false).files.len(), 1);
}

#[test]
fn a_folder_that_contains_itself_is_reported() {
    let root = files();
    symlink("..", root.path().join("album/a/loop")).unwrap();
    let selection = selected(&root, &["album"], true);
    assert_eq!(selection.failures.len(), 1);
    assert_eq!(relative_paths(&selection).len(), 5);
}

#[test]
fn patterns_are_expanded_only_if_no_file_has_the_name() {
    let root = files();
    let names = |argument| {
        let selection = selected(&root, &[argument], false);
        let files = selection.files.iter();
        files.map(|file| file.filename()).collect::<Vec<_>>()
    };
    assert_eq!(names("x*.txt"), ["x1.txt", "x[1].txt"]);
    assert_eq!(names("x[1].txt"), ["x[1].txt"]);
    assert_eq!(names("album/a/?.txt"), ["2.txt"]);
    // Hidden files need a dot in the pattern, as in a shell.
    assert_eq!(names("album/*"), ["10.txt", "2.txt", "b.txt", "link"]);
}

#[test]
fn missing_files_are_reported() {
    let root = files();
    let selection = selected(&root, &["missing", "y*", "x1.txt"], false);
    assert_eq!(selection.files.len(), 1);
    assert!(
        selection.failures[0].starts_with("failed to read "),
        "{selection:?}"
    );
    assert!(
        selection.failures[1].starts_with("no file matches "),
        "{selection:?}"
    );
}
