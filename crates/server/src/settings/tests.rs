//! Tests from arguments, variables and a file to [`Settings`].

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::*;

mod direct;
mod empty;
mod grants;
mod hooks;
#[cfg(feature = "full")]
mod invalid;
mod printed;
mod reference;
mod s3;
mod secrets;
mod spellings;
mod tusd;

fn run(args: &[&str], variables: &[(&str, &str)]) -> Result<Invocation, Failure> {
    read(
        args.iter().map(OsString::from),
        variables
            .iter()
            .map(|(name, text)| (name.into(), text.into())),
    )
}

/// Returns valid settings.
fn loaded(args: &[&str], variables: &[(&str, &str)]) -> Loaded {
    match run(args, variables) {
        Ok(Invocation::Run(loaded, _)) => *loaded,
        other => panic!("{args:?} {variables:?}: {other:?}"),
    }
}

/// Returns the problems of invalid settings.
fn problems(args: &[&str], variables: &[(&str, &str)]) -> Vec<String> {
    match run(args, variables) {
        Err(failure) => failure.problems.iter().map(ToString::to_string).collect(),
        other => panic!("{args:?} {variables:?}: {other:?}"),
    }
}

/// Returns the only problem.
fn problem(args: &[&str]) -> String {
    let problems = problems(args, &[]);
    assert_eq!(problems.len(), 1, "{problems:?}");
    problems[0].clone()
}

/// Creates a file with this text, and returns it with its name.
fn file(text: &str) -> (tempfile::NamedTempFile, String) {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&file, text).unwrap();
    let name = file.path().to_str().unwrap().to_owned();
    (file, name)
}

/// Returns the valid settings of a file.
fn from_file(text: &str) -> Settings {
    let (_file, name) = file(text);
    loaded(&["-config", &name], &[]).settings
}

/// Returns the problems of a file, with its name replaced.
fn problems_of_file(text: &str) -> Vec<String> {
    let (_file, name) = file(text);
    problems(&["-config", &name], &[])
        .iter()
        .map(|problem| problem.replace(&name, "FILE"))
        .collect()
}

#[test]
fn defaults_are_stable() {
    let defaults = Settings::default();
    assert_eq!(defaults.listen.host, "0.0.0.0");
    assert_eq!(defaults.listen.port, 8080);
    assert_eq!(defaults.urls.base_path, "/files/");
    assert_eq!(defaults.protocol.max_size, None);
    assert_eq!(defaults.storage.upload_dir, PathBuf::from("./data"));
    assert_eq!(defaults.storage.dir_perms, 0o775);
    assert_eq!(defaults.storage.file_perms, 0o664);
    assert_eq!(defaults.storage.durability, Durability::Complete);
    assert_eq!(
        defaults.expiry.unfinished,
        Some(Duration::from_secs(7 * 86_400))
    );
    assert_eq!(defaults.expiry.finished, None);
    assert_eq!(defaults.log.level, LogLevel::Info);
    assert_eq!(defaults.timeouts.network, Some(Duration::from_secs(60)));
    assert_eq!(defaults.limits.max_buffered_bytes, 256 << 20);
    assert_eq!(loaded(&[], &[]).settings, defaults);
}

#[test]
fn flags_override_variables_and_variables_override_the_file() {
    let (_file, name) = file("port = 1");
    let port =
        |args: &[&str], variables: &[(&str, &str)]| loaded(args, variables).settings.listen.port;
    let (flag, variable) = (["-port", "3"], ("LANDFALL_PORT", "2"));
    let config = ("LANDFALL_CONFIG", name.as_str());
    assert_eq!(port(&flag, &[config, variable]), 3);
    assert_eq!(port(&[], &[variable, config]), 2);
    assert_eq!(port(&[], &[config]), 1);
    assert_eq!(port(&["-port", "4", "--port=5"], &[]), 5);
    let (_other, other) = file("port = 9");
    assert_eq!(port(&["--config", &other], &[config]), 9);
}

