//! Invalid values of every setting, and settings without effect.

use super::super::sections::{setting, settings};
use super::spellings::SAMPLES;
use super::*;

/// A setting, the arguments it requires, and invalid values.
type Row = (
    &'static str,
    &'static [&'static str],
    &'static [&'static str],
);

const ALONE: &[&str] = &[];
const BUCKET: &[&str] = &["-s3-bucket=b"];
const GCS: &[&str] = &["-gcs-bucket=b"];
const AZURE: &[&str] = &["-azure-storage=c"];
const HOOKS: &[&str] = &["-hooks-dir=/x"];
const HTTP: &[&str] = &["-hooks-http=https://localhost/"];
const GRPC: &[&str] = &["-hooks-grpc=localhost:1"];
const GRANTS: &[&str] = &["-grants"];
const JWT: &[&str] = &[
    "-grants",
    "-grants-jwt-keys=https://localhost/",
    "-grants-jwt-audience=uploads",
];
const DIRECT: &[&str] = &["-direct", "-s3-bucket=b"];
const TLS: &[&str] = &["-hooks-grpc=localhost:1", "-hooks-grpc-secure"];
const HTTPS: &[&str] = &["-tls-certificate={file}", "-tls-key={file}"];
const CLIENT_TLS: &[&str] = &[
    "-hooks-grpc=localhost:1",
    "-hooks-grpc-secure",
    "-hooks-grpc-server-tls-certificate={file}",
    "-hooks-grpc-client-tls-certificate={file}",
    "-hooks-grpc-client-tls-key={file}",
];

const SWITCH: &[&str] = &["", "maybe", "2"];
const NUMBER: &[&str] = &["", "x", "-1", "1.5", "18446744073709551616"];
const COUNT: &[&str] = &["", "x", "-1", "1.5", "18446744073709551616", "0"];
const SIZE: &[&str] = &["", "x", "-1", "5M", "1.5", "16777216TiB"];
/// A duration where 0 is not special.
const SPAN: &[&str] = &["", "x", "5", "-1s", "5x", "999999999999h"];
const SPAN_OR_NONE: &[&str] = &["", "x", "5", "-1s", "5x", "999999999999h", "1ns"];
const NONZERO_SPAN: &[&str] = &["", "x", "5", "-1s", "999999999999h", "1ns", "0"];
const WORD: &[&str] = &["", "nonsense", "0"];
const URL: &[&str] = &["", "x", "http://", "://", "gopher://x", "http://a b/"];
const PATH: &[&str] = &["", "x", "http://x/y", "/a//b", "/a/../b", "/a?b"];
const DIR: &[&str] = &["", " ", "{file}", "{file}/x", "s3://b/x", "a\nb", "x\r"];
const FILE: &[&str] = &["", " ", "{none}", "{dir}", "{file}/x", "s3://b/x", "x\r"];
const FILES: &[&str] = &[
    "",
    " , ",
    "{none}",
    "{dir}",
    "{file},{none}",
    "{file},{file}",
];
const NAMES: &[&str] = &["a b", "a\nb"];
const TEMPLATE: &[&str] = &["", "x", "{what}", "a/../{id}", "/{id}", "a\n{id}"];
const LIFETIME: &[&str] = &["", "x", "5", "0", "500ms", "8d"];
const CLAIM: &[&str] = &["", "a\nb"];
const SECRET: &[&str] = &["", "short", "0123456789 abcdef", "0123456789abcdeé"];

