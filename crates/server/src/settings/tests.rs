//! Tests from arguments, variables and a file to [`Settings`].

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::*;

mod direct;
mod empty;
mod grants;
mod hooks;
#[cfg(all(
    feature = "s3",
    feature = "redis",
    feature = "postgres",
    feature = "grants",
    feature = "direct",
    feature = "hooks-http",
    feature = "hooks-grpc",
    feature = "hooks-wasm",
    feature = "nats",
    feature = "amqp",
    feature = "kafka"
))]
mod invalid;
mod s3;
mod secrets;
mod spellings;

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
    assert_eq!(defaults.limits.max_header_size, 65_536);
    assert_eq!(defaults.limits.max_buffered_bytes, 256 << 20);
    assert_eq!(loaded(&[], &[]).settings, defaults);
}

#[test]
fn report_has_the_source_of_each_setting() {
    let (_file, name) = file("\nport = 1\nhost = 'localhost'\n\nmax-size = '1KiB'\n");
    let report = loaded(
        &["-config", &name, "--port", "3"],
        &[("LANDFALL_PORT", "2"), ("LANDFALL_HOST", "127.0.0.1")],
    )
    .to_toml();
    let line = |start: &str| {
        let line = report.lines().find(|line| line.starts_with(start)).unwrap();
        line.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    assert_eq!(line("port"), "port = 3 # --port");
    assert_eq!(line("host"), "host = \"127.0.0.1\" # LANDFALL_HOST");
    assert_eq!(
        line("max-size"),
        format!("max-size = \"1KiB\" # {name}:5: max-size")
    );
    assert_eq!(line("base-path"), "base-path = \"/files/\" # default");
}

#[test]
fn compat_tusd_sets_the_defaults_of_tusd() {
    let found = loaded(&["-compat", "tusd", "-behind-proxy"], &[]);
    assert_eq!(found.warnings, Vec::<String>::new());
    let settings = &found.settings;
    assert!(settings.protocol.lenient_metadata && settings.log.verbose);
    assert_eq!(settings.log.level, LogLevel::Debug);
    assert_eq!(settings.expiry.unfinished, None);
    assert_eq!(settings.s3.part_size, 50 << 20);
    assert_eq!(settings.hooks.outbox.retry_for, Duration::from_millis(1));
    assert!(settings.urls.trusts(Some("203.0.113.7".parse().unwrap())));
    assert!(found.to_toml().contains("# --compat tusd\n"));
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
fn changes_are_settings_that_are_not_at_their_defaults() {
    let url = "http://user:hunter2@127.0.0.1/hooks";
    let args = ["-port=8080", "-max-size=1KiB", "-hooks-http", url];
    let given = loaded(&args, &[("LANDFALL_ADMIN_KEY", "0123456789abcdef")]);
    let changes = given.changes_to_toml();
    let lines = changes.lines().filter(|line| !line.is_empty());
    let lines: Vec<_> = lines
        .map(|line| line.split("  ").next().unwrap_or(line))
        .collect();
    assert_eq!(
        lines,
        [
            "# Protocol",
            "max-size = \"1KiB\"",
            "# HTTP hooks",
            "# hooks-http = \"http://user:***@127.0.0.1/hooks\"",
            "# Dashboard",
            "# admin-key = ***",
        ]
    );
    let json = given.to_json(true);
    assert_eq!(json.as_array().map(Vec::len), Some(3));
    assert_eq!(
        json[0],
        serde_json::json!({
            "name": "max-size", "value": "1KiB", "default": "0", "source": "--max-size",
        })
    );
    assert_eq!(json[2]["value"], "***");
    assert!(!json.to_string().contains("hunter2"));
    let all = given.to_json(false);
    assert_eq!(all.as_array().map(Vec::len), Some(settings().count()));
}

#[test]
fn the_sample_file_has_all_settings_at_their_defaults() {
    let Ok(Invocation::Print(sample)) = run(&["config", "sample"], &[]) else {
        panic!("no sample");
    };
    let (_file, name) = file(&sample);
    assert_eq!(
        loaded(&["-config", &name], &[]).settings,
        Settings::default()
    );
    let is_setting = |line: &&str| line.starts_with(|c: char| c.is_ascii_lowercase());
    let bare = sample.lines().filter_map(|line| line.strip_prefix('#'));
    let bare: Vec<_> = bare.filter(is_setting).collect();
    assert_eq!(bare.len(), settings().count());
    let with_values = bare
        .into_iter()
        .filter(|line| !line.ends_with("= \"\"") && !line.ends_with("= []"));
    let (_file, name) = file(&with_values.collect::<Vec<_>>().join("\n"));
    assert_eq!(
        loaded(&["-config", &name], &[]).settings,
        Settings::default()
    );
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
    let error = problem(&["config"]);
    assert!(
        error.contains("requires a subcommand") && error.contains("check"),
        "{error}"
    );
    assert!(problem(&["-dry-run"]).contains("unexpected argument '--dry-run'"));
}

#[test]
fn help_and_version_ignore_invalid_settings() {
    for args in [
        &["-h"][..],
        &["-help"],
        &["--help"],
        &["help"],
        &["-port", "x", "-h"],
        &["-nonsense", "-h"],
    ] {
        match run(args, &[("LANDFALL_PORT", "x")]) {
            Ok(Invocation::Print(text)) => assert!(text.contains("--upload-dir <DIR>"), "{args:?}"),
            other => panic!("{args:?}: {other:?}"),
        }
    }
    for args in [
        &["sweep", "--help"][..],
        &["-help", "sweep"],
        &["help", "sweep"],
    ] {
        match run(args, &[]) {
            Ok(Invocation::Print(text)) => {
                assert!(text.contains("--expire-finished") && !text.contains("--port"));
            }
            other => panic!("{args:?}: {other:?}"),
        }
    }
    for args in [
        &["-version"][..],
        &["--version"],
        &["version"],
        &["-version=1", "sweep"],
    ] {
        match run(args, &[]) {
            Ok(Invocation::Print(text)) => {
                let heads: Vec<&str> = text.lines().filter_map(|l| l.split(": ").next()).collect();
                assert_eq!(heads, ["Version", "Commit", "Date"]);
            }
            other => panic!("{args:?}: {other:?}"),
        }
    }
    let served = loaded(&["-version=false"], &[]);
    assert_eq!(served.subcommand, Subcommand::Serve);
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
        "unrecognized subcommand 'off'"
    );
}

#[test]
fn usage_errors_suggest_a_correction() {
    assert_eq!(
        problem(&["-prot", "8070"]),
        "unexpected argument '--prot' found; tip: a similar argument exists: '--port'"
    );
    assert_eq!(
        problem(&["--uploads-dir=/x"]),
        "unexpected argument '--uploads-dir' found; tip: a similar argument exists: '--upload-dir'"
    );
    assert_eq!(problem(&["-q"]), "unexpected argument '-q' found");
    assert_eq!(
        problem(&["---port", "1"]),
        "unexpected argument '---port' found; tip: a similar argument exists: '--port'"
    );
    assert_eq!(
        problem(&["-port"]),
        "a value is required for '--port <PORT>' but none was supplied"
    );
    assert_eq!(
        problem(&["-upload-dir", "-port", "80"]),
        "a value is required for '--upload-dir <DIR>' but none was supplied"
    );
    assert_eq!(
        problem(&["-port", "99999"]),
        "--port: 99999 is not a port; the maximum is 65535"
    );
    assert_eq!(
        problem(&["port", "8070"]),
        "unrecognized subcommand 'port'; tip: write --port for the flag"
    );
    assert_eq!(problem(&["nonsense"]), "unrecognized subcommand 'nonsense'");
    assert!(problem(&["swep"]).contains("'sweep'"));
    assert!(problem(&["help", "nonsense"]).starts_with(
        "there is no command, flag or topic 'nonsense'; tip: the topics are authentication, "
    ));
    assert!(problem(&["help", "max-sise"]).ends_with("a similar flag exists: '--max-size'"));
    assert_eq!(
        problem(&["help", "keys", "sell"]),
        "there is no command 'keys sell'"
    );
    assert_eq!(
        problem(&["events", "show"]),
        "unrecognized subcommand 'show'"
    );
    assert!(problem(&["-network-timeout", "2"]).contains("write 2s for seconds"));
    assert!(problem(&["-cors-allow-origin", "("]).contains("not a regular expression"));
    assert!(problem(&["--", "-port", "80"]).contains("'-port'"));
    assert_eq!(problems(&["-port=x", "-max-size=y"], &[]).len(), 2);
}

#[test]
fn help_finds_commands_flags_and_topics() {
    let help = |args: &[&str]| match read(args.iter().map(Into::into), []) {
        Ok(Invocation::Print(text)) => text,
        other => panic!("{args:?}: {other:?}"),
    };
    for args in [&["help"][..], &["-h"]] {
        let lines = help(args).lines().count();
        assert!(lines <= 40, "{args:?}: {lines} lines");
    }
    assert_eq!(
        help(&["help", "keys", "add"]),
        help(&["keys", "add", "--help"])
    );
    for args in [
        ["help", "max-size"],
        ["help", "--max-size"],
        ["help", "-max-size=3"],
    ] {
        let text = help(&args);
        assert!(text.contains("--max-size <SIZE>"), "{text}");
        assert!(
            text.ends_with("Variable: LANDFALL_MAX_SIZE\nKey in a file: max-size\n"),
            "{text}"
        );
    }
    assert!(help(&["help", "dir"]).contains("--upload-dir <DIR>"));
    assert!(help(&["help", "hooks-plugin"]).contains("not supported"));
    for (topic, flags) in [
        ("hooks", &["--hooks-http <URL>", "--hooks-dir <DIR>"][..]),
        ("s3", &["--s3-bucket <NAME>"]),
        ("CORS", &["--cors-allow-origin <REGEX>"]),
        ("timeout", &["--network-timeout <TIME>"]),
    ] {
        let text = help(&["help", topic]);
        for flag in flags {
            assert!(text.contains(flag), "{text}");
        }
        assert!(!text.contains("--port"), "{text}");
    }
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
        problems(&[], &[("LANDFALL_GCS_BUCKET", "x")]),
        ["LANDFALL_GCS_BUCKET: Google Cloud Storage is not supported yet"]
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
             max_size = 1\ndir = '/x'\nconfig = 'y'\ngcs-bucket = 'b'\nhost = ['a']\n\
             cors-allow-methods = [1]\n[storage]\nupload-dir = '/x'\n"
        ),
        [
            "FILE:9: config: a configuration file cannot name another one",
            "FILE:12: cors-allow-methods: has a whole number in its list; write strings",
            "FILE:8: dir: renamed; write upload-dir",
            "FILE:3: dir-perms: write the octal digits as a string: \"775\"",
            "FILE:10: gcs-bucket: Google Cloud Storage is not supported yet",
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
        broken.len() == 1 && broken[0].starts_with("FILE:1:12: invalid TOML: "),
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

/// Every flag of tusd 2.10 with its default.
const TUSD: &str = include_str!("../../tests/it/tusd-flags.txt");

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
fn unsupported_flags_are_rejected() {
    for flag in unsupported::all() {
        let args = match flag.kind() {
            table::Kind::Switch => vec![format!("-{}", flag.name)],
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
    assert!(
        problem(&["-relative-location", "-public-url=https://x/"]).starts_with("--public-url: ")
    );
    assert!(problem(&["-metrics-path=/files/"]).starts_with("--metrics-path: "));
    assert!(problem(&["-metrics-path=/healthz"]).contains("choose another path"));
    assert!(problem(&["-base-path=/metrics"]).starts_with("--base-path: "));
    assert!(problem(&["-base-path=/readyz/"]).contains("health checks"));
    loaded(&["-metrics-path=/files", "-expose-metrics=false"], &[]);
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
