//! Empty texts, which usually come from an unset variable in a script or a compose file.

use super::super::sections::settings;
use super::super::sections::table::Kind;
use super::*;

/// The settings for which an empty text is a value, with its meaning.
const MAY_BE_EMPTY: &[&str] = &[
    // No proxy is trusted.
    "trusted-proxies",
    // Nothing is added to the built-in lists.
    "cors-allow-methods",
    "cors-allow-headers",
    "cors-expose-headers",
    // tusd's seven hooks, as in tusd.
    "hooks-enabled-events",
    // No header is forwarded.
    "hooks-http-forward-headers",
    "hooks-grpc-forward-headers",
    // No other origin may send cookies.
    "grants-allowed-origins",
    // The paths have no prefix.
    "direct-path",
];

#[test]
fn empty_texts_are_rejected_from_every_source() {
    for setting in settings() {
        let name = setting.name;
        let mut empty = vec![String::new()];
        if matches!(setting.kind, Kind::List(_)) {
            empty.extend([" ".to_owned(), " , ".to_owned()]);
        }
        for text in empty {
            let flag = format!("-{name}={text}");
            let variable = (setting.variable(), text.clone());
            let (_file, file) = file(&format!("{name} = {text:?}"));
            let results = [
                run(&[&flag], &[]),
                run(&[], &[(&variable.0, &variable.1)]),
                run(&["-config", &file], &[]),
            ];
            for result in results {
                if MAY_BE_EMPTY.contains(&name) {
                    result.unwrap();
                    continue;
                }
                let error = result.unwrap_err().to_string();
                let places = [
                    &format!("--{name}"),
                    &variable.0,
                    &format!("{file}:1: {name}"),
                ];
                let begins = places.iter().any(|place| {
                    error.starts_with(&format!("landfall: {place}: is empty; write "))
                });
                assert!(begins, "{name}: {error}");
            }
        }
    }
}

#[test]
fn empty_options_of_commands_are_rejected() {
    let events = ["config", "transport", "upload", "limit"];
    let keys = [
        "subject",
        "max-size",
        "allowed-types",
        "max-active",
        "rate-limit",
        "quota",
        "expires",
    ];
    let events = events.map(|name| (vec!["events", "list"], name));
    let keys = keys.map(|name| (vec!["keys", "add", "a"], name));
    for (mut args, name) in events.into_iter().chain(keys) {
        let flag = format!("-{name}=");
        args.push(&flag);
        let error = problem(&args);
        assert!(
            error.starts_with(&format!("invalid value '' for '--{name} ")),
            "{error}"
        );
    }
    let error = problem(&["events", "delete", "-all", "-transport="]);
    assert!(error.contains("is empty"), "{error}");
    let error = problems(&[], &[("LANDFALL_CONFIG", "")]).join("\n");
    assert!(error.starts_with("LANDFALL_CONFIG: is empty"), "{error}");
}

#[test]
fn empty_unsupported_flags_are_rejected() {
    let error = problem(&["-hooks-plugin="]);
    assert!(error.contains("not supported"), "{error}");
    loaded(&["-pprof-path=/debug/pprof/", "-expose-pprof=false"], &[]);
}

/// A server meant to use TLS must not start without it because a variable is unset.
#[test]
fn tls_needs_a_certificate_and_a_key() {
    for (args, expected) in [
        (&["-tls-certificate="][..], "is empty"),
        (
            &["-tls-certificate=/c"],
            "-tls-certificate: requires --tls-key",
        ),
        (&["-tls-key=/k"], "-tls-key: requires --tls-certificate"),
        (
            &["-tls-certificate=/c,/d", "-tls-key=/k"],
            "there are 2 certificates and 1 keys",
        ),
        (
            &["-tls-client-ca=/c"],
            "no effect without --tls-certificate",
        ),
        (
            &[
                "-tls-certificate=/c",
                "-tls-key=/k",
                "-tls-client-auth=optional",
            ],
            "no effect without --tls-client-ca",
        ),
        (
            &["-grants", "-grants-client-certificates"],
            "requires --tls-client-ca",
        ),
        (
            &["-tls-certificate=/c", "-tls-key=/k", "-unix-sock=/s"],
            "no effect with --unix-sock",
        ),
        (
            &["-tls-certificate=/c", "-tls-key=/k", "-enable-h2c"],
            "conflicts with --tls-certificate",
        ),
        (
            &[
                "-tls-certificate=/c",
                "-tls-key=/k",
                "-http3",
                "-tls-mode=tls12-strong",
            ],
            "-http3: needs TLS 1.3",
        ),
        (
            &[
                "-tls-certificate=/c",
                "-tls-key=/k",
                "-http3",
                "-proxy-protocol",
                "-behind-proxy",
                "-trusted-proxies=192.0.2.1",
            ],
            "-http3: conflicts with --proxy-protocol",
        ),
        (
            &[
                "-acme-domain=a.example",
                "-tls-certificate=/c",
                "-tls-key=/k",
            ],
            "-acme-domain: conflicts with --tls-certificate",
        ),
        (
            &["-acme-domain=a.example", "-tls-client-ca=/c"],
            "-acme-domain: requires --redirect-http",
        ),
        (
            &["-acme-domain=a.example", "-unix-sock=/s"],
            "-acme-domain: has no effect with --unix-sock",
        ),
    ] {
        let error = problems(args, &[]).join("\n");
        assert!(error.contains(expected), "{error}");
    }
    loaded(
        &["-tls-certificate=/c", "-tls-key=/k", "-redirect-http=80"],
        &[],
    );
}
