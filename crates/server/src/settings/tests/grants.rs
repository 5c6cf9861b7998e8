//! Settings of grants and of the dashboard, and `landfall keys`.

use std::time::Duration;

use landfall_state::queue::RateLimit;

use super::*;

#[test]
fn grants_and_dashboard_are_off_by_default() {
    let given = loaded(&[], &[]).settings;
    assert!(!given.grants.enabled && !given.grants.required && !given.admin.is_on());
    assert_eq!(given.grants.path, "/uploadjobs");
    assert_eq!(given.grants.valid_for, Duration::from_secs(3600));
    assert_eq!(given.grants.limits, GrantLimits::default());
    let required = loaded(&["-require-grant"], &[]).settings.grants;
    assert!(required.enabled && required.required);
    let required = loaded(&["-require-grant", "-grants=false"], &[])
        .settings
        .grants;
    assert!(required.enabled);
}

#[test]
fn overlapping_paths_are_problems() {
    for (args, error) in [
        (
            &["-grants", "-grants-path=/files"][..],
            "--grants-path: the path /files of grants overlaps /files/ of uploads",
        ),
        (
            &["-grants", "-base-path=/uploadjobs/files"],
            "--base-path: the path /uploadjobs of grants overlaps /uploadjobs/files/ of uploads",
        ),
        (
            &["-grants", "-grants-path=/healthz"],
            "--grants-path: the path /healthz of grants overlaps",
        ),
        (
            &["-grants", "-grants-path=/metrics/"],
            "--grants-path: the path /metrics of grants overlaps",
        ),
        (
            &[
                "-admin-key=0123456789abcdef",
                "-metrics-path=/admin/metrics",
            ],
            "--metrics-path: the path /admin of the dashboard overlaps",
        ),
        (
            &[
                "-grants",
                "-admin-key=0123456789abcdef",
                "-admin-path=/uploadjobs/all",
            ],
            "--admin-path: the path /uploadjobs of grants overlaps",
        ),
        (
            &[
                "-grants",
                "-admin-key=0123456789abcdef",
                "-grants-path=/admin/jobs",
            ],
            "--grants-path: the path /admin/jobs of grants overlaps",
        ),
    ] {
        let found = problem(args);
        assert!(found.starts_with(error), "{args:?}: {found}");
    }
    for args in [
        &["-grants", "-base-path=/"][..],
        &["-grants", "-base-path=/api", "-grants-path=/api/jobs"],
        &["-grants-path=/files"],
        &["-grants", "-grants-path=/filesystem"],
        &["-grants", "-grants-path=/metrics", "-expose-metrics=false"],
    ] {
        loaded(args, &[]);
    }
}

#[test]
fn dashboard_key_is_never_printed() {
    const KEY: &str = "hunter2hunter2hunter2";
    let given = loaded(&[], &[("LANDFALL_ADMIN_KEY", KEY)]);
    assert_eq!(given.settings.admin.key.as_ref().unwrap().reveal(), KEY);
    assert!(!format!("{given:?}").contains("hunter2"));
    let report = given.to_toml(false);
    assert!(!report.contains("hunter2"), "{report}");
    assert!(report.contains("# LANDFALL_ADMIN_KEY, omitted"));
    for args in [
        &["-admin-key=hunter2"][..],
        &["-admin-key", "hunter2 hunter2 hunter2"],
    ] {
        let error = problem(args);
        assert!(!error.contains("hunter2"), "{error}");
    }
}

#[test]
fn settings_without_effect_are_reported() {
    for (args, error) in [
        (
            &["-grants-valid-for=5m"][..],
            "--grants-valid-for: has no effect without --grants",
        ),
        (
            &["-grants", "-grants-jwt-subject=x"],
            "--grants-jwt-subject: has no effect without --grants-jwt-keys",
        ),
        (
            &[
                "-hooks-dir=/x",
                "-hooks-enabled-events=dir:pre-create,dir:UploadCompleted",
            ],
            "--hooks-enabled-events: UploadCompleted requires --grants or --admin-key",
        ),
        (
            &["-admin-path=/x"],
            "--admin-path: has no effect without --admin-key",
        ),
        (
            &["-grants", "-grants-max-size=2GiB", "-max-size=1GiB"],
            "--grants-max-size: exceeds --max-size",
        ),
    ] {
        let warnings = loaded(args, &[]).warnings;
        assert_eq!(warnings.len(), 1, "{args:?}: {warnings:?}");
        assert!(warnings[0].starts_with(error), "{args:?}: {warnings:?}");
    }
    // Users rely on limits and on hooks that authorize.
    for (args, error) in [
        (
            &["-grants-max-active=5"][..],
            "--grants-max-active: has no effect without --grants",
        ),
        (
            &["-grants", "-grants-jwt-issuer=x"],
            "--grants-jwt-issuer: has no effect without --grants-jwt-keys",
        ),
        (
            &["-grants", "-grants-jwt-keys=https://h/jwks"],
            "--grants-jwt-keys: any token signed with these keys would be accepted, also one for another application; set --grants-jwt-audience or --grants-jwt-issuer",
        ),
        (
            &[
                "-hooks-dir=/x",
                "-hooks-enabled-events=pre-grant",
                "-admin-key=0123456789abcdef",
            ],
            "--hooks-enabled-events: pre-grant requires --grants",
        ),
    ] {
        let found = problem(args);
        assert!(found.starts_with(error), "{args:?}: {found}");
    }
    let quiet: [&[&str]; 5] = [
        &["-admin-key=0123456789abcdef", "-retention=1h"],
        &["-grants", "-grants-max-active=5"],
        // Defaults, as config check prints them.
        &["-grants-max-active=0", "-grants-valid-for=1h"],
        &[
            "-grants",
            "-hooks-dir=/x",
            "-hooks-enabled-events=pre-grant,upload-failed",
        ],
        &[
            "-grants",
            "-grants-forward-auth-url=http://x/",
            "-grants-allowed-origins=https://x",
        ],
    ];
    for args in quiet {
        assert_eq!(loaded(args, &[]).warnings, Vec::<String>::new(), "{args:?}");
    }
}