#[test]
fn commands_and_flags_are_accepted_in_any_order() {
    let subcommand = |args: &[&str]| loaded(args, &[]).subcommand;
    assert_eq!(subcommand(&["serve", "-port=1"]), Subcommand::Serve);
    assert_eq!(subcommand(&["-verbose", "serve"]), Subcommand::Serve);
    let is_dry_run = |args: &[&str]| match run(args, &[]) {
        Ok(Invocation::Run(loaded, options)) if loaded.subcommand == Subcommand::Sweep => {
            options.dry_run
        }
        other => panic!("{args:?}: {other:?}"),
    };
    for args in [
        &["sweep", "-dry-run"][..],
        &["--dry-run", "sweep"],
        &["sweep", "--dry-run=true"],
        &["sweep", "-dry-run", "true"],
    ] {
        assert!(is_dry_run(args), "{args:?}");
    }
    assert!(!is_dry_run(&["sweep"]));
    assert_eq!(subcommand(&["config", "show"]), Subcommand::ConfigShow);
    for args in [
        &["config", "check"][..],
        &["config", "-port", "80", "check"],
        &["-port", "80", "config", "check", "--"],
    ] {
        assert_eq!(subcommand(args), Subcommand::ConfigCheck, "{args:?}");
    }
    assert!(problem(&["-dry-run"]).contains("unexpected argument '--dry-run'"));
}

#[test]
fn switches_accept_their_value_as_the_next_argument() {
    let exposed = |args: &[&str]| loaded(args, &[]).settings.monitoring.expose_metrics;
    assert!(!exposed(&["-expose-metrics", "false"]));
    assert!(!exposed(&["-expose-metrics=F"]));
    assert!(!exposed(&["--expose-metrics", "0", "-port", "1"]));
    assert!(exposed(&["-expose-metrics", "-port", "1"]));
    assert!(exposed(&["-expose-metrics", "serve"]));
    assert_eq!(
        problem(&["-expose-metrics", "off"]),
        "unrecognized subcommand 'off'; tip: write --expose-metrics or --expose-metrics=true"
    );
}

#[test]
fn arguments_and_variables_must_be_utf8() {
    use std::os::unix::ffi::OsStringExt as _;
    let wrong = OsString::from_vec(b"-host=\xff".to_vec());
    let failure = read([wrong.clone()], []).unwrap_err();
    assert!(failure.to_string().contains("UTF-8"));
    let failure = read([], [("LANDFALL_HOST".into(), wrong)]).unwrap_err();
    assert!(failure.to_string().contains("LANDFALL_HOST"));
}

#[test]
fn unknown_variables_are_problems_if_similar_to_a_setting() {
    assert_eq!(
        problems(&[], &[("LANDFALL_UPLOADS_DIR", "/x")]),
        ["LANDFALL_UPLOADS_DIR: unknown variable; did you mean LANDFALL_UPLOAD_DIR?"]
    );
    assert_eq!(problems(&[], &[("LANDFALL_PORT", "x")]).len(), 1);
    assert_eq!(
        problems(&[], &[("LANDFALL_STORE_SIZE", "1")]),
        [
            "LANDFALL_STORE_SIZE: removed, as in tusd 1.0: there is no limit for all uploads together; use a disk quota, and --max-size for each upload"
        ]
    );
    let unknown = loaded(&[], &[("LANDFALL_OF_ANOTHER_PROGRAM", "x")]);
    assert_eq!(unknown.warnings.len(), 1);
    assert_eq!(
        loaded(&[], &[("OTHER_PORT", "1")]).settings,
        Settings::default()
    );
}

#[test]
fn a_variable_may_name_a_file_with_the_value() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("key");
    std::fs::write(&file, "/srv/uploads\n").unwrap();
    let file = file.to_str().unwrap();
    let found = loaded(&[], &[("LANDFALL_UPLOAD_DIR_FILE", file)]);
    assert_eq!(found.settings.storage.upload_dir, Path::new("/srv/uploads"));
    let found = loaded(
        &["-upload-dir=/flag"],
        &[("LANDFALL_UPLOAD_DIR_FILE", file)],
    );
    assert_eq!(found.settings.storage.upload_dir, Path::new("/flag"));
    let both = [
        ("LANDFALL_UPLOAD_DIR_FILE", file),
        ("LANDFALL_UPLOAD_DIR", "/x"),
    ];
    assert_eq!(
        problems(&[], &both),
        ["LANDFALL_UPLOAD_DIR_FILE: conflicts with LANDFALL_UPLOAD_DIR"]
    );
    let missing = problems(&[], &[("LANDFALL_UPLOAD_DIR_FILE", "/nonexistent")]);
    assert!(missing[0].starts_with("LANDFALL_UPLOAD_DIR_FILE: cannot read \"/nonexistent\""));
    let large = dir.path().join("large");
    let large = large.to_str().unwrap();
    for (size, is_read) in [(64 * 1024, true), (64 * 1024 + 1, false)] {
        std::fs::write(large, "x".repeat(size)).unwrap();
        let found = problems(&[], &[("LANDFALL_PAGE_TEXT_FILE", large)]);
        let reason = "the file is larger than 64 KiB";
        assert_eq!(found[0].contains(reason), !is_read, "{found:?}");
    }
    let found = problems(&[], &[("LANDFALL_PORT_FILE", file)]);
    assert!(found[0].starts_with("LANDFALL_PORT_FILE: "), "{found:?}");
}

