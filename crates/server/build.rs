//! Names the commit in `landfall version`, unless `LANDFALL_BUILD_COMMIT` does: that of the git checkout, or the one cargo
//! records in a package. Debug builds have none, because they would compile again after each commit.

use std::{env, fs, process::Command};

/// The git directory of a checkout, relative to this crate.
const GIT: &str = "../../.git";
const PACKAGED: &str = ".cargo_vcs_info.json";

fn main() {
    let name = "LANDFALL_BUILD_COMMIT";
    println!("cargo::rerun-if-env-changed={name}");
    println!("cargo::rerun-if-changed=build.rs");
    let is_release = env::var("PROFILE").is_ok_and(|profile| profile == "release");
    if !is_release || env::var_os(name).is_some() {
        return;
    }
    let commit = match fs::read_to_string(PACKAGED) {
        Ok(info) => info
            .split('"')
            .find(|text| text.len() == 40)
            .map(str::to_owned),
        Err(_) => {
            for file in ["HEAD", "logs/HEAD"] {
                println!("cargo::rerun-if-changed={GIT}/{file}");
            }
            head()
        }
    };
    if let Some(commit) = commit {
        println!("cargo::rustc-env={name}={commit}");
    }
}

/// `--git-dir` rather than a search: a checkout around this one is of something else.
fn head() -> Option<String> {
    let arguments = ["--git-dir", GIT, "rev-parse", "HEAD"];
    let output = Command::new("git").args(arguments).output().ok()?;
    let commit = String::from_utf8(output.stdout).ok()?;
    (output.status.success()).then(|| commit.trim().to_owned())
}