const TABLE: &[Row] = &[
    (
        "host",
        ALONE,
        &["", "a b", "http://x", "localhost:80", "192.0.2.1", "[::1"],
    ),
    ("port", ALONE, &["", "x", "-1", "65536", "1.5"]),
    (
        "unix-sock",
        ALONE,
        &["", "{file}", "{dir}", "{none}/s", "unix:///run/s", "x\r"],
    ),
    ("enable-h2c", ALONE, SWITCH),
    ("tls-certificate", &["-tls-key={file}"], FILES),
    ("tls-key", &["-tls-certificate={file}"], FILES),
    ("tls-mode", HTTPS, WORD),
    ("tls-client-ca", HTTPS, FILE),
    (
        "tls-client-auth",
        &[
            "-tls-certificate={file}",
            "-tls-key={file}",
            "-tls-client-ca={file}",
        ],
        WORD,
    ),
    (
        "redirect-http",
        HTTPS,
        &["", "x", "-1", "65536", "1.5", "8080"],
    ),
    ("http3", HTTPS, SWITCH),
    ("hsts", HTTPS, SPAN_OR_NONE),
    (
        "acme-domain",
        ALONE,
        &[
            "",
            " , ",
            "*.a.example",
            "192.0.2.1",
            "https://a.example",
            "a..example",
        ],
    ),
    (
        "acme-directory",
        &["-acme-domain=localhost"],
        &["", "x", "https://", "://", "http://localhost/dir"],
    ),
    ("base-path", ALONE, PATH),
    ("behind-proxy", ALONE, SWITCH),
    (
        "trusted-proxies",
        &["-behind-proxy"],
        &["proxy", "10.0.0.0/33", "*"],
    ),
    ("proxy-protocol", ALONE, SWITCH),
    ("public-url", ALONE, URL),
    ("max-size", ALONE, SIZE),
    ("disable-download", ALONE, SWITCH),
    ("disable-termination", ALONE, SWITCH),
    ("disable-checksum", ALONE, SWITCH),
    ("disable-concatenation", ALONE, SWITCH),
    ("rufh", ALONE, &["", "nonsense", "2", "256", "6,x", "on,6"]),
    ("max-append-size", ALONE, SIZE),
    ("rufh-104", ALONE, WORD),
    ("compat", ALONE, WORD),
    ("disable-cors", ALONE, SWITCH),
    (
        "cors-allow-origin",
        ALONE,
        &[
            "",
            "*",
            "(",
            "https://a.example/",
            "https://a.example,https://b.example",
            "a b",
        ],
    ),
    (
        "cors-allow-credentials",
        &["-cors-allow-origin=^https://a\\.example$"],
        SWITCH,
    ),
    ("cors-allow-methods", ALONE, NAMES),
    ("cors-allow-headers", ALONE, NAMES),
    ("cors-expose-headers", ALONE, NAMES),
    ("cors-max-age", ALONE, &["", "x", "-1", "1.5", "500ms"]),
    ("upload-dir", ALONE, DIR),
    (
        "data-dirs",
        ALONE,
        &["{file}", "/srv,{file}", "s3://b/x", "a\nb"],
    ),
    ("file-names", ALONE, TEMPLATE),
    ("dir-perms", ALONE, &["", "x", "8", "rwx", "077", "77777"]),
    ("file-perms", ALONE, &["", "x", "8", "444", "77777"]),
    ("durability", ALONE, WORD),
    ("preallocate", ALONE, SWITCH),
    ("filelock-holder-poll-interval", ALONE, NONZERO_SPAN),
    ("filelock-acquirer-poll-interval", ALONE, NONZERO_SPAN),
    (
        "s3-bucket",
        ALONE,
        &["", "a b", "s3://b", "a/b", "https://x"],
    ),
    ("gcs-bucket", ALONE, &["", "a b", "a/b"]),
    ("gcs-object-prefix", GCS, &["", "a\nb"]),
    ("gcs-endpoint", GCS, URL),
    ("gcs-download", GCS, WORD),
    ("azure-storage", ALONE, &["", "a b", "a/b"]),
    ("azure-container-access-type", AZURE, WORD),
    ("azure-blob-access-tier", AZURE, WORD),
    ("azure-object-prefix", AZURE, &["", "a\nb"]),
    ("azure-endpoint", AZURE, URL),
    ("azure-download", AZURE, WORD),
    ("s3-object-prefix", BUCKET, &["", "a\nb"]),
    ("s3-key", BUCKET, TEMPLATE),
    ("s3-endpoint", BUCKET, URL),
    ("s3-region", BUCKET, &["", "a b", "eu/central"]),
    ("s3-path-style", BUCKET, &["", "maybe", "2"]),
    ("s3-disable-ssl", BUCKET, SWITCH),
    ("s3-transfer-acceleration", BUCKET, SWITCH),
    (
        "s3-part-size",
        BUCKET,
        &["", "x", "-1", "0", "6GiB", "200MiB"],
    ),
    ("s3-min-part-size", BUCKET, &["", "x", "-1", "0", "6GiB"]),
    ("s3-concurrent-part-uploads", BUCKET, COUNT),
    ("s3-disable-content-hashes", BUCKET, SWITCH),
    ("s3-log-api-calls", BUCKET, SWITCH),
    ("s3-upload-ids", BUCKET, WORD),
    ("s3-download", BUCKET, WORD),
    (
        "s3-headers",
        BUCKET,
        &[
            "",
            "x",
            "x-own: y",
            "Content-Type: png",
            "Content-Disposition: a b",
            "Cache-Control: max age",
            "Cache-Control: a\nb",
            "Cache-Control: ä",
            "x-amz-storage-class: a b",
            "x-amz-tagging: team",
            "x-amz-server-side-encryption: nonsense",
            "x-amz-acl: everyone",
        ],
    ),
    (
        "lease",
        ALONE,
        &[
            "",
            "file",
            "redis:6379",
            "http://x",
            "redis://",
            "postgres://",
        ],
    ),
    (
        "lease-ttl",
        &["-lease=redis://localhost"],
        &["", "x", "5", "500ms", "11m"],
    ),
    (
        "hooks-enabled-events",
        HOOKS,
        &[
            "nonsense",
            "post-finish,nonsense",
            "ftp:post-finish",
            "broker:pre-create",
            "http:post-finish",
        ],
    ),
    ("progress-hooks-interval", HOOKS, NONZERO_SPAN),
    ("hooks-event-headers", HOOKS, WORD),
    ("hooks-failure-mode", HOOKS, WORD),
    ("hooks-format", HOOKS, WORD),
    (
        "hooks-max-concurrency",
        HOOKS,
        &["", "x", "-1", "0", "65536"],
    ),
    (
        "hooks-stop-code",
        &["-hooks-dir=/x", "-hooks-format=v1"],
        &["", "x", "-1", "600"],
    ),
    (
        "hooks-dir",
        ALONE,
        &["", " ", "{none}", "{file}", "s3://b", "x\r"],
    ),
    ("hooks-dir-timeout", HOOKS, NONZERO_SPAN),
    ("hooks-http", ALONE, URL),
    ("hooks-http-forward-headers", HTTP, NAMES),
    ("hooks-http-retry", HTTP, NUMBER),
    ("hooks-http-backoff", HTTP, &["", "x", "-1s", "5x"]),
    ("hooks-http-timeout", HTTP, NONZERO_SPAN),
    (
        "hooks-http-size-limit",
        HTTP,
        &["", "x", "-1", "0", "65MiB"],
    ),
    ("hooks-http-skip-verify", HTTP, SWITCH),
    ("hooks-http-secret", HTTP, &["", " , ", "whsec_~"]),
    ("hooks-http-redirects", HTTP, &["", "proxy", "10.0.0.0/33"]),
    (
        "hooks-grpc",
        ALONE,
        &["", "*", "-1", "a b", "http://", "localhost:port"],
    ),
    ("hooks-grpc-retry", GRPC, NUMBER),
    ("hooks-grpc-backoff", GRPC, &["", "x", "-1s", "5x"]),
    ("hooks-grpc-timeout", GRPC, SPAN_OR_NONE),
    (
        "hooks-grpc-secure",
        &[
            "-hooks-grpc=localhost:1",
            "-hooks-grpc-server-tls-certificate={file}",
        ],
        SWITCH,
    ),
    ("hooks-grpc-server-tls-certificate", TLS, FILE),
    ("hooks-grpc-client-tls-certificate", CLIENT_TLS, FILE),
    ("hooks-grpc-client-tls-key", CLIENT_TLS, FILE),
    ("hooks-grpc-forward-headers", GRPC, NAMES),
    (
        "hooks-broker",
        ALONE,
        &[
            "",
            "x",
            "nats://",
            "http://x",
            "nats://a b",
            "amqp://",
            "amqp://a b",
            "redis://",
            "redis://a b",
            "kafka://",
            "kafka://x",
            "kafka://x:",
            "kafka://:1",
            "kafka://a b:1",
            "kafka://x:0",
            "kafka://x:65536",
            "kafka://http://x:1",
            "nats://x?subject=a..b",
            "redis://x?max_length=0",
            "kafka://x:1?subject=a",
        ],
    ),
    (
        "events-header-key",
        HOOKS,
        &["https://a.example/key", "a\nb"],
    ),
    ("events-history", HOOKS, SPAN),
    ("events-max-hold", HOOKS, SPAN),
    ("events-retry-for", HOOKS, NONZERO_SPAN),
    ("grants", ALONE, SWITCH),
    ("require-grant", ALONE, SWITCH),
    ("grants-path", GRANTS, &["", "x", "/", "/a//b", "http://x/"]),
    ("grants-api", GRANTS, WORD),
    ("grants-valid-for", GRANTS, NONZERO_SPAN),
    ("grants-max-size", GRANTS, SIZE),
    (
        "grants-allowed-types",
        GRANTS,
        &["", "image", "image/", "*/png"],
    ),
    ("grants-require-size", GRANTS, SWITCH),
    ("grants-max-active", GRANTS, &["", "x", "-1", "4294967296"]),
    (
        "grants-rate-limit",
        GRANTS,
        &["", "x", "100", "0/1h", "-1/1h", "100/60"],
    ),
    ("grants-quota", GRANTS, SIZE),
    ("grants-enforce-type", GRANTS, SWITCH),
    (
        "grants-client-certificates",
        &[
            "-grants",
            "-tls-certificate={file}",
            "-tls-key={file}",
            "-tls-client-ca={file}",
        ],
        SWITCH,
    ),
    (
        "grants-jwt-keys",
        JWT,
        &["", "{none}", "{dir}", "{file}", "gopher://x", "http://"],
    ),
    ("grants-jwt-issuer", JWT, CLAIM),
    ("grants-jwt-audience", JWT, CLAIM),
    ("grants-jwt-subject", JWT, CLAIM),
    (
        "grants-jwt-algorithms",
        JWT,
        &["", "none", "rs256", "HS256"],
    ),
    ("grants-forward-auth-url", GRANTS, URL),
    (
        "grants-allowed-origins",
        GRANTS,
        &["x", "https://a.example/x", "*"],
    ),
    ("direct", BUCKET, SWITCH),
    ("direct-path", DIRECT, &["x y", "http://x/y", "/a//b"]),
    ("direct-endpoint", DIRECT, URL),
    (
        "direct-key",
        DIRECT,
        &["", "x", "{id}", "uploads/x", "uploads/{what}"],
    ),
    ("direct-public-url", DIRECT, URL),
    ("direct-small-files", DIRECT, WORD),
    ("direct-url-lifetime", DIRECT, LIFETIME),
    ("direct-poll-interval", DIRECT, SPAN_OR_NONE),
    (
        "direct-sts",
        DIRECT,
        &[
            "",
            "x",
            "role/x",
            "arn:aws:iam::1:user/x",
            "arn:aws:iam::1:role/x y",
        ],
    ),
    ("direct-notifications-secret", DIRECT, SECRET),
    ("admin-key", ALONE, SECRET),
    (
        "admin-path",
        &["-admin-key=0123456789abcdef"],
        &["", "x", "/", "/a//b"],
    ),
    ("state-dir", GRANTS, DIR),
    (
        "database",
        GRANTS,
        &[
            "",
            "{dir}",
            "{file}",
            "{file}/x",
            "/dev/null",
            "mysql://x/y",
            "postgres://",
            "x\r",
        ],
    ),
    ("retention", GRANTS, NONZERO_SPAN),
    ("node-name", GRANTS, &["", "a\nb"]),
    (
        "database-connections",
        &["-lease=postgres://localhost"],
        &["", "x", "-1", "2", "1001"],
    ),
    ("expire-unfinished", ALONE, SPAN_OR_NONE),
    ("expire-finished", ALONE, SPAN_OR_NONE),
    ("sweep-interval", ALONE, SPAN_OR_NONE),
    ("expose-metrics", ALONE, SWITCH),
    ("metrics-path", ALONE, PATH),
    ("show-greeting", ALONE, SWITCH),
    ("page-title", ALONE, &["", "a\nb"]),
    ("page-text", ALONE, &["", "a\nb"]),
    ("page-logo", ALONE, &["", " ", "{none}.png", "/x.txt", "/x"]),
    ("show-startup-logs", ALONE, SWITCH),
    ("log-format", ALONE, WORD),
    ("log-level", ALONE, WORD),
    ("verbose", ALONE, SWITCH),
    ("network-timeout", ALONE, SPAN_OR_NONE),
    ("shutdown-timeout", ALONE, SPAN),
    ("acquire-lock-timeout", ALONE, SPAN),
    ("request-completion-timeout", ALONE, SPAN),
    ("max-connections", ALONE, COUNT),
    (
        "max-connections-per-address",
        ALONE,
        &["", "x", "-1", "4294967296"],
    ),
    (
        "max-requests-per-address",
        ALONE,
        &["", "x", "-1", "4294967296"],
    ),
    ("min-rate", ALONE, SIZE),
    ("max-uploads-in-flight", ALONE, COUNT),
    ("max-buffered-bytes", ALONE, &["", "x", "-1", "1KiB", "5M"]),
];

