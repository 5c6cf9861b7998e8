//! A setting means the same as a flag, a variable and a key of the file.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::super::sections::settings;
use super::super::sections::table::{Kind, Property, Setting};
use super::super::*;
use super::{file, from_file, loaded, run};

/// For each setting, a text that is not its default.
pub(super) const SAMPLES: &[(&str, &str)] = &[
    ("host", "127.0.0.1"),
    ("port", "8070"),
    ("unix-sock", "/run/landfall.sock"),
    ("enable-h2c", "true"),
    ("tls-certificate", "/etc/server.pem"),
    ("tls-key", "/etc/server.key"),
    ("tls-mode", "tls13"),
    ("tls-client-ca", "/etc/clients.pem"),
    ("tls-client-auth", "optional"),
    ("redirect-http", "8000"),
    ("http3", "true"),
    ("hsts", "365d"),
    ("acme-domain", "uploads.example.com,files.example.com"),
    ("acme-directory", "https://acme.example.com/directory"),
    ("base-path", "/api/uploads/"),
    ("behind-proxy", "true"),
    ("trusted-proxies", "192.0.2.0/24,2001:db8::1"),
    ("proxy-protocol", "true"),
    ("public-url", "https://uploads.example.com/files/"),
    ("max-size", "2GiB"),
    ("disable-download", "true"),
    ("rufh", "6,10"),
    ("max-append-size", "100MiB"),
    ("rufh-104", "on"),
    ("compat", "tusd"),
    ("disable-termination", "true"),
    ("disable-checksum", "true"),
    ("disable-concatenation", "true"),
    ("disable-cors", "true"),
    ("cors-allow-origin", r#"^https://[a-z"\\]+\.example$"#),
    ("cors-allow-credentials", "true"),
    ("cors-allow-methods", "PUT,SEARCH"),
    ("cors-allow-headers", "X-One,X-Two"),
    ("cors-expose-headers", "X-Three"),
    ("cors-max-age", "600"),
    ("upload-dir", "/srv/uploads"),
    ("data-dirs", "/mnt/a,/mnt/b"),
    ("dir-perms", "0750"),
    ("file-perms", "640"),
    ("durability", "every"),
    ("preallocate", "true"),
    ("filelock-holder-poll-interval", "5s"),
    ("filelock-acquirer-poll-interval", "2s"),
    ("gcs-bucket", "uploads"),
    ("gcs-object-prefix", "in/"),
    ("gcs-endpoint", "http://localhost:4443"),
    ("gcs-download", "redirect"),
    ("azure-storage", "uploads"),
    ("azure-container-access-type", "blob"),
    ("azure-blob-access-tier", "cool"),
    ("azure-download", "redirect"),
    ("azure-object-prefix", "in/"),
    ("azure-endpoint", "http://localhost:10000"),
    ("s3-bucket", "uploads"),
    ("s3-object-prefix", "in/"),
    ("s3-key", "{date}/{id}"),
    ("s3-endpoint", "http://localhost:3900"),
    ("s3-region", "eu-central-1"),
    ("s3-path-style", "true"),
    ("s3-disable-ssl", "true"),
    ("s3-transfer-acceleration", "true"),
    ("s3-part-size", "64MiB"),
    ("s3-min-part-size", "6MiB"),
    ("s3-concurrent-part-uploads", "4"),
    ("s3-disable-content-hashes", "true"),
    ("s3-log-api-calls", "true"),
    ("s3-upload-ids", "plain"),
    ("s3-download", "redirect"),
    (
        "s3-headers",
        "Cache-Control: no-store, private, Content-Disposition: attachment; filename=\"a, b.txt\"",
    ),
    ("file-names", "{date}/{id}-{filename}"),
    ("lease", "redis://:secret@localhost:6379/1"),
    ("lease-ttl", "5s"),
    ("hooks-enabled-events", "pre-access,post-expire"),
    ("progress-hooks-interval", "5s"),
    ("hooks-event-headers", "all"),
    ("hooks-failure-mode", "allow"),
    ("hooks-stop-code", "2"),
    ("hooks-format", "v1"),
    ("hooks-max-concurrency", "9"),
    ("hooks-dir", "/srv/hooks"),
    ("hooks-dir-timeout", "1h"),
    ("hooks-http", "https://user:secret@app.example/hooks?x=1"),
    ("hooks-http-forward-headers", "authorization,X-Tenant"),
    ("hooks-http-retry", "5"),
    ("hooks-http-backoff", "250ms"),
    ("hooks-http-timeout", "1m"),
    ("hooks-http-size-limit", "64KiB"),
    ("hooks-http-skip-verify", "true"),
    ("hooks-http-secret", "whsec_c2VjcmV0,another"),
    ("hooks-http-redirects", "public,10.0.0.0/8"),
    ("hooks-grpc", "localhost:50051"),
    ("hooks-grpc-retry", "0"),
    ("hooks-grpc-backoff", "2s"),
    ("hooks-grpc-timeout", "0"),
    ("hooks-grpc-secure", "true"),
    ("hooks-grpc-server-tls-certificate", "/etc/ca.pem"),
    ("hooks-grpc-client-tls-certificate", "/etc/client.pem"),
    ("hooks-grpc-client-tls-key", "/etc/client.key"),
    ("hooks-grpc-forward-headers", "Authorization"),
    (
        "hooks-broker",
        "nats://token@localhost:4222?subject=uploads&jetstream=true",
    ),
    ("grants", "true"),
    ("require-grant", "true"),
    ("grants-path", "/api/jobs"),
    ("grants-api", "laravel"),
    ("grants-valid-for", "30m"),
    ("grants-max-size", "5GiB"),
    ("grants-allowed-types", "image/*,video/mp4"),
    ("grants-require-size", "true"),
    ("grants-max-active", "5"),
    ("grants-rate-limit", "100/1h"),
    ("grants-quota", "1TB/24h"),
    ("grants-enforce-type", "true"),
    ("grants-client-certificates", "true"),
    (
        "grants-jwt-keys",
        "https://login.example/.well-known/jwks.json",
    ),
    ("grants-jwt-issuer", "https://login.example/"),
    ("grants-jwt-audience", "uploads"),
    ("grants-jwt-subject", "email"),
    ("grants-jwt-algorithms", "ES256,EdDSA"),
    ("grants-forward-auth-url", "https://app.example/authorize"),
    ("grants-allowed-origins", "https://app.example"),
    ("direct", "true"),
    ("direct-path", "/direct"),
    ("direct-endpoint", "https://files.example.com"),
    ("direct-key", "in/{date}/{id}"),
    ("direct-public-url", "https://cdn.example.com/files"),
    ("direct-small-files", "put"),
    ("direct-url-lifetime", "2d"),
    ("direct-poll-interval", "30s"),
    ("direct-sts", "arn:aws:iam::123456789012:role/uploads"),
    ("direct-notifications-secret", "a-secret-of-eighteen"),
    ("admin-key", "a-key-of-sixteen"),
    ("admin-path", "/internal/uploads"),
    ("node-name", "eu-1"),
    ("retention", "90d"),
    ("database-connections", "8"),
    ("state-dir", "/var/lib/landfall"),
    ("database", "/var/lib/landfall/events.db"),
    ("events-header-key", "/etc/landfall/events.key"),
    ("events-history", "7d"),
    ("events-max-hold", "1m"),
    ("events-retry-for", "2d"),
    ("expire-unfinished", "36h"),
    ("expire-finished", "30d"),
    ("sweep-interval", "1m30s"),
    ("expose-metrics", "false"),
    ("metrics-path", "/internal/metrics"),
    ("show-greeting", "false"),
    ("page-title", "Send us your files"),
    ("page-text", "Up to 5 GB; we answer within a day."),
    ("page-logo", "/srv/logo.svg"),
    ("show-startup-logs", "false"),
    ("log-format", "json"),
    ("log-level", "trace"),
    ("verbose", "true"),
    ("network-timeout", "5m"),
    ("shutdown-timeout", "0"),
    ("acquire-lock-timeout", "1.5s"),
    ("request-completion-timeout", "300ms"),
    ("max-connections", "20"),
    ("max-connections-per-address", "0"),
    ("max-requests-per-address", "30"),
    ("min-rate", "1KiB"),
    ("max-uploads-in-flight", "7"),
    ("max-buffered-bytes", "1073741824"),
];

/// Returns the arguments that a setting requires.
fn required_args(setting: &Setting) -> &'static [&'static str] {
    match setting.name {
        "direct" | "s3-endpoint" => &["-s3-bucket=uploads"],
        "gcs-endpoint" => &["-gcs-bucket=uploads"],
        "azure-endpoint" => &["-azure-storage=uploads"],
        "cors-allow-credentials" => &["-cors-allow-origin=^https://app\\.example$"],
        "tls-certificate" => &["-tls-key=/etc/c.key"],
        "tls-key" => &["-tls-certificate=/etc/c.pem"],
        "tls-client-auth" => &[
            "-tls-certificate=/etc/c.pem",
            "-tls-key=/etc/c.key",
            "-tls-client-ca=/etc/ca.pem",
        ],
        "tls-client-ca" | "hsts" => &["-tls-certificate=/etc/c.pem", "-tls-key=/etc/c.key"],
        _ if !setting.has(Property::Protects) => &[],
        name if name.starts_with("s3-") => &["-s3-bucket=uploads"],
        name if name.starts_with("direct-") => &["-direct", "-s3-bucket=uploads"],
        "grants-jwt-keys" => &["-grants", "-grants-jwt-issuer=https://other.example/"],
        "grants-jwt-issuer" | "grants-jwt-audience" => {
            &["-grants", "-grants-jwt-keys=https://login.example/keys"]
        }
        "grants-jwt-algorithms" => &[
            "-grants",
            "-grants-jwt-keys=https://login.example/keys",
            "-grants-jwt-issuer=https://other.example/",
        ],
        name if name.starts_with("grants-") => &["-grants"],
        name if name.starts_with("hooks-http-") => &["-hooks-http=http://app.example/"],
        "hooks-grpc-client-tls-certificate" => &[
            "-hooks-grpc=app.example:1",
            "-hooks-grpc-secure",
            "-hooks-grpc-server-tls-certificate=/etc/other.pem",
            "-hooks-grpc-client-tls-key=/etc/client.key",
        ],
        "hooks-grpc-client-tls-key" => &[
            "-hooks-grpc=app.example:1",
            "-hooks-grpc-secure",
            "-hooks-grpc-server-tls-certificate=/etc/other.pem",
            "-hooks-grpc-client-tls-certificate=/etc/other.pem",
        ],
        "hooks-grpc-server-tls-certificate" => &["-hooks-grpc=app.example:1", "-hooks-grpc-secure"],
        name if name.starts_with("hooks-grpc-") => &["-hooks-grpc=app.example:1"],
        name if name.starts_with("hooks-") => &["-hooks-dir=/srv/hooks"],
        _ => &[],
    }
}