#[test]
fn variables_of_kubernetes_and_of_the_build_are_ignored() {
    let quiet = loaded(
        &[],
        &[
            ("LANDFALL_SERVICE_HOST", "10.0.0.1"),
            ("LANDFALL_SERVICE_PORT", "80"),
            ("LANDFALL_SERVICE_PORT_HTTP", "80"),
            ("LANDFALL_PORT", "tcp://10.0.0.1:80"),
            ("LANDFALL_PORT_80_TCP", "tcp://10.0.0.1:80"),
            ("LANDFALL_PORT_80_TCP_PROTO", "tcp"),
            ("LANDFALL_PORT_80_TCP_PORT", "80"),
            ("LANDFALL_PORT_80_TCP_ADDR", "10.0.0.1"),
            ("LANDFALL_WEB_SERVICE_HOST", "10.0.0.2"),
            ("LANDFALL_WEB_PORT", "tcp://10.0.0.2:80"),
            ("LANDFALL_BUILD_COMMIT", "abc"),
        ],
    );
    assert_eq!(quiet.settings, Settings::default());
    assert_eq!(quiet.warnings, Vec::<String>::new());
}

#[test]
fn file_accepts_the_types_of_each_setting() {
    let read = from_file(
        "port = 0x1F90\nmax-size = 1_000\nmin-rate = 0\nexpire-finished = 0\nverbose = true\n\
         cors-allow-methods = ['PUT', \"SEARCH\"]\ntrusted-proxies = 'private, 192.0.2.1'\n\
         dir-perms = '750' # octal\nhooks-http-retry = 3\ns3-disable-ssl = false\n",
    );
    assert_eq!(read.listen.port, 8080);
    assert_eq!(read.protocol.max_size, Some(1000));
    assert_eq!(read.limits.min_rate, None);
    assert_eq!(read.log.level, LogLevel::Debug);
    assert_eq!(read.cors.allow_methods, ["PUT", "SEARCH"]);
    assert_eq!(read.storage.dir_perms, 0o750);
}

#[test]
fn problems_in_the_file_have_their_line() {
    assert_eq!(
        problems_of_file(
            "# ours\nprot = 80\ndir-perms = 775\nnetwork-timeout = 60\nport = 'x'\nverbose = 1\n\
             max_size = 1\ndir = '/x'\nconfig = 'y'\nhooks-plugin = 'b'\nhost = ['a']\n\
             cors-allow-methods = [1]\n[storage]\nupload-dir = '/x'\n"
        ),
        [
            "FILE:9: config: a configuration file cannot name another one",
            "FILE:12: cors-allow-methods: has a whole number in its list; write strings",
            "FILE:8: dir: renamed; write upload-dir",
            "FILE:3: dir-perms: write the octal digits as a string: \"775\"",
            "FILE:10: hooks-plugin: Go plugins are not supported; move the code into a command for --hooks-dir, or behind --hooks-grpc or --hooks-http",
            "FILE:11: host: is a list; write a string",
            "FILE:7: max_size: unknown setting; did you mean max-size?",
            "FILE:4: network-timeout: needs a unit: \"60s\" for seconds",
            "FILE:2: prot: unknown setting; did you mean port?",
            "FILE:13: storage: tables are not supported; write all keys at the top level",
            "FILE:6: verbose: is a whole number; write true or false",
            "FILE:5: port: \"x\" is not a whole number",
        ]
    );
    let broken = problems_of_file("port = 80\nport = 81\n");
    assert!(
        broken.len() == 1 && broken[0].starts_with("FILE:2:1: "),
        "{broken:?}"
    );
    let broken = problems_of_file("host = 'ü' 'x'\nport = 81\n");
    assert!(
        broken.len() == 1 && broken[0].starts_with("FILE:1:12: host: invalid TOML: "),
        "{broken:?}"
    );
    let missing = problem(&["-config", "/nonexistent/landfall.toml"]);
    assert!(
        missing.starts_with("/nonexistent/landfall.toml: failed to read"),
        "{missing}"
    );
    let (_file, large) = file(&"#".repeat(2 << 20));
    assert!(problem(&["-config", &large]).contains("larger than 1 MiB"));
}