/// A directory for the placeholders in the table.
struct Places(tempfile::TempDir);

impl Places {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("file"), "no good").unwrap();
        std::fs::create_dir(dir.path().join("dir")).unwrap();
        Self(dir)
    }

    fn fill(&self, text: &str) -> String {
        let dir = self.0.path().to_str().unwrap();
        ["none", "dir", "file"]
            .iter()
            .fold(text.to_owned(), |text, name| {
                text.replace(&format!("{{{name}}}"), &format!("{dir}/{name}"))
            })
    }
}

#[test]
fn every_setting_has_a_row() {
    let rows: Vec<&str> = TABLE.iter().map(|(name, ..)| *name).collect();
    let known: Vec<&str> = settings().map(|setting| setting.name).collect();
    for name in &known {
        assert!(rows.contains(name), "{name} has no row in the table");
    }
    assert_eq!(rows.len(), known.len(), "duplicate row");
    for (name, _, wrong) in TABLE {
        assert!(!wrong.is_empty(), "{name} has no invalid value");
    }
}

/// Returns the exit code and the error of a server or of `config check`.
async fn failure_of(args: &[String], variables: &[(String, String)]) -> Option<(u8, String)> {
    let read = read(
        args.iter().map(OsString::from),
        variables
            .iter()
            .map(|(name, text)| (name.into(), text.into())),
    );
    let loaded = match read {
        Ok(Invocation::Run(loaded, _)) => *loaded,
        Ok(other) => panic!("{args:?}: {other:?}"),
        Err(failure) => return Some((failure.exit_code(), failure.to_string())),
    };
    // A server runs the same checks at start.
    let error = crate::app::config_check(loaded, false, true).await.err()?;
    let code = error
        .downcast_ref::<Failure>()
        .map_or(1, Failure::exit_code);
    Some((code, format!("{error:#}")))
}