/// Returns the settings or the error of each spelling of a setting.
fn spellings(setting: &'static Setting, text: &str) -> Vec<(String, Result<Settings, String>)> {
    let name = setting.name;
    type Input = (Vec<String>, Vec<(String, String)>);
    let mut inputs: Vec<Input> = vec![
        (vec![format!("-{name}={text}")], vec![]),
        (vec![format!("--{name}={text}")], vec![]),
        (vec![], vec![(setting.variable(), text.to_owned())]),
    ];
    if setting.kind != Kind::Switch || value::boolean(text).is_ok() {
        inputs.push((vec![format!("-{name}"), text.to_owned()], vec![]));
        inputs.push((vec![format!("--{name}"), text.to_owned()], vec![]));
    }
    let quoted = format!("{name} = {text:?}");
    let mut files = vec![quoted];
    let mut layers = Layers::default();
    layers.add(setting, text.to_owned(), layers::Source::Flag(""));
    let as_toml = report::report(&layers, false);
    files.extend(
        as_toml
            .lines()
            // Secrets are omitted.
            .filter(|line| line.starts_with(&format!("{name} = ")))
            .map(str::to_owned),
    );
    let files: Vec<_> = files.iter().map(|text| file(text)).collect();
    inputs.extend(
        files
            .iter()
            .map(|(_, name)| (vec!["-config".to_owned(), name.clone()], vec![])),
    );
    inputs
        .into_iter()
        .map(|(mut args, variables)| {
            args.extend(required_args(setting).iter().map(|&arg| arg.to_owned()));
            let shown = format!("{args:?} {variables:?}");
            let result = match read(
                args.into_iter().map(Into::into),
                variables.into_iter().map(|(n, v)| (n.into(), v.into())),
            ) {
                Ok(Invocation::Run(loaded, _)) => Ok(loaded.settings),
                Ok(other) => panic!("{shown}: {other:?}"),
                Err(failure) => Err(failure.to_string()),
            };
            (shown, result)
        })
        .collect()
}