#[test]
fn debug_omits_passwords_of_urls() {
    let args = [
        "-grants",
        "-grants-jwt-keys=https://u:hunter2@h/jwks",
        "-grants-jwt-issuer=x",
        "-grants-forward-auth-url=http://u:hunter2@h/authorize",
    ];
    let given = loaded(&args, &[]).settings;
    assert!(!format!("{given:?}").contains("hunter2"));
    assert!(matches!(given.grants.jwt.keys, Some(JwtKeys::Url(_))));
    let args = [
        "-grants",
        "-grants-jwt-keys=/etc/jwks.json",
        "-grants-jwt-issuer=x",
    ];
    let file = loaded(&args, &[]).settings;
    assert_eq!(
        file.grants.jwt.keys,
        Some(JwtKeys::File("/etc/jwks.json".into()))
    );
}

#[test]
fn link_has_defaults_and_subcommands() {
    let link = |args: &[&str]| match run(args, &[]) {
        Ok(Invocation::Run(loaded, options)) if loaded.subcommand == Subcommand::Link => {
            (options.link, loaded.settings)
        }
        other => panic!("{args:?}: {other:?}"),
    };
    let week = Duration::from_secs(7 * 24 * 3600);
    let (LinkCommand::Add(added), _) = link(&["link"]) else {
        panic!("not added");
    };
    assert_eq!((&*added.name, added.expires), ("Upload link", Some(week)));
    let args = [
        "link",
        "--name",
        "a b",
        "--max-size=5GiB",
        "--files",
        "50",
        "-expires=0",
    ];
    let (added, settings) =
        link(&[&args[..], &["-url=https://x.example/", "-state-dir=/s"]].concat());
    let expected = NewLink {
        name: "a b".into(),
        max_size: Some(5 << 30),
        max_files: Some(50),
        expires: None,
        url: Some("https://x.example/".into()),
    };
    assert_eq!(added, LinkCommand::Add(expected));
    assert_eq!(
        (settings.protocol.max_size, settings.state.dir),
        (None, Some("/s".into()))
    );
    assert_eq!(link(&["link", "list", "--json"]).0, LinkCommand::List);
    assert_eq!(
        link(&["link", "revoke", "a b"]).0,
        LinkCommand::Revoke("a b".into())
    );
    for args in [
        &["link", "x"][..],
        &["link", "--url=x.example"],
        &["link", "--files=-1"],
        &["link", "list", "--files=1"],
        &["link", "revoke"],
    ] {
        problem(args);
    }
}

#[test]
fn keys_commands_accept_only_their_options() {
    let keys = |args: &[&str]| match run(args, &[]) {
        Ok(Invocation::Run(loaded, options)) if loaded.subcommand == Subcommand::Keys => {
            (options.keys, options.json, loaded.settings)
        }
        other => panic!("{args:?}: {other:?}"),
    };
    let (added, _, settings) = keys(&[
        "keys",
        "add",
        "website",
        "-max-size=2GiB",
        "--subject",
        "alice",
        "-admin",
        "-allowed-types=image/*",
        "-max-active=3",
        "-rate-limit=10/1m",
        "-quota=1TB",
        "-expires=90d",
        "-state-dir=/s",
    ]);
    let key = NewKey {
        name: "website".into(),
        subject: Some("alice".into()),
        is_admin: true,
        limits: GrantLimits {
            max_size: Some(2 << 30),
            allowed_types: vec!["image/*".into()],
            max_active: Some(3),
            rate_limit: Some(RateLimit {
                count: 10,
                per: Duration::from_secs(60),
            }),
            quota: Some(1_000_000_000_000),
            require_size: false,
        },
        expires: Some(Duration::from_secs(90 * 24 * 3600)),
    };
    assert_eq!(added, KeysCommand::Add(key));
    // It limits the key, not the server.
    assert_eq!(settings.protocol.max_size, None);
    assert_eq!(settings.state.dir, Some("/s".into()));

    let of_server = [("LANDFALL_MAX_SIZE", "1KiB")];
    match run(&["keys", "add", "a"], &of_server).unwrap() {
        Invocation::Run(_, options) => match options.keys {
            KeysCommand::Add(key) => assert_eq!(key.limits.max_size, None),
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
    let (listed, json, _) = keys(&["keys", "list", "-json"]);
    assert!(json && listed == KeysCommand::List);
    let (revoked, ..) = keys(&["keys", "revoke", "7"]);
    assert_eq!(revoked, KeysCommand::Revoke("7".into()));

    for args in [
        &["keys"][..],
        &["keys", "show"],
        &["keys", "add"],
        &["keys", "add", ""],
        &["keys", "add", "a", "b"],
        &["keys", "add", "a\u{7}"],
        &["keys", "add", "a", "-json"],
        &["keys", "add", "a", "-max-size=x"],
        &["keys", "revoke"],
        &["keys", "list", "a"],
        &["keys", "list", "-admin"],
        &["-quota=5"],
    ] {
        problem(args);
    }
    for args in [
        &["help", "keys", "add"][..],
        &["keys", "add", "--help"],
        &["-help", "keys", "list"],
    ] {
        match run(args, &[]) {
            Ok(Invocation::Print(text)) => assert!(text.contains("--state-dir <DIR>"), "{args:?}"),
            other => panic!("{args:?}: {other:?}"),
        }
    }
}
