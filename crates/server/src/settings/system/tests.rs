//! Tests of the checks of files, directories and hosts.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use super::super::{Invocation, Loaded, read};

fn loaded(args: &[&str]) -> Loaded {
    match read(args.iter().map(Into::into), []) {
        Ok(Invocation::Run(loaded, _)) => *loaded,
        other => panic!("{args:?}: {other:?}"),
    }
}

/// The problems and the warnings.
async fn found(args: &[&str]) -> (Vec<String>, Vec<String>) {
    let mut loaded = loaded(args);
    let problems = match loaded.check_system().await {
        Ok(()) => Vec::new(),
        Err(failure) => {
            assert_eq!(failure.exit_code(), 1, "{args:?}");
            failure.problems.iter().map(ToString::to_string).collect()
        }
    };
    (problems, loaded.warnings)
}

#[tokio::test]
async fn unusable_files_and_directories_are_rejected() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().to_str().unwrap();
    fs::write(format!("{dir}/file"), "").unwrap();
    let uploads = format!("-upload-dir={dir}");
    // The setting, the arguments it requires, and whether it is a file that must exist.
    let table: &[(&str, &[&str], bool)] = &[
        ("upload-dir", &[], false),
        ("state-dir", &[], false),
        ("tls-certificate", &["-tls-key=/dev/null"], true),
        ("tls-key", &["-tls-certificate=/dev/null"], true),
        (
            "tls-client-ca",
            &["-tls-certificate=/dev/null", "-tls-key=/dev/null"],
            true,
        ),
        (
            "hooks-grpc-server-tls-certificate",
            &["-hooks-grpc=localhost:1", "-hooks-grpc-secure"],
            true,
        ),
        (
            "hooks-grpc-client-tls-certificate",
            &[
                "-hooks-grpc=localhost:1",
                "-hooks-grpc-secure",
                "-hooks-grpc-server-tls-certificate=/dev/null",
                "-hooks-grpc-client-tls-key=/dev/null",
            ],
            true,
        ),
        (
            "hooks-grpc-client-tls-key",
            &[
                "-hooks-grpc=localhost:1",
                "-hooks-grpc-secure",
                "-hooks-grpc-server-tls-certificate=/dev/null",
                "-hooks-grpc-client-tls-certificate=/dev/null",
            ],
            true,
        ),
        (
            "grants-jwt-keys",
            &["-grants", "-grants-jwt-issuer=x"],
            true,
        ),
    ];
    for (name, required, is_file) in table {
        let mut bad = vec![(format!("{dir}/file/below"), "cannot be created: ")];
        if *is_file {
            bad = vec![
                (format!("{dir}/none"), "does not exist"),
                (format!("{dir}/file/below"), "does not exist"),
                (dir.to_owned(), "is a directory, not a file"),
            ];
        } else {
            bad.push((format!("{dir}/file"), "is a file, not a directory"));
        }
        for (path, error) in bad {
            let flag = format!("-{name}={path}");
            let mut args = vec!["config", "check", &uploads];
            args.extend(*required);
            args.push(&flag);
            let (problems, _) = found(&args).await;
            assert_eq!(problems.len(), 1, "{args:?}: {problems:?}");
            let start = format!("--{name}: {path} ");
            assert!(problems[0].starts_with(&start), "{problems:?}");
            assert!(problems[0].contains(error), "{problems:?}");
        }
    }
    // Nothing was created.
    let names: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(names, ["file"]);
}

#[tokio::test]
async fn own_directory_must_be_a_directory() {
    let dir = tempfile::tempdir().unwrap();
    let uploads = format!("-upload-dir={}", dir.path().display());
    let own = dir.path().join(".landfall");
    assert_eq!(found(&[&uploads]).await.0, [""; 0]);
    fs::write(&own, "").unwrap();
    let problems = found(&[&uploads]).await.0;
    let expected = format!("--upload-dir: {} is a file, not a directory", own.display());
    assert_eq!(problems, [expected]);
    fs::remove_file(&own).unwrap();
    fs::create_dir(&own).unwrap();
    assert_eq!(found(&[&uploads]).await.0, [""; 0]);
}

#[tokio::test]
async fn missing_directories_are_accepted() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_str().unwrap();
    for arg in [
        format!("-upload-dir={path}/a/b"),
        format!("-state-dir={path}/a"),
        format!("-database={path}/a/b/c.db"),
    ] {
        let (problems, _) = found(&["-port=0", &format!("-upload-dir={path}"), &arg]).await;
        assert!(problems.is_empty(), "{problems:?}");
    }
    assert_eq!(fs::read_dir(path).unwrap().count(), 0);
}

