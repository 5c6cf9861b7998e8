//! Flags, defaults and command lines of tusd.

use std::time::Duration;

use landfall_hooks::format::Format;

use super::*;

/// Every flag of tusd 2.10 with its default.
const TUSD: &str = include_str!("../../../tests/it/tusd-flags.txt");

#[test]
fn compat_tusd_sets_the_defaults_of_tusd() {
    let found = loaded(&["-compat", "tusd", "-behind-proxy"], &[]);
    assert_eq!(found.warnings, Vec::<String>::new());
    let settings = &found.settings;
    assert!(settings.protocol.compat_tusd && settings.log.verbose);
    assert_eq!(settings.log.level, LogLevel::Debug);
    assert_eq!(settings.expiry.unfinished, None);
    assert_eq!(settings.s3.part_size, 50 << 20);
    let hooks = &settings.hooks;
    assert_eq!(hooks.outbox.retry_for, Duration::from_secs(15));
    assert_eq!(hooks.outbox.max_hold, Some(Duration::ZERO));
    assert!(hooks.all_event_headers);
    assert_eq!(hooks.http.redirects, Some(Vec::new()));
    // Receivers of both versions find what they look for.
    assert_eq!(hooks.format, Format::Auto);
    assert_eq!(hooks.command.timeout, Duration::from_secs(24 * 3600));
    assert_eq!(hooks.grpc.timeout, None);
    assert!(settings.urls.trusts(Some("203.0.113.7".parse().unwrap())));
    assert!(settings.protocol.disable_checksum);
    let limits = &settings.limits;
    let per_address = [
        limits.max_connections_per_address,
        limits.max_requests_per_address,
    ];
    assert_eq!(per_address, [0; 2]);
    assert!(found.to_toml(false).contains("# --compat tusd\n"));
    let given = [("LANDFALL_EXPIRE_UNFINISHED", "3d")];
    let found = loaded(&["-compat=tusd", "-verbose=false"], &given);
    assert_eq!(
        found.settings.expiry.unfinished,
        Some(Duration::from_secs(3 * 86_400))
    );
    assert_eq!(found.settings.log.level, LogLevel::Info);
}

#[test]
fn command_lines_of_tusd_are_accepted() {
    let galaxy = "-port 1080 -upload-dir /data -behind-proxy -hooks-http http://localhost:8080/api/upload/hooks \
                  -hooks-http-forward-headers=X-Api-Key,Cookie -hooks-enabled-events pre-create";
    let systemd = "-upload-dir=/srv/uploads -base-path=/files -hooks-dir=/srv/hooks -max-size=1073741824 \
                   -unix-sock=/run/tusd.sock -expose-metrics=false";
    let compose = "-s3-bucket my-test-bucket.com -s3-endpoint https://mystoreendpoint.com \
                   -s3-disable-ssl=false -s3-transfer-acceleration=false -behind-proxy -verbose";
    for line in [galaxy, systemd, compose] {
        let args: Vec<_> = ["-compat=tusd"]
            .into_iter()
            .chain(line.split_whitespace())
            .collect();
        assert_eq!(loaded(&args, &[]).warnings, Vec::<String>::new(), "{line}");
    }
}

#[test]
fn the_values_of_tusd_for_clouds_are_accepted() {
    use landfall_azure::{AccessTier, ContainerAccess};
    let gcs = [
        "-compat=tusd",
        "-gcs-bucket=b",
        "-gcs-object-prefix=a_b/c",
        "-gcs-endpoint=http://127.0.0.1:9/storage/v1/",
    ];
    let found = loaded(&gcs, &[]);
    assert_eq!(found.warnings, Vec::<String>::new());
    assert_eq!(found.settings.gcs.bucket.as_deref(), Some("b"));
    assert_eq!(found.settings.gcs.object_prefix, "a_b/c/");
    let azure = |more: &[&str]| {
        let mut args = vec!["-compat=tusd", "-azure-storage=c"];
        args.extend(more);
        loaded(&args, &[])
    };
    let accesses = [
        ("blob", ContainerAccess::Blob),
        ("container", ContainerAccess::Container),
    ];
    for (word, access) in accesses {
        let flag = format!("-azure-container-access-type={word}");
        let found = azure(&[&flag, "-azure-object-prefix=a_b"]);
        assert_eq!(found.warnings, Vec::<String>::new());
        assert_eq!(found.settings.azure.access, access);
        assert_eq!(found.settings.azure.object_prefix, "a_b/");
    }
    for (word, tier) in [
        ("hot", AccessTier::Hot),
        ("cool", AccessTier::Cool),
        ("archive", AccessTier::Archive),
    ] {
        let flag = format!("-azure-blob-access-tier={word}");
        let found = azure(&[&flag, "-azure-endpoint=http://127.0.0.1:10000"]);
        assert_eq!(found.settings.azure.tier, Some(tier));
        let warns = found
            .warnings
            .iter()
            .any(|line| line.contains("cannot be downloaded"));
        assert_eq!(warns, word == "archive", "{:?}", found.warnings);
    }
    let strict = [
        "-azure-storage=c",
        "-azure-blob-access-tier=archive",
        "-disable-download",
    ];
    loaded(&strict, &[]);
    let error = problems(&strict[..2], &[]).join("\n");
    assert!(error.contains("cannot be downloaded"), "{error}");
    assert!(problem(&["-azure-storage=c", "-azure-blob-access-tier=premium"]).contains("premium"));
}