#[tokio::test]
async fn invalid_values_fail_at_start_and_in_config_check() {
    let places = Places::new();
    let mut unexpected = Vec::new();
    for (name, needs, wrong) in TABLE {
        let variable = setting(name).unwrap().variable();
        let places_of = |name: &str| [format!("-{name}"), format!(":1: {name}"), variable.clone()];
        let is_other = |arg: &&&str| !arg.starts_with(&format!("-{name}="));
        let needs: Vec<String> = needs
            .iter()
            .filter(is_other)
            .map(|arg| places.fill(arg))
            .collect();
        for text in *wrong {
            let text = places.fill(text);
            let (_file, config) = file(&format!("{name} = {text:?}"));
            let given = [
                (vec![format!("--{name}={text}")], vec![]),
                (vec![], vec![(variable.clone(), text.clone())]),
                (vec!["--config".to_owned(), config.clone()], vec![]),
            ];
            for (mut args, variables) in given {
                args.extend(needs.iter().cloned());
                let started = failure_of(&args, &variables).await;
                args.extend(["config", "check"].map(str::to_owned));
                let checked = failure_of(&args, &variables).await;
                let is_rejected = matches!(
                    &started,
                    Some((1 | 2, error)) if places_of(name).iter().any(|at| error.contains(at))
                );
                if !is_rejected || started != checked {
                    unexpected.push(format!("{args:?} {variables:?}: {started:?}, {checked:?}"));
                }
            }
        }
    }
    assert!(unexpected.is_empty(), "{}", unexpected.join("\n"));
}