/// Their modes do not keep root out.
#[tokio::test]
async fn directories_of_the_kernel_are_rejected() {
    for (path, reason) in [
        ("/proc/x", "/proc/x does not exist and cannot be created: "),
        ("/proc", ""),
        (
            "/sys/x/y",
            "/sys/x/y does not exist and cannot be created: ",
        ),
    ] {
        for flag in [format!("-upload-dir={path}"), format!("-state-dir={path}")] {
            let args = ["config", "check", "-upload-dir=/tmp", &flag];
            let (problems, _) = found(&args).await;
            assert_eq!(problems.len(), 1, "{flag}: {problems:?}");
            assert!(problems[0].contains(reason), "{problems:?}");
        }
    }
}

#[tokio::test]
async fn hooks_directory_must_exist_and_its_programs_be_executable() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_str().unwrap();
    let uploads = format!("-upload-dir={path}");
    for (hooks, error) in [
        ("/nope".to_owned(), "/nope does not exist"),
        (format!("{path}/file"), "is a file, not a directory"),
    ] {
        fs::write(format!("{path}/file"), "").unwrap();
        let flag = format!("-hooks-dir={hooks}");
        let (problems, _) = found(&[&uploads, &flag]).await;
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(problems[0].starts_with("--hooks-dir: ") && problems[0].contains(error));
    }
    let flag = format!("-hooks-dir={path}");
    let args = [
        &uploads,
        &flag,
        "-hooks-enabled-events=pre-create,post-finish,pre-finish",
    ];
    let (problems, warnings) = found(&args).await;
    assert!(problems.is_empty(), "{problems:?}");
    // Programs for events may be missing.
    let error = format!("--hooks-dir: no pre-create and no pre-finish in {path}; ");
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].starts_with(&error), "{warnings:?}");

    let program = format!("{path}/pre-create");
    fs::write(&program, "#!/bin/sh\n").unwrap();
    fs::create_dir(format!("{path}/pre-finish")).unwrap();
    let (problems, _) = found(&args).await;
    assert_eq!(
        problems,
        [
            format!("--hooks-dir: {program} is not executable; run chmod +x {program}"),
            format!("--hooks-dir: {path}/pre-finish is not a file"),
        ]
    );
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    fs::remove_dir(format!("{path}/pre-finish")).unwrap();
    let (problems, warnings) = found(&args).await;
    assert!(problems.is_empty(), "{problems:?}");
    assert!(warnings[0].contains("no pre-finish in"), "{warnings:?}");
}

#[tokio::test]
async fn sockets_need_a_writable_directory() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_str().unwrap();
    fs::write(format!("{path}/file"), "").unwrap();
    let long = "x".repeat(120);
    for (socket, error) in [
        (format!("{path}/file"), "is not a socket"),
        (format!("{path}/none/s"), "none does not exist"),
        (format!("{path}/file/s"), "file is a file, not a directory"),
        (format!("{path}/{long}"), "the maximum for a socket is 107"),
    ] {
        let args = [
            &format!("-upload-dir={path}"),
            &format!("-unix-sock={socket}"),
        ];
        let (problems, _) = found(&args.map(String::as_str)).await;
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(problems[0].starts_with("--unix-sock: "), "{problems:?}");
        assert!(problems[0].contains(error), "{problems:?}");
    }
    let _listener = std::os::unix::net::UnixListener::bind(format!("{path}/s")).unwrap();
    let args = [
        &format!("-upload-dir={path}"),
        &format!("-unix-sock={path}/s"),
    ];
    let (problems, _) = found(&args.map(String::as_str)).await;
    assert!(problems.is_empty(), "{problems:?}");
}