#[test]
fn unsupported_flags_are_rejected() {
    for flag in unsupported::all() {
        if flag.is_default("/something") {
            continue;
        }
        let args = match flag.kind() {
            table::Kind::Switch => vec![format!("-{}={}", flag.name, flag.is_default("f"))],
            _ => vec![format!("-{}", flag.name), "/something".to_owned()],
        };
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let error = problem(&args);
        assert_eq!(error, format!("--{}: {}", flag.name, flag.reason));
    }
}

#[test]
fn older_names_of_flags_are_accepted() {
    let dir = loaded(&["-dir", "/srv/x"], &[]).settings.storage.upload_dir;
    assert_eq!(dir, PathBuf::from("/srv/x"));
    let timeout = |args: &[&str]| loaded(args, &[]).settings.timeouts.network;
    assert_eq!(timeout(&["-timeout", "6000"]), Some(Duration::from_secs(6)));
    assert_eq!(timeout(&["-timeout=0"]), None);
    assert_eq!(
        timeout(&["-timeout=1", "-network-timeout=2s"]),
        Some(Duration::from_secs(2))
    );
    assert!(problem(&["-timeout", "60s"]).contains("write --network-timeout 60s"));
    assert!(problem(&["-store-size", "100"]).contains("removed"));
}

#[test]
fn conflicting_settings_are_problems() {
    assert!(problem(&["-metrics-path=/files/"]).starts_with("--metrics-path: "));
    assert!(problem(&["-metrics-path=/healthz"]).contains("choose another path"));
    assert!(problem(&["-base-path=/metrics"]).starts_with("--base-path: "));
    assert!(problem(&["-base-path=/readyz/"]).contains("health checks"));
    loaded(&["-metrics-path=/files", "-expose-metrics=false"], &[]);
    let hint = "write --trusted-proxies";
    assert!(problem(&["-proxy-protocol", "-trusted-proxies="]).contains(hint));
    assert!(problem(&["-proxy-protocol", "-compat=tusd"]).contains(hint));
    loaded(&["-proxy-protocol", "-trusted-proxies=0.0.0.0/0"], &[]);
    loaded(&["-proxy-protocol"], &[]);
}

#[test]
fn settings_without_effect_cause_a_warning() {
    for (args, name) in [
        (&["-unix-sock=/x", "-port=1"][..], "--port"),
        (&["-trusted-proxies=10.0.0.1"], "--trusted-proxies"),
        (&["-disable-cors", "-cors-max-age=1"], "--cors-max-age"),
        (&["-public-url=https://x.example"], "--public-url"),
    ] {
        let warnings = loaded(args, &[]).warnings;
        assert_eq!(warnings.len(), 1, "{args:?}: {warnings:?}");
        assert!(warnings[0].starts_with(name), "{warnings:?}");
    }
    let error = problem(&["-network-timeout=0", "-min-rate=5"]);
    assert!(error.starts_with("--min-rate: has no effect"), "{error}");
    assert_eq!(
        loaded(&["-network-timeout=0"], &[])
            .settings
            .limits
            .min_rate,
        None
    );
    assert_eq!(
        loaded(&["-public-url=https://x.example", "-base-path=/"], &[]).warnings,
        Vec::<String>::new()
    );
}

