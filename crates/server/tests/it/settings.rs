//! The command line of the real program, and the texts made from the table of settings.
//!
//! With `UPDATE_GOLDEN=1` in the environment the golden texts are written anew.

#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::process::{Command, Output};

/// Runs the program with nothing of ours in its environment.
fn landfall(words: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_landfall"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("LANDFALL_") {
            command.env_remove(name);
        }
    }
    command.args(words).output().unwrap()
}

/// A stream of the program as text.
fn text(stream: &[u8]) -> String {
    String::from_utf8(stream.to_vec()).unwrap()
}

/// Checks a text against the file it is kept in, or writes the file anew.
fn golden(path: &Path, now: &str) {
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(path, now).unwrap();
    }
    let kept = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        kept == now,
        "{} is not up to date; run the test with UPDATE_GOLDEN=1. Now it would be:\n{now}",
        path.display()
    );
}

#[test]
fn help_is_as_kept() {
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it");
    for (words, file) in [
        (&["-h"][..], "help.txt"),
        (&["sweep", "-h"], "help-sweep.txt"),
        (&["doctor", "s3", "-h"], "help-doctor.txt"),
        (&["s3", "set-cors", "-h"], "help-set-cors.txt"),
        (&["events", "-h"], "help-events.txt"),
        (&["keys", "-h"], "help-keys.txt"),
    ] {
        let output = landfall(words);
        assert_eq!(output.status.code(), Some(0));
        assert_eq!(text(&output.stderr), "");
        let help = text(&output.stdout);
        let widest = help.lines().map(|line| line.chars().count()).max();
        assert!(widest <= Some(80), "{widest:?}");
        golden(&kept.join(file), &help);
    }
}

#[test]
fn the_document_has_the_table_of_settings() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/configuration.md");
    let document = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = document.split_once("<!-- settings: begin -->\n").unwrap();
    let (_, after) = rest.split_once("<!-- settings: end -->\n").unwrap();
    let reference = landfall_server::settings::reference();
    golden(
        &path,
        &format!("{before}<!-- settings: begin -->\n{reference}<!-- settings: end -->\n{after}"),
    );
}

#[test]
fn the_version_has_three_lines() {
    for words in [&["-version"][..], &["version"]] {
        let output = landfall(words);
        assert_eq!(output.status.code(), Some(0));
        let version = text(&output.stdout);
        let lines: Vec<&str> = version.lines().collect();
        assert_eq!(lines.len(), 3);
        assert_eq!(lines[0], format!("Version: {}", env!("CARGO_PKG_VERSION")));
        assert!(lines[1].starts_with("Commit: ") && lines[2].starts_with("Date: "));
    }
}

#[test]
fn a_bad_command_line_ends_with_code_2_and_reasons() {
    for words in [
        &["-prot", "8070"][..],
        &["-port", "x"],
        &["config", "check", "-port", "x"],
        &["-gcs-bucket", "b"],
        &["doctor", "s3"],
        &["-config", "/nonexistent/landfall.toml"],
        &["leftover"],
    ] {
        let output = landfall(words);
        assert_eq!(output.status.code(), Some(2), "{words:?}");
        assert_eq!(text(&output.stdout), "", "{words:?}");
        let told = text(&output.stderr);
        assert!(told.starts_with("landfall: "), "{told}");
        assert!(
            told.ends_with("Run `landfall -h` for all settings.\n"),
            "{told}"
        );
    }
}

#[test]
fn config_check_shows_what_is_in_force() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("landfall.toml");
    std::fs::write(&file, "upload-dir = '/srv/uploads'\nport = 81\n").unwrap();
    let name = file.to_str().unwrap();
    let output = landfall(&[
        "config",
        "check",
        "-config",
        name,
        "--port=82",
        "-trusted-proxies=::1",
    ]);
    assert_eq!(output.status.code(), Some(0));
    let told = text(&output.stderr);
    assert!(
        told == "landfall: warning: -trusted-proxies: has no effect without behind-proxy\n",
        "{told}"
    );
    let report = text(&output.stdout);
    assert!(report.contains("upload-dir = \"/srv/uploads\""), "{report}");
    assert!(
        report.contains(&format!("# {name}:1: upload-dir\n")),
        "{report}"
    );
    assert!(
        report.lines().any(|line| line.starts_with("port = 82 ")),
        "{report}"
    );

    std::fs::write(&file, &report).unwrap();
    let again = landfall(&["config", "check", "-config", name]);
    let values = |report: &str| -> Vec<String> {
        let cut = |line: &str| line.split("  #").next().unwrap().trim_end().to_owned();
        report.lines().map(cut).collect()
    };
    assert_eq!(values(&text(&again.stdout)), values(&report));
}