#[tokio::test]
async fn secrets_that_all_users_can_read_cause_a_warning() {
    let dir = tempfile::tempdir().unwrap();
    let chmod = |path: &std::path::Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    };
    chmod(dir.path(), 0o755);
    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        fs::write(&path, text).unwrap();
        path
    };
    let config = file(
        "landfall.toml",
        "database = \"postgres://a:secret@localhost/a\"\nadmin-key = \"hunter2hunter2hunter2\"\n",
    );
    let plain = file(
        "plain.toml",
        "database = \"postgres://localhost/a\"\nmax-size = 5\n",
    );
    let key = file("key.pem", "");
    let open = [
        "--tls-certificate",
        "/dev/null",
        "--tls-key",
        key.to_str().unwrap(),
    ];
    let upload_dir = dir.path().to_str().unwrap();
    let warned = async |config: &std::path::Path, more: &[&str]| {
        let config = config.to_str().unwrap();
        let (_, warnings) =
            found(&[&["--upload-dir", upload_dir, "--config", config], more].concat()).await;
        let warnings = warnings.into_iter();
        warnings
            .filter(|one| one.contains("all users of this machine can read"))
            .collect::<Vec<_>>()
    };
    // Groups are legitimate: Kubernetes gives volumes to one.
    for (mode, above, expected) in [
        (0o644, 0o755, 1),
        (0o664, 0o755, 1),
        (0o640, 0o755, 0),
        (0o660, 0o755, 0),
        (0o644, 0o750, 0),
    ] {
        chmod(&config, mode);
        chmod(&key, mode);
        chmod(dir.path(), above);
        let warnings = warned(&config, &[]).await;
        assert_eq!(warnings.len(), expected, "{mode:o}: {warnings:?}");
        assert!(
            warnings
                .iter()
                .all(|one| one.contains("landfall.toml; ") && !one.contains("hunter2")),
            "{warnings:?}"
        );
        assert_eq!(warned(&plain, &open).await.len(), expected, "{mode:o}");
        assert_eq!(warned(&plain, &[]).await.len(), 0);
    }
}

#[tokio::test]
async fn hosts_must_resolve_now_or_later() {
    // The label is too long, which is known without a name server.
    let nosuch = &format!("{}.invalid", "x".repeat(64));
    let dir = tempfile::tempdir().unwrap();
    let uploads = format!("-upload-dir={}", dir.path().display());
    let now: &[&[&str]] = &[
        &["-host={nosuch}"],
        &["-lease=redis://:hunter2@{nosuch}:6379"],
        &["-lease=postgres://u:hunter2@{nosuch}/d"],
        &["-database=postgres://u:hunter2@{nosuch}/d"],
        &["-s3-bucket=b", "-s3-endpoint=http://{nosuch}"],
        &[
            "-s3-bucket={label}",
            "-s3-path-style=false",
            "-s3-endpoint=http://invalid",
        ],
    ];
    for args in now {
        let args = args.iter().map(|arg| {
            arg.replace("{nosuch}", nosuch)
                .replace("{label}", &nosuch[..64])
        });
        let args: Vec<String> = args.chain([uploads.clone()]).collect();
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let (problems, _) = found(&args).await;
        assert_eq!(problems.len(), 1, "{args:?}: {problems:?}");
        let error = format!("the host \"{nosuch}\" cannot be resolved: ");
        assert!(problems[0].contains(&error), "{problems:?}");
    }
    let later: &[&[&str]] = &[
        &["-hooks-http=http://u:hunter2@{nosuch}/"],
        &["-hooks-grpc={nosuch}:1"],
        #[cfg(feature = "full")]
        &["-hooks-broker=nats://{nosuch}"],
        #[cfg(feature = "full")]
        &["-hooks-broker=amqp://{nosuch}"],
        &["-hooks-broker=redis://{nosuch}"],
        #[cfg(feature = "full")]
        &["-hooks-broker=kafka://{nosuch}:1"],
        &["-grants", "-grants-forward-auth-url=http://{nosuch}"],
        &[
            "-grants",
            "-grants-jwt-issuer=x",
            "-grants-jwt-keys=http://{nosuch}",
        ],
    ];
    for args in later {
        let args = args.iter().map(|arg| {
            arg.replace("{nosuch}", nosuch)
                .replace("{label}", &nosuch[..64])
        });
        let args: Vec<String> = args.chain([uploads.clone()]).collect();
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let (problems, warnings) = found(&args).await;
        assert!(problems.is_empty(), "{problems:?}");
        assert_eq!(warnings.len(), 1, "{args:?}: {warnings:?}");
        assert!(
            warnings[0].ends_with("; it may start later"),
            "{warnings:?}"
        );
    }
    let (problems, _) = found(&[&uploads, "-host=localhost"]).await;
    assert!(problems.is_empty(), "{problems:?}");
}

#[tokio::test]
async fn commands_check_only_their_settings() {
    let dir = tempfile::tempdir().unwrap();
    let uploads = format!("-upload-dir={}", dir.path().display());
    let (problems, _) = found(&["sweep", &uploads, "-unix-sock=/none/s"]).await;
    assert!(problems.is_empty(), "{problems:?}");
}
