//! A clone of the repository below another Cargo workspace.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../..")
        .canonicalize()
        .unwrap()
}

fn manifests(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap_or(".");
        let is_other = name.starts_with('.') || name == "target" || name == "node_modules";
        if path.is_dir() && !path.is_symlink() && !is_other {
            manifests(&path, found);
        } else if name == "Cargo.toml" {
            found.push(path);
        }
    }
}

fn metadata(manifest: &Path) -> Result<String, String> {
    let output = Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--offline",
            "--no-deps",
            "--format-version",
            "1",
        ])
        .arg("--manifest-path")
        .arg(manifest)
        .output()
        .unwrap();
    match output.status.success() {
        true => Ok(String::from_utf8(output.stdout).unwrap()),
        false => Err(String::from_utf8(output.stderr).unwrap()),
    }
}

#[test]
fn packages_outside_the_workspace_stand_for_themselves() {
    let root = root();
    let members = metadata(&root.join("Cargo.toml")).unwrap();
    let mut found = Vec::new();
    manifests(&root, &mut found);
    let above = tempfile::tempdir().unwrap();
    fs::write(
        above.path().join("Cargo.toml"),
        "[workspace]\nresolver = \"3\"\n",
    )
    .unwrap();
    let clone = above.path().join("clone");
    for manifest in &found {
        let copy = clone.join(manifest.strip_prefix(&root).unwrap());
        let dir = copy.parent().unwrap();
        fs::create_dir_all(dir.join("src")).unwrap();
        fs::copy(manifest, &copy).unwrap();
        for target in ["src/lib.rs", "src/main.rs"] {
            fs::write(dir.join(target), "").unwrap();
        }
    }
    let mut others = Vec::new();
    for manifest in found {
        let member = format!("\"manifest_path\":\"{}\"", manifest.display());
        if !members.contains(&member) {
            let copy = clone.join(manifest.strip_prefix(&root).unwrap());
            if let Err(error) = metadata(&copy) {
                panic!("{}: {error}", manifest.display());
            }
            others.push(manifest.display().to_string());
        }
    }
    let has_loadgen = others.iter().any(|path| path.contains("bench/loadgen"));
    assert!(has_loadgen, "{others:?}");
}