/// In tusd's order: S3, Google Cloud Storage, Azure, directory.
#[test]
fn one_storage_is_used_if_several_are_named() {
    let found = loaded(
        &["-gcs-bucket=b", "-azure-storage=c", "-upload-dir=/x"],
        &[],
    );
    let settings = &found.settings;
    assert_eq!(settings.gcs.bucket.as_deref(), Some("b"));
    assert_eq!(settings.azure.container, None);
    for name in ["azure-storage", "upload-dir"] {
        let warning = format!("--{name}: has no effect with --gcs-bucket");
        assert!(found.warnings.contains(&warning), "{:?}", found.warnings);
    }
    let found = loaded(&["-s3-bucket=a", "-gcs-bucket=b", "-azure-storage=c"], &[]);
    assert!(found.settings.s3.bucket.is_some() && found.settings.gcs.bucket.is_none());
    for (flag, main) in [
        ("-gcs-endpoint=http://127.0.0.1:9", "--gcs-bucket"),
        ("-azure-endpoint=http://127.0.0.1:9", "--azure-storage"),
    ] {
        let error = problem(&[flag]);
        assert!(
            error.contains(&format!("no effect without {main}")),
            "{error}"
        );
    }
    // The sizes of S3's parts do not matter.
    let memory = "-max-buffered-bytes=64MiB";
    loaded(&["-compat=tusd", "-gcs-bucket=b", memory], &[]);
    assert!(run(&["-compat=tusd", "-s3-bucket=b", memory], &[]).is_err());
    let found = loaded(&["-azure-object-prefix=a"], &[]);
    let warning = "--azure-object-prefix: has no effect without --azure-storage";
    assert_eq!(found.warnings, [warning]);
}

/// tusd's flags end at the first word.
#[test]
fn compat_tusd_ignores_words_after_the_flags_and_says_so() {
    for (args, dropped) in [
        (&["-compat=tusd", "-port=8070", "word"][..], "word"),
        (
            &[
                "-compat",
                "tusd",
                "-port",
                "8070",
                "word",
                "-no-such-flag",
                "serve",
            ],
            "word -no-such-flag serve",
        ),
        (
            &["-compat=tusd", "-port=8070", "--", "-port=9"],
            "-- -port=9",
        ),
        (&["-compat=tusd", "-port=8070", "-", "x"], "- x"),
    ] {
        let found = loaded(args, &[]);
        assert_eq!(found.settings.listen.port, 8070);
        let reason = "ignored as by tusd, because a word ends the flags";
        assert_eq!(found.warnings, [format!("{reason}: {dropped:?}")]);
        let strict: Vec<_> = args
            .iter()
            .filter(|arg| !arg.contains("tusd"))
            .copied()
            .collect();
        let strict: Vec<_> = strict.into_iter().filter(|arg| *arg != "-compat").collect();
        assert_eq!(run(&strict, &[]).unwrap_err().exit_code(), 2, "{strict:?}");
    }
    // A command is none.
    let found = loaded(&["sweep", "-compat=tusd"], &[]);
    assert_eq!(found.subcommand, Subcommand::Sweep);
    assert!(run(&["sweep", "word", "-compat=tusd"], &[]).is_err());
    // The value of a switch may follow it.
    let found = loaded(
        &["-compat=tusd", "-expose-metrics", "false", "-port=8070"],
        &[],
    );
    assert_eq!(
        (found.settings.listen.port, found.warnings.len()),
        (8070, 0)
    );
}