fn missing_feature(name: &str) -> Option<&'static str> {
    (name == "hooks-broker" && !cfg!(feature = "full")).then_some("full")
}

#[test]
fn every_setting_has_the_same_effect_in_every_spelling() {
    let sampled: BTreeSet<&str> = SAMPLES.iter().map(|(name, _)| *name).collect();
    let known: BTreeSet<&str> = settings().map(|setting| setting.name).collect();
    assert_eq!(sampled, known);
    let mut seen = Vec::new();
    for (name, text) in SAMPLES {
        let result = spellings(sections::setting(name).unwrap(), text);
        assert!(result.len() >= 6, "{name}");
        if let Some(feature) = missing_feature(name) {
            for (shown, error) in result {
                let error = error.unwrap_err();
                assert!(
                    error.contains(&format!("--features {feature}")),
                    "{shown}: {error}"
                );
            }
            continue;
        }
        let first = result[0].1.clone().unwrap();
        for (shown, other) in result {
            assert_eq!(other, Ok(first.clone()), "{shown}");
        }
        let required = required_args(sections::setting(name).unwrap());
        // Some of them require the setting, too.
        if let Ok(Invocation::Run(without, _)) = run(required, &[]) {
            assert_ne!(first, without.settings, "{name} changes nothing");
        }
        assert!(!seen.contains(&first), "{name} does what another one does");
        seen.push(first);
    }
}

