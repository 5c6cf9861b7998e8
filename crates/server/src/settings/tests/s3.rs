//! Settings of S3 storage and of leases, `landfall doctor s3` and `landfall s3 set-cors`.

use super::super::*;
use super::{loaded, problem, problems, run};

#[test]
fn command_line_of_tusd_is_accepted() {
    let args = [
        "-s3-bucket=b",
        "-s3-endpoint",
        "http://localhost:3900",
        "-s3-object-prefix=in",
        "-s3-part-size=52428800",
        "-s3-min-part-size=5242880",
        "-s3-concurrent-part-uploads=10",
        "-s3-disable-content-hashes",
    ];
    let s3 = loaded(&args, &[]).settings.s3;
    assert_eq!(s3.bucket.as_deref(), Some("b"));
    assert_eq!(s3.endpoint.as_deref(), Some("http://localhost:3900"));
    assert_eq!(s3.object_prefix, "in/");
    assert_eq!((s3.part_size, s3.min_part_size), (50 << 20, 5 << 20));
    assert_eq!((s3.concurrent_parts, s3.disable_content_hashes), (10, true));
    assert_eq!(s3.path_style, None);
}

#[test]
fn minimum_part_size_raises_the_part_size() {
    let s3 = loaded(&["-s3-min-part-size=16MiB"], &[]).settings.s3;
    assert_eq!((s3.part_size, s3.min_part_size), (16 << 20, 16 << 20));
    let error = problem(&["-s3-min-part-size=16MiB", "-s3-part-size=8MiB"]);
    assert!(error.starts_with("--s3-part-size: is less than"), "{error}");
}

#[test]
fn conflicting_settings_are_problems() {
    for (args, place) in [
        (
            &[
                "-s3-bucket=b",
                "-max-buffered-bytes=16MiB",
                "-s3-part-size=9MiB",
            ][..],
            "--max-buffered-bytes: ",
        ),
        (
            &["-s3-bucket=b", "-max-buffered-bytes=10MiB"],
            "--max-buffered-bytes: ",
        ),
        (
            &["-s3-bucket=b", "-s3-part-size=200MiB"],
            "--s3-part-size: ",
        ),
        (
            &[
                "-s3-bucket=b",
                "-s3-transfer-acceleration",
                "-s3-endpoint=http://x",
            ],
            "--s3-transfer-acceleration: ",
        ),
        (
            &["-s3-transfer-acceleration", "-s3-path-style=true"],
            "--s3-transfer-acceleration: ",
        ),
        (
            &["-s3-transfer-acceleration", "-s3-bucket=a.b"],
            "--s3-transfer-acceleration: ",
        ),
        (
            &["-s3-bucket=b", "-s3-headers=x-amz-acl: everyone"],
            "--s3-headers: x-amz-acl: ",
        ),
        (&["-lease=file"], "--lease: "),
        (&["doctor", "s3"], "doctor s3 requires a bucket"),
        (&["doctor", "gcs"], "doctor gcs requires a bucket"),
        (&["doctor", "azure"], "doctor azure requires a container"),
        (&["doctor", "tls"], "doctor tls requires a certificate"),
        (
            &["doctor"],
            "'landfall doctor' needs one of the commands proxy, files, s3, ",
        ),
        (
            &["doctor", "files", "-s3-bucket=b"],
            "doctor files checks an upload directory, but --s3-bucket is set; run landfall doctor s3",
        ),
        (
            &["doctor", "files", "-azure-storage=bin"],
            "doctor files checks an upload directory, but --azure-storage is set; run landfall doctor azure",
        ),
        (&["-json"], "unexpected argument '--json'"),
        (&["-origin=https://x"], "unexpected argument '--origin'"),
        (&["-dry-run"], "unexpected argument '--dry-run'"),
        (&["s3"], "'landfall s3' needs one of the commands set-cors"),
        (
            &["s3", "set-cors", "-origin=https://x"],
            "s3 set-cors requires a bucket",
        ),
        (
            &["s3", "set-cors", "-s3-bucket=b"],
            "the following required arguments were not provided: --origin <ORIGIN>",
        ),
        (
            &["doctor", "s3", "-s3-bucket=b", "-origin=x"],
            "invalid value 'x' for '--origin <ORIGIN>'",
        ),
    ] {
        let error = problem(args);
        assert!(error.starts_with(place), "{args:?}: {error}");
    }
}