/// Returns the problem or warning about a setting without effect.
fn complaint(name: &str, args: &[String]) -> Option<String> {
    let of_setting = |error: &String| error.starts_with(&format!("--{name}: "));
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match run(&args, &[]) {
        Ok(Invocation::Run(loaded, _)) => loaded
            .warnings
            .into_iter()
            .find(|error| of_setting(error) && error.contains("has no effect")),
        Ok(other) => panic!("{args:?}: {other:?}"),
        Err(failure) => failure
            .problems
            .iter()
            .map(ToString::to_string)
            .find(of_setting)
            .or_else(|| panic!("{args:?}: {failure}")),
    }
}

#[test]
fn settings_that_require_another_one_are_reported() {
    let places = Places::new();
    for (name, needs, _) in TABLE {
        let (_, sample) = SAMPLES.iter().find(|(known, _)| known == name).unwrap();
        let alone = vec![format!("-{name}={sample}")];
        let is_other = |arg: &&&str| !arg.starts_with(&format!("-{name}="));
        let others = needs.iter().filter(is_other).map(|arg| places.fill(arg));
        let together: Vec<String> = alone.iter().cloned().chain(others).collect();
        let error = complaint(name, &alone);
        assert_eq!(error.is_none(), needs.is_empty(), "{name} alone: {error:?}");
        assert_eq!(complaint(name, &together), None, "{together:?}");
    }
}