proptest! {
    #[test]
    fn any_text_has_the_same_effect_in_every_spelling(
        index in 0..SAMPLES.len(),
        text in prop_oneof![
            "[0-9]{1,6}",
            "[0-9.]{1,4} ?([KMGT]i?B|ms|s|m|h|d)",
            "true|false|T|F|1|0",
            "[/a-z0-9.:,-]{1,12}",
            "[ -~]{1,12}",
        ],
    ) {
        let setting = settings().nth(index).unwrap();
        // The name of a flag is not read as a value.
        prop_assume!(!text.starts_with('-'));
        let result = spellings(setting, &text);
        for (shown, other) in &result {
            // Errors differ in the place.
            prop_assert_eq!(other.as_ref().ok(), result[0].1.as_ref().ok(), "{}", shown);
        }
    }

    #[test]
    fn no_argument_is_ignored(
        args in prop::collection::vec(
            prop::sample::select(vec![
                "-dir", "--host", "-verbose", "--version=0", "-dir=x", "false", "word",
            ]),
            0..7,
        ),
    ) {
        let mut rest = args.iter().copied().peekable();
        let mut all_used = true;
        while let Some(arg) = rest.next() {
            all_used &= match arg {
                "-dir" | "--host" => rest.next_if(|next| !next.starts_with('-')).is_some(),
                "-verbose" => {
                    rest.next_if_eq(&"false");
                    true
                }
                arg => arg.contains('='),
            };
        }
        prop_assert_eq!(run(&args, &[]).is_ok(), all_used, "{:?}", args);
    }
}

#[test]
fn report_is_an_equivalent_file() {
    // One of each conflicting pair.
    for skipped in [
        &[
            "public-url",
            "s3-transfer-acceleration",
            "unix-sock",
            "enable-h2c",
            "http3",
            "acme-domain",
        ][..],
        &[
            "public-url",
            "s3-transfer-acceleration",
            "unix-sock",
            "enable-h2c",
            "http3",
            "tls-certificate",
            "tls-key",
        ],
        &[
            "s3-transfer-acceleration",
            "tls-certificate",
            "tls-key",
            "tls-client-ca",
            "tls-client-auth",
            "grants-client-certificates",
            "hsts",
            "acme-domain",
            "proxy-protocol",
        ],
    ] {
        let is_shown = |name: &&str| !sections::setting(name).unwrap().has(Property::Secret);
        let without_secrets = |text: &str| {
            let secrets = ["user:secret@", ":secret@", "token@", "guest:guest@", "?x=1"];
            secrets
                .iter()
                .fold(text.to_owned(), |text, secret| text.replace(secret, ""))
        };
        let args: Vec<String> = SAMPLES
            .iter()
            .filter(|(name, _)| {
                is_shown(name) && !skipped.contains(name) && missing_feature(name).is_none()
            })
            .map(|(name, text)| format!("-{name}={}", without_secrets(text)))
            .collect();
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let given = loaded(&args, &[]);
        assert_eq!(from_file(&given.to_toml(false)), given.settings);
    }
    assert_eq!(
        from_file(&loaded(&[], &[]).to_toml(false)),
        Settings::default()
    );
}
