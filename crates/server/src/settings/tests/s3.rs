//! The settings of S3 storage, of leases, and the command that examines them.

use super::super::*;
use super::{loaded, problem, problems, run};

#[test]
fn tusds_command_line_means_the_same() {
    let words = [
        "-s3-bucket=b",
        "-s3-endpoint",
        "http://localhost:3900",
        "-s3-object-prefix=in",
        "-s3-part-size=52428800",
        "-s3-min-part-size=5242880",
        "-s3-concurrent-part-uploads=10",
        "-s3-disable-content-hashes",
    ];
    let s3 = loaded(&words, &[]).settings.s3;
    assert_eq!(s3.bucket.as_deref(), Some("b"));
    assert_eq!(s3.endpoint.as_deref(), Some("http://localhost:3900"));
    assert_eq!(s3.object_prefix, "in/");
    assert_eq!((s3.part_size, s3.min_part_size), (50 << 20, 5 << 20));
    assert_eq!((s3.concurrent_parts, s3.disable_content_hashes), (10, true));
    assert_eq!(s3.path_style, None);
}

#[test]
fn a_least_part_alone_raises_the_part() {
    let s3 = loaded(&["-s3-min-part-size=16MiB"], &[]).settings.s3;
    assert_eq!((s3.part_size, s3.min_part_size), (16 << 20, 16 << 20));
    let told = problem(&["-s3-min-part-size=16MiB", "-s3-part-size=8MiB"]);
    assert!(told.starts_with("-s3-part-size: is less than"), "{told}");
}

#[test]
fn settings_that_exclude_each_other_are_problems() {
    for (words, place) in [
        (
            &["-s3-memory=16MiB", "-s3-part-size=9MiB"][..],
            "-s3-memory: ",
        ),
        (&["-s3-memory=10MiB"], "-s3-memory: "),
        (&["-s3-part-size=200MiB"], "-s3-part-size: "),
        (
            &[
                "-s3-bucket=b",
                "-s3-transfer-acceleration",
                "-s3-endpoint=http://x",
            ],
            "-s3-transfer-acceleration: ",
        ),
        (
            &["-s3-transfer-acceleration", "-s3-path-style=true"],
            "-s3-transfer-acceleration: ",
        ),
        (
            &["-s3-transfer-acceleration", "-s3-bucket=a.b"],
            "-s3-transfer-acceleration: ",
        ),
        (
            &["-s3-bucket=b", "-s3-sse=AES256", "-s3-sse-kms-key-id=k"],
            "-s3-sse-kms-key-id: ",
        ),
        (&["-lease=file"], "-lease: "),
        (&["doctor", "s3"], "doctor s3 needs"),
        (&["doctor"], "doctor alone does nothing"),
        (
            &["doctor", "files", "-s3-bucket=b"],
            "doctor files examines",
        ),
        (&["-json"], "-json goes with doctor, events and keys only"),
        (
            &["-origin=https://x"],
            "-origin goes with doctor and s3 set-cors only",
        ),
        (
            &["-dry-run"],
            "-dry-run goes with sweep and s3 set-cors only",
        ),
        (&["s3"], "s3 alone does nothing"),
        (
            &["s3", "set-cors", "-origin=https://x"],
            "s3 set-cors needs to know the bucket",
        ),
        (
            &["s3", "set-cors", "-s3-bucket=b"],
            "s3 set-cors needs to know whose pages",
        ),
        (&["doctor", "s3", "-s3-bucket=b", "-origin=x"], "-origin: "),
    ] {
        let told = problem(words);
        assert!(told.starts_with(place), "{words:?}: {told}");
    }
}

#[test]
fn settings_without_effect_are_worth_a_warning() {
    for (words, name) in [
        (&["-s3-bucket=b", "-upload-dir=/x"][..], "-upload-dir"),
        (&["-s3-bucket=b", "-durability=every"], "-durability"),
        (
            &["-s3-bucket=b", "-s3-max-buffered-parts=3"],
            "-s3-max-buffered-parts",
        ),
        (
            &["-s3-bucket=b", "-s3-redirect-lifetime=1m"],
            "-s3-redirect-lifetime",
        ),
        (
            &["-s3-bucket=b", "-s3-endpoint=http://x", "-s3-disable-ssl"],
            "-s3-disable-ssl",
        ),
        (
            &["-s3-bucket=b", "-disable-download", "-s3-download=redirect"],
            "-s3-download",
        ),
        (&["-s3-part-size=9MiB"], "-s3-part-size"),
        (&["-lease-ttl=5s"], "-lease-ttl"),
        (&["-lease=store", "-lease-ttl=5s"], "-lease-ttl"),
    ] {
        let warnings = loaded(words, &[]).warnings;
        assert_eq!(warnings.len(), 1, "{words:?}: {warnings:?}");
        let start = format!("{name}: has no effect ");
        assert!(warnings[0].starts_with(&start), "{warnings:?}");
    }
    for words in [
        &["-s3-bucket=b"][..],
        &["-s3-bucket=b", "-lease=store", "-lease-ttl=5s"],
        &["-lease=redis://x", "-lease-ttl=5s"],
        #[cfg(feature = "postgres")]
        &["-lease=postgres://x/y", "-lease-ttl=5s"],
    ] {
        assert_eq!(
            loaded(words, &[]).warnings,
            Vec::<String>::new(),
            "{words:?}"
        );
    }
}

