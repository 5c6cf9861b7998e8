//! Names the commit and its date in `landfall version`, unless `LANDFALL_BUILD_COMMIT` and `LANDFALL_BUILD_DATE` do: those of
//! the git checkout, or the commit that cargo records in a package. Debug builds have none, because they would compile again
//! after each commit.

use std::{env, fs, process::Command};

/// The git directory of a checkout, relative to this crate.
const GIT: &str = "../../.git";
const PACKAGED: &str = ".cargo_vcs_info.json";

fn main() {
    let names = ["LANDFALL_BUILD_COMMIT", "LANDFALL_BUILD_DATE"];
    for name in names {
        println!("cargo::rerun-if-env-changed={name}");
    }
    println!("cargo::rerun-if-changed=build.rs");
    let is_release = env::var("PROFILE").is_ok_and(|profile| profile == "release");
    if !is_release || env::var_os(names[0]).is_some() {
        return;
    }
    let found = match fs::read_to_string(PACKAGED) {
        Ok(info) => {
            let commit = info.split('"').find(|text| text.len() == 40);
            commit.map(str::to_owned)
        }
        Err(_) => {
            for file in ["HEAD", "logs/HEAD"] {
                println!("cargo::rerun-if-changed={GIT}/{file}");
            }
            head()
        }
    };
    let found = found.unwrap_or_default();
    for (name, value) in names.into_iter().zip(found.lines()) {
        if env::var_os(name).is_none() {
            println!("cargo::rustc-env={name}={value}");
        }
    }
}

/// Returns two lines. `--git-dir` rather than a search: a checkout around this one is of something else.
fn head() -> Option<String> {
    let arguments = ["--git-dir", GIT, "log", "-1", "--format=%H%n%cI"];
    let output = Command::new("git").args(arguments).output().ok()?;
    let lines = String::from_utf8(output.stdout).ok()?;
    output.status.success().then_some(lines)
}
