//! Secrets are absent from `config check`, errors and `Debug`.

use super::super::sections::table::{Property, Setting};
use super::super::sections::{setting, settings};
use super::*;

const SECRET: &str = "hunter2hunter2hunter2";

/// Every setting that may contain a secret, with texts that do, and the part that reports contain.
const TEXTS: &[(&str, &[&str], &str)] = &[
    ("admin-key", &["hunter2hunter2hunter2"], "***"),
    (
        "direct-notifications-secret",
        &["hunter2hunter2hunter2"],
        "***",
    ),
    (
        "hooks-http-secret",
        &[
            "hunter2hunter2hunter2",
            "whsec_aHVudGVyMg==,hunter2hunter2hunter2",
        ],
        "***",
    ),
    (
        "hooks-http",
        &[
            "http://u:hunter2hunter2hunter2@h/x",
            "http://h/x?tok=hunter2hunter2hunter2",
        ],
        "h/x",
    ),
    (
        "hooks-broker",
        &[
            "nats://hunter2hunter2hunter2@h",
            "nats://u:hunter2hunter2hunter2@h",
        ],
        "h",
    ),
    (
        "hooks-broker",
        &["amqp://u:hunter2hunter2hunter2@h/%2f?exchange=e"],
        "u:***@h/%2f?exchange=e",
    ),
    (
        "hooks-broker",
        &["redis://:hunter2hunter2hunter2@h/0"],
        ":***@h/0",
    ),
    (
        "database",
        &[
            "postgres://u:hunter2hunter2hunter2@h/d",
            "postgres://u@h/d?password=hunter2hunter2hunter2",
        ],
        "@h/d",
    ),
    (
        "lease",
        &[
            "redis://:hunter2hunter2hunter2@h/0",
            "redis://u:hunter2hunter2hunter2@h/0",
            "postgres://u:hunter2hunter2hunter2@h/0",
        ],
        "***@h/0",
    ),
    (
        "grants-jwt-keys",
        &[
            "https://u:hunter2hunter2hunter2@h/jwks",
            "https://h/jwks?key=hunter2hunter2hunter2",
        ],
        "h/jwks",
    ),
    (
        "grants-forward-auth-url",
        &[
            "http://u:hunter2hunter2hunter2@h/a",
            "http://h/a?key=hunter2hunter2hunter2",
        ],
        "h/a",
    ),
];

fn is_secret(setting: &Setting) -> bool {
    let secret = [
        Property::Secret,
        Property::SecretInUrl,
        Property::PasswordInUrl,
    ];
    secret.into_iter().any(|property| setting.has(property))
}

#[test]
fn reports_and_debug_omit_secrets() {
    let marked: Vec<&str> = settings()
        .filter(|setting| is_secret(setting))
        .map(|setting| setting.name)
        .collect();
    for name in &marked {
        assert!(TEXTS.iter().any(|(known, ..)| known == name), "{name}");
    }
    for (name, texts, shown) in TEXTS {
        assert!(marked.contains(name), "{name}");
        for text in *texts {
            let mut layers = Layers::default();
            layers.add(
                setting(name).unwrap(),
                (*text).to_owned(),
                layers::Source::Flag(name),
            );
            let mut problems = Vec::new();
            let settings = layers.parse(&mut problems);
            assert_eq!(problems, [], "{name}");
            let report = report::report(&layers, false);
            assert!(!report.contains(SECRET), "{name}: {report}");
            let line = report
                .lines()
                .find(|line| line.starts_with(&format!("# {name} = ")));
            assert!(line.unwrap().contains(shown), "{name}: {line:?}");
            let debug = format!("{settings:?} {layers:?}");
            assert!(!debug.contains(SECRET), "{name}: {debug}");
        }
    }
}

#[test]
fn errors_omit_passwords() {
    for setting in settings() {
        for text in [
            "htp://u:hunter2hunter2hunter2@h/",
            "http://u:hunter2hunter2hunter2@h x/",
            "http://u:hunter2/hunter2hunter2@h/?a#b",
            "u:hunter2hunter2hunter2@h",
            "redis://:hunter2hunter2hunter2 @h",
            "https://h/?key=hunter2hunter2hunter2#",
        ] {
            let is_url = is_secret(setting)
                || setting
                    .kind
                    .placeholder()
                    .is_some_and(|arg| arg.contains("URL"));
            if !is_url {
                continue;
            }
            let name = setting.name;
            if let Err(failure) = run(&[&format!("-{name}={text}")], &[]) {
                let error = failure.to_string();
                assert!(!error.contains("hunter2"), "{name}: {error}");
            }
        }
    }
}