#[test]
fn what_may_not_be_meant_is_worth_a_warning() {
    for (words, name) in [
        (
            &["-s3-bucket=b", "-s3-key={date}/{filename}"][..],
            "-s3-key",
        ),
        (&["-s3-bucket=b", "-max-size=2TiB"], "-max-size"),
    ] {
        let warnings = loaded(words, &[]).warnings;
        assert_eq!(warnings.len(), 1, "{words:?}: {warnings:?}");
        assert!(
            warnings[0].starts_with(&format!("{name}: ")),
            "{warnings:?}"
        );
    }
    let words = ["-s3-bucket=b", "-max-size=1TiB", "-s3-key={date}/{id}"];
    assert_eq!(loaded(&words, &[]).warnings, Vec::<String>::new());
}

#[test]
fn a_key_of_ones_own_means_kms() {
    let sse = |words: &[&str]| loaded(words, &[]).settings.s3.headers.sse;
    assert_eq!(
        sse(&["-s3-bucket=b", "-s3-sse-kms-key-id=k"]).as_deref(),
        Some("aws:kms")
    );
    let words = [
        "-s3-bucket=b",
        "-s3-sse=aws:kms:dsse",
        "-s3-sse-kms-key-id=k",
    ];
    assert_eq!(sse(&words).as_deref(), Some("aws:kms:dsse"));
    assert_eq!(sse(&[]), None);
}

#[test]
fn a_password_in_a_url_is_never_cited() {
    let told = problems(&["-lease=redis://:hunter2@ho st"], &[]);
    assert!(!format!("{told:?}").contains("hunter2"), "{told:?}");
    let settings = loaded(&["-lease=redis://:hunter2@host"], &[]).settings;
    assert!(!format!("{settings:?}").contains("hunter2"));
}

#[cfg(feature = "s3")]
#[test]
fn doctor_takes_the_servers_flags_and_its_own() {
    for words in [
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
        match run(words, &[]) {
            Ok(Invocation::DoctorS3 {
                loaded,
                json,
                origins,
            }) => {
                assert_eq!(loaded.settings.s3.bucket.as_deref(), Some("b"));
                assert!(json);
                assert_eq!(origins, ["https://x.example"]);
            }
            other => panic!("{words:?}: {other:?}"),
        }
    }
    for words in [
        &["doctor", "s3", "-h"][..],
        &["help", "doctor"],
        &["help", "doctor", "s3"],
    ] {
        match run(words, &[]) {
            Ok(Invocation::Print(text)) => {
                assert!(text.contains("-s3-bucket NAME") && !text.contains("-port"));
            }
            other => panic!("{words:?}: {other:?}"),
        }
    }
}

#[cfg(feature = "s3")]
#[test]
fn rules_are_set_for_several_origins() {
    let words = [
        "s3",
        "set-cors",
        "-s3-bucket=b",
        "-origin=https://x.example/",
        "-dry-run",
        "-origin",
        "http://localhost:3000",
        "-origin=https://x.example",
    ];
    match run(&words, &[]) {
        Ok(Invocation::SetCors {
            loaded,
            origins,
            dry_run,
        }) => {
            assert_eq!(loaded.settings.s3.bucket.as_deref(), Some("b"));
            assert_eq!(origins, ["https://x.example", "http://localhost:3000"]);
            assert!(dry_run);
        }
        other => panic!("{other:?}"),
    }
    for words in [
        &["s3", "-h"][..],
        &["s3", "set-cors", "-h"],
        &["help", "s3"],
    ] {
        match run(words, &[]) {
            Ok(Invocation::Print(text)) => {
                assert!(text.contains("-s3-bucket NAME") && !text.contains("-port"));
            }
            other => panic!("{words:?}: {other:?}"),
        }
    }
}