/// In a container, secrets are variables, which every command gets, and features are arguments of the server.
#[test]
fn other_commands_only_warn_of_the_servers_settings() {
    for variables in [
        &[(
            "LANDFALL_HOOKS_HTTP_SECRET",
            "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        )][..],
        &[(
            "LANDFALL_DIRECT_NOTIFICATIONS_SECRET",
            "hunter2hunter2hunter2hunter2hunter2",
        )],
        &[("LANDFALL_GRANTS_JWT_KEYS", "https://id.example/keys")],
        &[("LANDFALL_GRANTS_FORWARD_AUTH_URL", "http://app/me?key=1")],
        &[
            ("LANDFALL_GRANTS_QUOTA", "1GiB"),
            ("LANDFALL_GRANTS_MAX_SIZE", "1GiB"),
        ],
        &[
            ("LANDFALL_HOOKS_FAILURE_MODE", "allow"),
            ("LANDFALL_HOOKS_ENABLED_EVENTS", "http:pre-create"),
        ],
        &[("LANDFALL_HOOKS_GRPC_CLIENT_TLS_KEY", "/run/secrets/key")],
        &[("LANDFALL_TLS_CLIENT_CA", "/run/secrets/ca")],
        &[("LANDFALL_S3_HEADERS", "x-amz-acl: private")],
        &[("LANDFALL_DATABASE", "postgres://a:b@db/landfall")],
        &[("LANDFALL_DIRECT", "true")],
        &[("LANDFALL_ADMIN_KEY", "hunter2hunter2hunter2hunter2")],
        // The user of the command must not read it.
        &[("LANDFALL_ADMIN_KEY_FILE", "/nonexistent/key")],
    ] {
        for command in [
            &["health"][..],
            &["sweep"],
            &["events", "list"],
            &["keys", "list"],
            &["doctor", "files"],
            &["migrate"],
        ] {
            loaded(command, variables);
        }
    }
    let key = [("LANDFALL_TLS_KEY", "/run/secrets/key")];
    let warnings = loaded(&["health"], &key).warnings;
    assert_eq!(warnings, ["LANDFALL_TLS_KEY: requires --tls-certificate"]);
    // These would work on other uploads than those of the server.
    let bucket = [("LANDFALL_S3_ENDPOINT", "http://s3")];
    assert!(problems(&["sweep"], &bucket)[0].contains("without --s3-bucket"));
    // The server itself, and its check, refuse them.
    for command in [&[][..], &["config", "check"]] {
        let problems = problems(command, &key);
        assert_eq!(problems, ["LANDFALL_TLS_KEY: requires --tls-certificate"]);
    }
}

#[test]
fn verbose_raises_the_log_level() {
    let level = |args: &[&str]| loaded(args, &[]).settings.log.level;
    assert_eq!(level(&["-verbose"]), LogLevel::Debug);
    assert_eq!(level(&["-verbose", "-log-level", "warn"]), LogLevel::Debug);
    assert_eq!(level(&["-verbose", "-log-level", "trace"]), LogLevel::Trace);
    assert_eq!(
        level(&["-verbose=false", "-log-level", "warn"]),
        LogLevel::Warn
    );
}

#[test]
fn proxies_are_trusted_by_address() {
    let trusts = |args: &[&str], peer: &str| {
        let urls = loaded(args, &[]).settings.urls;
        urls.trusts(Some(peer.parse().unwrap()))
    };
    let private = ["-behind-proxy", "-trusted-proxies=private"];
    for peer in ["127.0.0.1", "::1", "::ffff:127.0.0.9"] {
        assert!(trusts(&["-behind-proxy"], peer), "{peer}");
        assert!(trusts(&private, peer), "{peer}");
    }
    // Hosts in a private network can forge addresses.
    for peer in ["10.1.2.3", "::ffff:192.168.0.9", "fd00::1"] {
        assert!(!trusts(&["-behind-proxy"], peer), "{peer}");
        assert!(trusts(&private, peer), "{peer}");
    }
    for peer in ["8.8.8.8", "2001:db8::1", "::ffff:8.8.8.8", "172.32.0.1"] {
        assert!(!trusts(&private, peer), "{peer}");
    }
    let urls = loaded(&["-behind-proxy"], &[]).settings.urls;
    assert!(urls.trusts(None));
    let urls = Settings::default().urls;
    assert!(!urls.trusts(Some("127.0.0.1".parse().unwrap())) && !urls.trusts(None));
    let args = ["-behind-proxy", "-trusted-proxies=192.0.2.7"];
    let urls = loaded(&args, &[]).settings.urls;
    assert!(urls.trusts(Some("192.0.2.7".parse().unwrap())));
    assert!(!urls.trusts(Some("127.0.0.1".parse().unwrap())));
}
