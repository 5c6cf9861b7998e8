//! Settings of grants and of the dashboard, and errands about keys.

use std::time::Duration;

use super::*;

#[test]
fn nothing_of_it_is_on_by_itself() {
    let said = loaded(&[], &[]).settings;
    assert!(!said.grants.enabled && !said.grants.required && !said.admin.is_on());
    assert_eq!(said.grants.path, "/uploadjobs");
    assert_eq!(said.grants.valid_for, Duration::from_secs(3600));
    assert_eq!(said.grants.limits, GrantLimits::default());
    let required = loaded(&["-require-grant"], &[]).settings.grants;
    assert!(required.enabled && required.required);
    let required = loaded(&["-require-grant", "-grants=false"], &[])
        .settings
        .grants;
    assert!(required.enabled);
}

#[test]
fn pages_have_places_of_their_own() {
    for (words, told) in [
        (
            &["-grants", "-grants-path=/files"][..],
            "-grants-path: grants can't be at /files beside uploads at /files/",
        ),
        (
            &["-grants", "-base-path=/uploadjobs/files"],
            "-base-path: grants can't be at /uploadjobs beside uploads at /uploadjobs/files/",
        ),
        (
            &["-grants", "-grants-path=/healthz"],
            "-grants-path: grants can't be at /healthz",
        ),
        (
            &["-grants", "-grants-path=/metrics/"],
            "-grants-path: grants can't be at /metrics",
        ),
        (
            &[
                "-admin-key=0123456789abcdef",
                "-metrics-path=/admin/metrics",
            ],
            "-metrics-path: the dashboard can't be at /admin",
        ),
        (
            &[
                "-grants",
                "-admin-key=0123456789abcdef",
                "-admin-path=/uploadjobs/all",
            ],
            "-admin-path: grants can't be at /uploadjobs",
        ),
        (
            &[
                "-grants",
                "-admin-key=0123456789abcdef",
                "-grants-path=/admin/jobs",
            ],
            "-grants-path: grants can't be at /admin/jobs",
        ),
    ] {
        let found = problem(words);
        assert!(found.starts_with(told), "{words:?}: {found}");
    }
    for words in [
        &["-grants", "-base-path=/"][..],
        &["-grants", "-base-path=/api", "-grants-path=/api/jobs"],
        &["-grants-path=/files"],
        &["-grants", "-grants-path=/filesystem"],
        &["-grants", "-grants-path=/metrics", "-expose-metrics=false"],
    ] {
        loaded(words, &[]);
    }
}

#[test]
fn the_key_to_the_dashboard_is_shown_nowhere() {
    const KEY: &str = "hunter2hunter2hunter2";
    let said = loaded(&[], &[("LANDFALL_ADMIN_KEY", KEY)]);
    assert_eq!(said.settings.admin.key.as_ref().unwrap().reveal(), KEY);
    assert!(!format!("{said:?}").contains("hunter2"));
    let report = said.to_toml();
    assert!(!report.contains("hunter2"), "{report}");
    assert!(report.contains("# LANDFALL_ADMIN_KEY, not shown here"));
    for words in [
        &["-admin-key=hunter2"][..],
        &["-admin-key", "hunter2 hunter2 hunter2"],
        &["-admin-key=hunter2hunter2hunter2", "-admin-key-file=/x"],
    ] {
        let told = problem(words);
        assert!(!told.contains("hunter2"), "{told}");
    }
}