#[test]
fn settings_disabled_by_another_one_are_reported() {
    for (name, args) in [
        ("host", "-unix-sock=/s --host=localhost"),
        ("port", "-unix-sock=/s --port=81"),
        (
            "max-connections-per-address",
            "-unix-sock=/s --max-connections-per-address=3",
        ),
        (
            "max-requests-per-address",
            "-unix-sock=/s --max-requests-per-address=3",
        ),
        ("behind-proxy", "-behind-proxy --trusted-proxies="),
        ("hsts", "-hsts=1h"),
        ("hsts", "-hsts=1h --unix-sock=/s"),
        ("proxy-protocol", "-proxy-protocol --unix-sock=/s"),
        ("proxy-protocol", "-proxy-protocol --trusted-proxies="),
        ("proxy-protocol", "-proxy-protocol --compat=tusd"),
        ("rufh-104", "-rufh=off --rufh-104=on"),
        ("metrics-path", "-expose-metrics=false --metrics-path=/m"),
        ("min-rate", "-network-timeout=0 --min-rate=99"),
        ("cors-allow-origin", "-disable-cors --cors-allow-origin=x"),
        ("cors-max-age", "-disable-cors --cors-max-age=3"),
        (
            "grants-allowed-origins",
            "-disable-cors --grants --grants-allowed-origins=https://x",
        ),
        ("upload-dir", "-s3-bucket=b --upload-dir=/x"),
        ("data-dirs", "-s3-bucket=b --data-dirs=/x"),
        ("dir-perms", "-s3-bucket=b --dir-perms=700"),
        ("durability", "-s3-bucket=b --durability=none"),
        (
            "filelock-holder-poll-interval",
            "-lease=memory --filelock-holder-poll-interval=3s",
        ),
        (
            "filelock-acquirer-poll-interval",
            "-lease=redis://x --filelock-acquirer-poll-interval=3s",
        ),
        (
            "filelock-acquirer-poll-interval",
            "-lease=postgres://x/y --filelock-acquirer-poll-interval=3s",
        ),
        (
            "s3-disable-ssl",
            "-s3-bucket=b --s3-endpoint=http://x --s3-disable-ssl",
        ),
        (
            "s3-download",
            "-s3-bucket=b --s3-download=redirect --disable-download",
        ),
        (
            "gcs-download",
            "-gcs-bucket=b --gcs-download=redirect --disable-download",
        ),
        (
            "azure-download",
            "-azure-storage=b --azure-download=redirect --disable-download",
        ),
        (
            "s3-transfer-acceleration",
            "-s3-bucket=b --s3-endpoint=http://x --s3-transfer-acceleration",
        ),
        (
            "hooks-enabled-events",
            "-hooks-dir=/x --hooks-enabled-events=dir:post-finish,pre-create",
        ),
        (
            "hooks-failure-mode",
            "-hooks-broker=nats://x --hooks-failure-mode=allow",
        ),
        (
            "progress-hooks-interval",
            "-hooks-dir=/x --hooks-enabled-events=post-finish --progress-hooks-interval=3s",
        ),
        (
            "events-retry-for",
            "-hooks-dir=/x --hooks-enabled-events=pre-create --events-retry-for=3h",
        ),
        (
            "hooks-http-skip-verify",
            "-hooks-http=http://x/ --hooks-http-skip-verify",
        ),
        (
            "hooks-http-backoff",
            "-hooks-http=http://x/ --hooks-http-retry=0 --hooks-http-backoff=3s",
        ),
        (
            "hooks-grpc-backoff",
            "-hooks-grpc=x:1 --hooks-grpc-retry=1 --hooks-grpc-backoff=3s",
        ),
        (
            "hooks-grpc-client-tls-key",
            "-hooks-grpc=x:1 --hooks-grpc-client-tls-key=/k --hooks-grpc-client-tls-certificate=/c",
        ),
        ("state-dir", "-grants --database=/d.db --state-dir=/x"),
        ("page-logo", "-show-greeting=false --page-logo=/x.svg"),
        ("page-title", "-base-path=/ --page-title=x"),
        ("hooks-format", "-hooks-grpc=x:1 --hooks-format=v1"),
    ] {
        let args: Vec<String> = args.split(' ').map(str::to_owned).collect();
        assert!(complaint(name, &args).is_some(), "{args:?}");
    }
}