#[test]
fn settings_without_effect_cause_a_warning() {
    for (args, name) in [
        (&["-s3-bucket=b", "-upload-dir=/x"][..], "--upload-dir"),
        (&["-s3-bucket=b", "-durability=every"], "--durability"),
        (
            &["-s3-bucket=b", "-s3-endpoint=http://x", "-s3-disable-ssl"],
            "--s3-disable-ssl",
        ),
        (
            &["-s3-bucket=b", "-disable-download", "-s3-download=redirect"],
            "--s3-download",
        ),
        (&["-s3-part-size=9MiB"], "--s3-part-size"),
        (&["-lease-ttl=5s"], "--lease-ttl"),
        (&["-lease=store", "-lease-ttl=5s"], "--lease-ttl"),
    ] {
        let warnings = loaded(args, &[]).warnings;
        assert_eq!(warnings.len(), 1, "{args:?}: {warnings:?}");
        let start = format!("{name}: has no effect ");
        assert!(warnings[0].starts_with(&start), "{warnings:?}");
    }
    for args in [
        &["-s3-bucket=b"][..],
        &["-s3-bucket=b", "-lease=store", "-lease-ttl=5s"],
        &["-lease=redis://x", "-lease-ttl=5s"],
        &["-lease=postgres://x/y", "-lease-ttl=5s"],
    ] {
        assert_eq!(loaded(args, &[]).warnings, Vec::<String>::new(), "{args:?}");
    }
}

#[test]
fn possible_mistakes_cause_a_warning() {
    for (args, name) in [
        (
            &["-s3-bucket=b", "-s3-key={date}/{filename}"][..],
            "--s3-key",
        ),
        (&["-file-names={date}/{filename}"], "--file-names"),
        (&["-s3-bucket=b", "-max-size=2TiB"], "--max-size"),
    ] {
        let warnings = loaded(args, &[]).warnings;
        assert_eq!(warnings.len(), 1, "{args:?}: {warnings:?}");
        assert!(
            warnings[0].starts_with(&format!("{name}: ")),
            "{warnings:?}"
        );
    }
    let args = ["-s3-bucket=b", "-max-size=1TiB", "-s3-key={date}/{id}"];
    assert_eq!(loaded(&args, &[]).warnings, Vec::<String>::new());
}

#[test]
fn errors_and_debug_omit_passwords() {
    let error = problems(&["-lease=redis://:hunter2@ho st"], &[]);
    assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
    let settings = loaded(&["-lease=redis://:hunter2@host"], &[]).settings;
    assert!(!format!("{settings:?}").contains("hunter2"));
}

#[test]
fn doctor_accepts_settings_and_its_options() {
    for args in [
        &[
            "doctor",
            "s3",
            "-s3-bucket=b",
            "-json",
            "-origin",
            "https://x.example/",
        ][..],
        &[
            "-s3-bucket=b",
            "doctor",
            "-port=1",
            "s3",
            "--json",
            "--origin=https://x.example",
        ],
    ] {
        match run(args, &[]) {
            Ok(Invocation::Run(loaded, options)) => {
                assert_eq!(loaded.subcommand, Subcommand::DoctorS3);
                assert_eq!(loaded.settings.s3.bucket.as_deref(), Some("b"));
                assert!(options.json);
                assert_eq!(options.origins, ["https://x.example"]);
            }
            other => panic!("{args:?}: {other:?}"),
        }
    }
    for args in [
        &["doctor", "s3", "-h"][..],
        &["doctor", "s3", "--help"],
        &["help", "doctor", "s3"],
    ] {
        match run(args, &[]) {
            Ok(Invocation::Print(text)) => {
                assert!(text.contains("--s3-bucket <NAME>") && !text.contains("--port"));
            }
            other => panic!("{args:?}: {other:?}"),
        }
    }
}

#[test]
fn set_cors_accepts_several_origins_once_each() {
    let args = [
        "s3",
        "set-cors",
        "-s3-bucket=b",
        "-origin=https://x.example/",
        "-dry-run",
        "-origin",
        "http://localhost:3000",
        "-origin=https://x.example",
    ];
    match run(&args, &[]) {
        Ok(Invocation::Run(loaded, options)) => {
            assert_eq!(loaded.subcommand, Subcommand::SetCors);
            assert_eq!(loaded.settings.s3.bucket.as_deref(), Some("b"));
            let origins = ["https://x.example", "http://localhost:3000"];
            assert_eq!(options.origins, origins);
            assert!(options.dry_run);
        }
        other => panic!("{other:?}"),
    }
    for args in [
        &["s3", "set-cors", "-h"][..],
        &["-help", "s3", "set-cors"],
        &["help", "s3", "set-cors"],
    ] {
        match run(args, &[]) {
            Ok(Invocation::Print(text)) => {
                assert!(text.contains("--s3-bucket <NAME>") && !text.contains("--port"));
            }
            other => panic!("{args:?}: {other:?}"),
        }
    }
}
