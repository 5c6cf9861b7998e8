//! The command line of the program, and the files generated from the table of settings.
//!
//! `UPDATE_GOLDEN=1` updates the golden files.

#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::process::Output;

use crate::serve_harness::program;

fn landfall(args: &[&str]) -> Output {
    program().args(args).output().unwrap()
}

fn text(stream: &[u8]) -> String {
    String::from_utf8(stream.to_vec()).unwrap()
}

/// Compares a text with its golden file, or updates the file.
fn golden(path: &Path, now: &str) {
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(path, now).unwrap();
    }
    let expected = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        expected == now,
        "{} is not up to date; run the test with UPDATE_GOLDEN=1. Now it would be:\n{now}",
        path.display()
    );
}

#[test]
fn help_matches_the_golden_files() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it");
    for (args, file) in [
        (&["-h"][..], "help-short.txt"),
        (&["--help"], "help.txt"),
        (&["sweep", "--help"], "help-sweep.txt"),
        (&["doctor", "files", "--help"], "help-doctor-files.txt"),
        (&["doctor", "s3", "--help"], "help-doctor.txt"),
        (&["doctor", "gcs", "--help"], "help-doctor-gcs.txt"),
        (&["doctor", "azure", "--help"], "help-doctor-azure.txt"),
        (&["doctor", "tls", "--help"], "help-doctor-tls.txt"),
        (&["s3", "set-cors", "--help"], "help-set-cors.txt"),
        (&["events", "list", "--help"], "help-events.txt"),
        (&["keys", "add", "--help"], "help-keys.txt"),
        (&["link", "--help"], "help-link.txt"),
        (&["migrate", "--help"], "help-migrate.txt"),
    ] {
        let output = landfall(args);
        assert_eq!(output.status.code(), Some(0));
        assert_eq!(text(&output.stderr), "");
        let help = text(&output.stdout);
        let widest = help.lines().map(|line| line.chars().count()).max();
        assert!(widest <= Some(100), "{widest:?}");
        golden(&dir.join(file), &help);
    }
}

#[test]
fn version_has_three_lines() {
    for args in [&["-version"][..], &["version"]] {
        let output = landfall(args);
        assert_eq!(output.status.code(), Some(0));
        let version = text(&output.stdout);
        let lines: Vec<&str> = version.lines().collect();
        assert_eq!(lines.len(), 3);
        assert_eq!(
            lines[0],
            format!("Version: {} (Landfall)", env!("CARGO_PKG_VERSION"))
        );
        assert!(lines[1].starts_with("Commit: ") && lines[2].starts_with("Date: "));
    }
}

#[test]
fn invalid_arguments_exit_with_code_2() {
    for args in [
        &["-prot", "8070"][..],
        &["-port", "x"],
        &["config", "check", "-port", "x"],
        &["-hooks-plugin", "b"],
        &["doctor", "s3"],
        &["-config", "/nonexistent/landfall.toml"],
        &["unknown"],
    ] {
        let output = landfall(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert_eq!(text(&output.stdout), "", "{args:?}");
        let error = text(&output.stderr);
        assert!(error.starts_with("landfall: "), "{error}");
        assert!(
            error.ends_with("Run `landfall --help` for all flags.\n"),
            "{error}"
        );
    }
}

/// Returns the exit code and the error of both the server and `config check`, which must agree.
fn failure_of(args: &[&str]) -> (i32, String) {
    let dir = tempfile::tempdir().unwrap();
    let run = |command: &[&str]| {
        let mut program = program();
        program.current_dir(dir.path()).args(command).args(args);
        let output = program.output().unwrap();
        assert_eq!(text(&output.stdout), "", "{args:?}");
        (output.status.code().unwrap(), text(&output.stderr))
    };
    let (served, checked) = (
        run(&["-port=0", "-host=127.0.0.1"]),
        run(&["config", "check"]),
    );
    assert_eq!(served, checked, "{args:?}");
    assert_eq!(
        std::fs::read_dir(dir.path()).unwrap().count(),
        0,
        "{args:?}"
    );
    served
}

#[test]
fn unusable_settings_fail_at_start_and_in_config_check() {
    for (args, code, error) in [
        (
            &["--hooks-dir", "/nope"][..],
            1,
            "landfall: --hooks-dir: /nope does not exist; create it, or leave the setting out for no hooks\n",
        ),
        (
            &["--s3-bucket", ""],
            2,
            "landfall: --s3-bucket: is empty; write a value, or leave the setting out\n",
        ),
        (
            &["-upload-dir", "/dev/null"],
            1,
            "landfall: --upload-dir: /dev/null is a file, not a directory\n",
        ),
        (
            &["-upload-dir", "/dev/null/x"],
            1,
            "landfall: --upload-dir: /dev/null/x does not exist and cannot be created: /dev/null is a file, not a directory\n",
        ),
        (
            &["-page-logo", "/nope.svg"],
            1,
            "landfall: --page-logo: /nope.svg does not exist\n",
        ),
        (
            &["--upload-dir", "s3://bucket/uploads"],
            2,
            "landfall: --upload-dir: \"s3://bucket/uploads\" is a URL, not a path\n",
        ),
        (
            &["--s3-endpoint", "http://localhost:9000"],
            2,
            "landfall: --s3-endpoint: has no effect without --s3-bucket: ",
        ),
        (
            &["--host", "192.0.2.1"],
            1,
            "landfall: --host: this machine does not have the address 192.0.2.1; ",
        ),
        (
            &["-cors-allow-credentials"],
            2,
            "landfall: --cors-allow-credentials: would let pages of any origin use the cookies",
        ),
    ] {
        let refused = failure_of(args);
        assert_eq!(refused.0, code, "{refused:?}");
        assert!(refused.1.starts_with(error), "{refused:?}");
    }
    // The contents of files are checked, too.
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&file, "no good").unwrap();
    let name = file.path().to_str().unwrap();
    for flags in [
        vec![
            "-grants".to_owned(),
            "-grants-jwt-issuer=x".to_owned(),
            format!("-grants-jwt-keys={name}"),
        ],
        vec![
            "-hooks-http=http://localhost:1".to_owned(),
            "-hooks-http-secret=whsec_~".to_owned(),
        ],
        vec![
            "-hooks-grpc=localhost:1".to_owned(),
            "-hooks-grpc-secure".to_owned(),
            format!("-hooks-grpc-server-tls-certificate={name}"),
        ],
    ] {
        let args: Vec<&str> = flags.iter().map(String::as_str).collect();
        let (code, error) = failure_of(&args);
        assert_eq!(code, 1, "{args:?}: {error}");
        let flag = flags.last().unwrap().split('=').next().unwrap();
        let group = flag.split("-server").next().unwrap();
        assert!(error.contains(group), "{args:?}: {error}");
    }
}

