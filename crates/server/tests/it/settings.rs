//! The command line of the real program, and the texts made from the table of settings.
//!
//! With `UPDATE_GOLDEN=1` in the environment the golden texts are written anew.

#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::process::Output;

use crate::serve_harness::program;

/// Runs the program with nothing of ours in its environment.
fn landfall(words: &[&str]) -> Output {
    program().args(words).output().unwrap()
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
        (&["doctor", "files", "-h"], "help-doctor-files.txt"),
        (&["doctor", "s3", "-h"], "help-doctor.txt"),
        (&["s3", "set-cors", "-h"], "help-set-cors.txt"),
        (&["events", "-h"], "help-events.txt"),
        (&["keys", "-h"], "help-keys.txt"),
        (&["migrate", "-h"], "help-migrate.txt"),
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

/// What is told of words, by the server and by `config check`, which both refuse to go on; with the
/// code they end with.
fn refusal(words: &[&str]) -> (i32, String) {
    let dir = tempfile::tempdir().unwrap();
    let run = |command: &[&str]| {
        let mut program = program();
        program.current_dir(dir.path()).args(command).args(words);
        let output = program.output().unwrap();
        assert_eq!(text(&output.stdout), "", "{words:?}");
        (output.status.code().unwrap(), text(&output.stderr))
    };
    let (served, checked) = (
        run(&["-port=0", "-host=127.0.0.1"]),
        run(&["config", "check"]),
    );
    assert_eq!(served, checked, "{words:?}");
    assert_eq!(
        std::fs::read_dir(dir.path()).unwrap().count(),
        0,
        "{words:?}"
    );
    served
}

#[test]
fn what_cannot_work_is_refused_at_the_start_and_by_config_check_alike() {
    for (words, code, told) in [
        (
            &["--hooks-dir", "/nope"][..],
            1,
            "landfall: --hooks-dir: /nope does not exist; make it, or leave the setting out for no hooks\n",
        ),
        (
            &["--s3-bucket", ""],
            2,
            "landfall: --s3-bucket: is empty; write a value, or leave the setting out\n",
        ),
        (
            &["-upload-dir", "/dev/null"],
            1,
            "landfall: -upload-dir: /dev/null is a file, not a directory\n",
        ),
        (
            &["-upload-dir", "/dev/null/x"],
            1,
            "landfall: -upload-dir: /dev/null/x does not exist and cannot be made: /dev/null is a file, not a directory\n",
        ),
        (
            &["-admin-key-file", "/nope"],
            1,
            "landfall: -admin-key-file: /nope does not exist\n",
        ),
        (
            &["--upload-dir", "s3://bucket/uploads"],
            2,
            "landfall: --upload-dir: \"s3://bucket/uploads\" is a URL, not a path\n",
        ),
        (
            &["--s3-endpoint", "http://localhost:9000"],
            2,
            "landfall: --s3-endpoint: has no effect without s3-bucket: ",
        ),
        (
            &["--host", "192.0.2.1"],
            1,
            "landfall: --host: this machine does not have the address 192.0.2.1; ",
        ),
        (
            &["-cors-allow-credentials"],
            2,
            "landfall: -cors-allow-credentials: would let pages of any origin use the cookies",
        ),
    ] {
        let refused = refusal(words);
        assert_eq!(refused.0, code, "{refused:?}");
        assert!(refused.1.starts_with(told), "{refused:?}");
    }
    // What is in a file is found out as well.
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&file, "no good").unwrap();
    let name = file.path().to_str().unwrap();
    for flags in [
        #[cfg(feature = "hooks-wasm")]
        vec![format!("-hooks-wasm={name}")],
        #[cfg(feature = "grants")]
        vec![format!("-admin-key-file={name}")],
        #[cfg(feature = "grants")]
        vec![
            "-grants".to_owned(),
            "-grants-jwt-issuer=x".to_owned(),
            format!("-grants-jwt-keys={name}"),
        ],
        #[cfg(feature = "hooks-http")]
        vec![
            "-hooks-http=http://localhost:1".to_owned(),
            "-hooks-http-secret=whsec_~".to_owned(),
        ],
        #[cfg(feature = "hooks-grpc")]
        vec![
            "-hooks-grpc=localhost:1".to_owned(),
            "-hooks-grpc-secure".to_owned(),
            format!("-hooks-grpc-server-tls-certificate={name}"),
        ],
    ] {
        let words: Vec<&str> = flags.iter().map(String::as_str).collect();
        let (code, told) = refusal(&words);
        assert_eq!(code, 1, "{words:?}: {told}");
        let flag = flags.last().unwrap().split('=').next().unwrap();
        let group = flag.split("-server").next().unwrap();
        assert!(told.contains(group), "{words:?}: {told}");
    }
}