#[test]
fn compat_tusd_has_the_exit_codes_of_tusd() {
    for (args, code, strict) in [
        (&["-no-such-flag"][..], 2, 2),
        (&["-max-size=x"], 2, 2),
        (&["-network-timeout=2x"], 2, 2),
        (&["-behind-proxy=maybe"], 2, 2),
        (&["-tls-mode=ssl"], 1, 1),
        (&["-log-format=yaml"], 1, 2),
        (&["-hooks-plugin=b"], 2, 2),
        (&["-enable-h2c", "-tls-certificate=c", "-tls-key=k"], 1, 2),
    ] {
        assert_eq!(run(args, &[]).unwrap_err().exit_code(), strict, "{args:?}");
        let args: Vec<_> = ["-compat=tusd"]
            .into_iter()
            .chain(args.iter().copied())
            .collect();
        assert_eq!(run(&args, &[]).unwrap_err().exit_code(), code, "{args:?}");
    }
}

/// Otherwise, an unset variable of a script would turn hooks, TLS or the bucket off without a word.
#[test]
fn compat_tusd_ignores_empty_flags_and_says_so() {
    for name in [
        "hooks-http",
        "s3-bucket",
        "tls-certificate",
        "unix-sock",
        "log-format",
        "gcs-bucket",
        "gcs-object-prefix",
        "gcs-endpoint",
        "azure-storage",
        "azure-container-access-type",
        "azure-blob-access-tier",
        "azure-object-prefix",
        "azure-endpoint",
        "hooks-plugin",
    ] {
        let flag = format!("-{name}=");
        assert!(run(&[&flag], &[]).is_err(), "{name}");
        let found = loaded(&["-compat=tusd", &flag], &[]);
        let is_setting = sections::setting(name).is_some();
        let warning = format!("--{name}: is empty, so it is ignored, as by tusd");
        let expected = if is_setting {
            vec![warning]
        } else {
            Vec::new()
        };
        assert_eq!(found.warnings, expected);
        let plain = loaded(&["-compat=tusd"], &[]);
        assert_eq!(found.settings, plain.settings, "{name}");
    }
    // tusd rejects these, too.
    for flag in [
        "-port=",
        "-max-size=",
        "-network-timeout=",
        "-behind-proxy=",
    ] {
        assert!(run(&["-compat=tusd", flag], &[]).is_err(), "{flag}");
    }
}

#[test]
fn every_flag_of_tusd_accepts_its_default_unless_empty() {
    let mut flags = 0;
    for line in TUSD.lines().filter(|line| !line.starts_with('#')) {
        let (name, default) = line.split_once('=').unwrap();
        if name == "version" {
            continue;
        }
        flags += 1;
        if default.is_empty() {
            // tusd uses its default instead; an empty text is usually a mistake.
            let may_be_empty = sections::setting(name)
                .is_some_and(|setting| setting.has(sections::table::Property::MayBeEmpty));
            let result = run(&[&format!("-{name}=")], &[]);
            assert_eq!(result.is_ok(), may_be_empty, "{line}: {result:?}");
            continue;
        }
        let result = run(&[&format!("-{name}={default}")], &[]);
        assert!(
            matches!(result, Ok(Invocation::Run(..))),
            "{line}: {result:?}"
        );
        if !matches!(default, "true" | "false") {
            let result = run(&[&format!("--{name}"), default], &[]);
            assert!(
                matches!(result, Ok(Invocation::Run(..))),
                "{line}: {result:?}"
            );
        }
    }
    assert_eq!(flags, 78);
}

#[test]
fn origins_match_anywhere_as_in_tusd() {
    let args = ["-cors-allow-origin", r"^https://(.*\.)?example\.com$"];
    let cors = loaded(&args, &[]).settings.cors;
    assert!(cors.allow_origin.matches("https://a.example.com"));
    assert!(!cors.allow_origin.matches("https://example.com.evil.test"));
    assert!(
        AllowOrigin::new("example")
            .unwrap()
            .matches("https://example.net")
    );
    assert!(AllowOrigin::default().matches("null"));
}