#[test]
fn problems_are_reported_together() {
    let (code, error) = failure_of(&["-hooks-dir=/nope", "-state-dir=/dev/null"]);
    assert_eq!((code, error.lines().count()), (1, 2), "{error}");
}

/// Runs `config check`; returns its exit code, output and warnings.
fn checked(uploads: &Path, args: &[&str]) -> (i32, String, String) {
    let output = landfall(
        &[
            &["config", "check", "--upload-dir", uploads.to_str().unwrap()],
            args,
        ]
        .concat(),
    );
    let code = output.status.code().unwrap();
    (code, text(&output.stdout), text(&output.stderr))
}

#[test]
fn config_check_shows_owners_and_modes() {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
    let set_mode = |path: &Path, mode: u32| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    let dir = tempfile::tempdir().unwrap();
    let (uploads, own) = (dir.path(), dir.path().join(".landfall"));
    set_mode(uploads, 0o750);
    let (code, shown, error) = checked(uploads, &[]);
    assert_eq!((code, error.as_str()), (0, ""));
    let line = |start: &str| shown.lines().find(|line| line.starts_with(start)).unwrap();
    let uid = std::fs::metadata(uploads).unwrap().uid();
    let of_uploads = line("# upload directory");
    assert!(of_uploads.ends_with(", mode 0750"), "{of_uploads}");
    assert!(of_uploads.contains(&uid.to_string()), "{of_uploads}");
    assert!(line("# leases").ends_with(": does not exist yet"));
    assert!(line("# state directory").contains("store no state"));

    set_mode(uploads, 0o777);
    let (code, _, error) = checked(uploads, &[]);
    assert_eq!(code, 0);
    assert!(
        error.starts_with("landfall: warning: --upload-dir: ") && error.contains("(mode 0777)"),
        "{error}"
    );
    set_mode(uploads, 0o755);

    // A directory that others can write to must not contain keys, and this user can correct it.
    std::fs::create_dir(&own).unwrap();
    set_mode(&own, 0o777);
    let (code, _, error) = checked(uploads, &["--hooks-dir", uploads.to_str().unwrap()]);
    assert_eq!(code, 0, "{error}");
    assert!(
        error.contains("landfall: warning: --state-dir: the state directory ")
            && error.contains("the server corrects that when it starts"),
        "{error}"
    );
    std::fs::remove_dir(&own).unwrap();
    std::os::unix::fs::symlink("/tmp", &own).unwrap();
    let (code, _, error) = checked(uploads, &[]);
    assert_eq!(code, 1, "{error}");
    assert!(error.contains("is a symbolic link"), "{error}");
}

#[test]
fn unwritable_upload_directory_is_rejected() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o555)).unwrap();
    let (_place, mut command) = crate::serve_start::program_for_anybody();
    command
        .args(["config", "check", "--upload-dir"])
        .arg(dir.path());
    let output = command.output().unwrap();
    let error = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(
        error.starts_with("landfall: --upload-dir: ")
            && error.contains(", mode 555): user ")
            && error.contains("may not write it"),
        "{error}"
    );
}

#[test]
fn config_check_shows_no_secret() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = program();
    command
        .current_dir(dir.path())
        .args([
            "config",
            "check",
            "-hooks-http=http://u:hunter2@localhost:1/x?tok=hunter2",
        ])
        .args([
            "-lease=redis://:hunter2@localhost",
            "-database=postgres://u:hunter2@localhost/d",
        ])
        .env("LANDFALL_HOOKS_HTTP_SECRET", "hunter2hunter2");
    let output = command.output().unwrap();
    let shown = text(&output.stdout) + &text(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{shown}");
    assert!(!shown.contains("hunter2"), "{shown}");
    for line in [
        "# hooks-http = \"http://u:***@localhost:1/x?***\"",
        "# hooks-http-secret = ***",
        "# lease = \"redis://:***@localhost\"",
    ] {
        assert!(shown.contains(line), "{shown}");
    }
}

#[test]
fn config_check_prints_the_settings_in_force() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("landfall.toml");
    let uploads = dir.path().join("uploads");
    let uploads = uploads.to_str().unwrap();
    std::fs::write(&file, format!("upload-dir = '{uploads}'\nport = 81\n")).unwrap();
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
    let error = text(&output.stderr);
    assert!(
        error
            == "landfall: warning: --trusted-proxies: has no effect without --behind-proxy \
             or --proxy-protocol\n",
        "{error}"
    );
    let report = text(&output.stdout);
    assert!(
        report.contains(&format!("upload-dir = \"{uploads}\"")),
        "{report}"
    );
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