#[test]
fn several_things_that_cannot_work_are_told_at_once() {
    let (code, told) = refusal(&["-hooks-dir=/nope", "-state-dir=/dev/null"]);
    assert_eq!((code, told.lines().count()), (1, 2), "{told}");
}

/// What `config check` prints and warns of with a folder for uploads, and the code it ends with.
fn checked(uploads: &Path, words: &[&str]) -> (i32, String, String) {
    let output = landfall(
        &[
            &["config", "check", "--upload-dir", uploads.to_str().unwrap()],
            words,
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
    let (code, shown, told) = checked(uploads, &[]);
    assert_eq!((code, told.as_str()), (0, ""));
    let line = |start: &str| shown.lines().find(|line| line.starts_with(start)).unwrap();
    let uid = std::fs::metadata(uploads).unwrap().uid();
    let of_uploads = line("# upload directory");
    assert!(of_uploads.ends_with(", mode 0750"), "{of_uploads}");
    assert!(of_uploads.contains(&uid.to_string()), "{of_uploads}");
    assert!(line("# leases").ends_with(": does not exist yet"));
    assert!(line("# state folder").contains("nothing is stored"));

    set_mode(uploads, 0o777);
    let (code, _, told) = checked(uploads, &[]);
    assert_eq!(code, 0);
    assert!(
        told.starts_with("landfall: warning: --upload-dir: ") && told.contains("(mode 0777)"),
        "{told}"
    );
    set_mode(uploads, 0o755);

    // What others can write to holds no keys.
    std::fs::create_dir(&own).unwrap();
    set_mode(&own, 0o777);
    let (code, _, told) = checked(uploads, &["--hooks-dir", uploads.to_str().unwrap()]);
    assert_eq!(code, 1, "{told}");
    assert!(
        told.contains("landfall: state-dir: the state folder ") && told.contains("chmod go-w"),
        "{told}"
    );
    std::fs::remove_dir(&own).unwrap();
    std::os::unix::fs::symlink("/tmp", &own).unwrap();
    let (code, _, told) = checked(uploads, &[]);
    assert_eq!(code, 1, "{told}");
    assert!(told.contains("is a symbolic link"), "{told}");
}

#[test]
fn a_folder_that_the_user_may_not_write_to_is_refused() {
    use std::os::unix::{fs::PermissionsExt as _, process::CommandExt as _};
    let dir = tempfile::tempdir().unwrap();
    let mut command = program();
    command
        .args(["config", "check", "--upload-dir"])
        .arg(dir.path());
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o555)).unwrap();
    if rustix::process::geteuid().is_root() {
        command.uid(12_345).gid(12_345);
    }
    let output = command.output().unwrap();
    let told = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(
        told.starts_with("landfall: --upload-dir: ")
            && told.contains(", mode 555): user ")
            && told.contains("may not write it"),
        "{told}"
    );
}

#[cfg(all(feature = "hooks-http", feature = "redis"))]
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
fn config_check_shows_what_is_in_force() {
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
    let told = text(&output.stderr);
    assert!(
        told == "landfall: warning: -trusted-proxies: has no effect without behind-proxy\n",
        "{told}"
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