#[test]
fn settings_without_effect_are_told() {
    for (words, told) in [
        (
            &["-grants-valid-for=5m"][..],
            "-grants-valid-for: has no effect without grants",
        ),
        (
            &["-grants", "-grants-jwt-subject=x"],
            "-grants-jwt-subject: has no effect without grants-jwt-keys",
        ),
        (
            &[
                "-hooks-dir=/x",
                "-hooks-dir-events=pre-create,UploadCompleted",
            ],
            "-hooks-dir-events: without grants there is no UploadCompleted",
        ),
        (
            &["-admin-path=/x"],
            "-admin-path: has no effect without admin-key",
        ),
        (
            &["-grants", "-grants-max-size=2GiB", "-max-size=1GiB"],
            "-grants-max-size: is more than --max-size",
        ),
    ] {
        let warnings = loaded(words, &[]).warnings;
        assert_eq!(warnings.len(), 1, "{words:?}: {warnings:?}");
        assert!(warnings[0].starts_with(told), "{words:?}: {warnings:?}");
    }
    // Whoever sets a limit or asks for leave relies on it.
    for (words, told) in [
        (
            &["-grants-max-active=5"][..],
            "-grants-max-active: has no effect without grants",
        ),
        (
            &["-grants", "-grants-jwt-issuer=x"],
            "-grants-jwt-issuer: has no effect without grants-jwt-keys",
        ),
        (
            &["-grants", "-grants-jwt-keys=https://h/jwks"],
            "-grants-jwt-keys: any token that these keys have signed would be accepted, also one for another application; set grants-jwt-audience or grants-jwt-issuer",
        ),
        (
            &[
                "-hooks-dir=/x",
                "-hooks-enabled-events=pre-grant",
                "-admin-key=0123456789abcdef",
            ],
            "-hooks-enabled-events: without grants there is no pre-grant",
        ),
    ] {
        let found = problem(words);
        assert!(found.starts_with(told), "{words:?}: {found}");
    }
    let quiet: [&[&str]; 5] = [
        &["-admin-key=0123456789abcdef", "-grants-retention=1h"],
        &["-grants", "-grants-max-active=5"],
        // It says what holds anyway, as what config check prints does.
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
    for words in quiet {
        assert_eq!(
            loaded(words, &[]).warnings,
            Vec::<String>::new(),
            "{words:?}"
        );
    }
}

#[test]
fn passwords_of_urls_are_hidden() {
    let words = [
        "-grants",
        "-grants-jwt-keys=https://u:hunter2@h/jwks",
        "-grants-jwt-issuer=x",
        "-grants-forward-auth-url=http://u:hunter2@h/authorize",
    ];
    let said = loaded(&words, &[]).settings;
    assert!(!format!("{said:?}").contains("hunter2"));
    assert!(matches!(said.grants.jwt.keys, Some(JwtKeys::Url(_))));
    let words = [
        "-grants",
        "-grants-jwt-keys=/etc/jwks.json",
        "-grants-jwt-issuer=x",
    ];
    let file = loaded(&words, &[]).settings;
    assert_eq!(
        file.grants.jwt.keys,
        Some(JwtKeys::File("/etc/jwks.json".into()))
    );
}

#[test]
fn errands_about_keys_are_one_thing() {
    let errand = |words: &[&str]| match run(words, &[]) {
        Ok(Invocation::Keys {
            errand,
            json,
            loaded,
        }) => (errand, json, loaded.settings),
        other => panic!("{words:?}: {other:?}"),
    };
    let (made, _, settings) = errand(&[
        "keys",
        "add",
        "website",
        "-max-size=2GiB",
        "--subject",
        "alice",
        "-admin",
        "-types=image/*",
        "-active=3",
        "-rate=10/1m",
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
            types: vec!["image/*".into()],
            active: Some(3),
            rate: Some((10, Duration::from_secs(60))),
            quota: Some(1_000_000_000_000),
            size_required: false,
        },
        expires: Some(Duration::from_secs(90 * 24 * 3600)),
    };
    assert_eq!(made, KeyErrand::Add(key));
    // It was the key's, not the server's.
    assert_eq!(settings.protocol.max_size, None);
    assert_eq!(settings.state.dir, Some("/s".into()));

    let of_server = [("LANDFALL_MAX_SIZE", "1KiB")];
    match run(&["keys", "add", "a"], &of_server).unwrap() {
        Invocation::Keys {
            errand: KeyErrand::Add(key),
            ..
        } => {
            assert_eq!(key.limits.max_size, None);
        }
        other => panic!("{other:?}"),
    }
    let (listed, json, _) = errand(&["keys", "list", "-json"]);
    assert!(json && listed == KeyErrand::List);
    let (gone, ..) = errand(&["keys", "revoke", "7"]);
    assert_eq!(gone, KeyErrand::Revoke("7".into()));

    for words in [
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
        problem(words);
    }
    for words in [
        &["help", "keys"][..],
        &["keys", "-h"],
        &["keys", "add", "-h"],
    ] {
        match run(words, &[]) {
            Ok(Invocation::Print(text)) => assert!(text.contains("-state-dir DIR"), "{words:?}"),
            other => panic!("{words:?}: {other:?}"),
        }
    }
}
