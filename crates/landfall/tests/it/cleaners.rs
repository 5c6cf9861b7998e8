//! The table of what deletes, in tests/storage.md, is complete.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// Calls and statements that delete something outside of the process.
const DELETING: &[&str] = &[
    "remove_file(",
    "remove_dir(",
    "remove_dir_all(",
    "unlink(",
    "unlinkat(",
    "DELETE FROM",
    "TRUNCATE",
    ".delete_object(",
    ".delete_version(",
    ".abort_multipart(",
    ".remove_parts(",
    "records.delete(",
    "terminator.terminate(",
    "terminator.expire(",
    ".remove_orphan(",
];

/// Delete nothing themselves: they define a call that others make, test, or belong to another program than the server.
const NOT_CLEANERS: &[&str] = &[
    "crates/state/src/sql/statement.rs",
    "crates/landfall/src/store/file/crash_tests/",
    "crates/landfall/src/store/file/paths.rs",
    "crates/landfall/src/store/file/sys.rs",
    "crates/objects/src/cloud.rs",
    "crates/azure/",
    "crates/gcs/",
    "crates/s3/src/client/",
    "crates/hooks/proto/",
    "crates/testkit/",
];

fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let is_test = ["tests", "tests.rs", "examples", "benches", "target"].contains(&&*name);
        if is_test {
            continue;
        }
        if path.is_dir() {
            sources(&path, found);
        } else if name.ends_with(".rs") {
            found.push(path);
        }
    }
}

#[test]
fn everything_that_deletes_is_in_the_table() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut files = Vec::new();
    sources(&root.join("crates"), &mut files);
    let mut deleting = BTreeSet::new();
    for file in files {
        let name = file.strip_prefix(&root).unwrap().to_str().unwrap();
        if NOT_CLEANERS.iter().any(|prefix| name.starts_with(prefix)) {
            continue;
        }
        let source = fs::read_to_string(&file).unwrap();
        let code = source.split("#[cfg(test)]\nmod tests {").next().unwrap();
        if DELETING.iter().any(|call| code.contains(call)) {
            deleting.insert(name.to_owned());
        }
    }
    let docs = fs::read_to_string(root.join("crates/landfall/tests/storage.md")).unwrap();
    let cells = docs
        .lines()
        .filter_map(|line| line.strip_prefix("| `crates/"));
    let listed: BTreeSet<_> = cells
        .flat_map(|line| line.split(" |").next().unwrap().split(", "))
        .map(|name| {
            format!(
                "crates/{}",
                name.trim_matches('`').trim_start_matches("crates/")
            )
        })
        .collect();
    assert_eq!(
        deleting, listed,
        "left: the code, right: the table in tests/storage.md"
    );
}

/// A cleaner of a store cannot remove anything without a permission, which only the rule makes.
#[test]
fn only_the_rule_makes_a_permission() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut files = Vec::new();
    sources(&root.join("crates"), &mut files);
    let makes = |file: &PathBuf| fs::read_to_string(file).unwrap().contains("Removable(())");
    files.retain(makes);
    let [file] = &files[..] else {
        panic!("{files:?}");
    };
    assert!(file.ends_with("crates/landfall/src/removal/mod.rs"));
}
