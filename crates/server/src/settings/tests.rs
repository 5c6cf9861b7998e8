//! Tests of the whole way from words, variables and a file to [`Settings`].

use std::ffi::OsString;
use std::path::PathBuf;
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
mod refused;
mod s3;
mod secrets;
mod spellings;

/// Reads words and variables, without a file.
fn run(words: &[&str], variables: &[(&str, &str)]) -> Result<Invocation, Failure> {
    read(
        words.iter().map(OsString::from),
        variables
            .iter()
            .map(|(name, text)| (name.into(), text.into())),
    )
}

/// The settings that words and variables make, which must be good.
fn loaded(words: &[&str], variables: &[(&str, &str)]) -> Loaded {
    match run(words, variables) {
        Ok(Invocation::Serve(loaded) | Invocation::ConfigCheck(loaded)) => loaded,
        other => panic!("{words:?} {variables:?}: {other:?}"),
    }
}

/// The problems that words and variables have, which must be some.
fn problems(words: &[&str], variables: &[(&str, &str)]) -> Vec<String> {
    match run(words, variables) {
        Err(failure) => failure.problems.iter().map(ToString::to_string).collect(),
        other => panic!("{words:?} {variables:?}: {other:?}"),
    }
}

/// The one problem that words have.
fn problem(words: &[&str]) -> String {
    let problems = problems(words, &[]);
    assert_eq!(problems.len(), 1, "{problems:?}");
    problems[0].clone()
}

/// A file with this text, and its name.
fn file(text: &str) -> (tempfile::NamedTempFile, String) {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&file, text).unwrap();
    let name = file.path().to_str().unwrap().to_owned();
    (file, name)
}

/// The settings that a file makes, which must be good.
fn from_file(text: &str) -> Settings {
    let (_file, name) = file(text);
    loaded(&["-config", &name], &[]).settings
}

/// The problems of a file, which must be some, with its name taken out.
fn problems_of_file(text: &str) -> Vec<String> {
    let (_file, name) = file(text);
    problems(&["-config", &name], &[])
        .iter()
        .map(|problem| problem.replace(&name, "FILE"))
        .collect()
}

#[test]
fn defaults_are_those_of_the_issue() {
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
fn the_report_says_where_each_came_from() {
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
fn flags_go_before_variables_and_variables_before_the_file() {
    let (_file, name) = file("port = 1");
    let port =
        |words: &[&str], variables: &[(&str, &str)]| loaded(words, variables).settings.listen.port;
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
fn commands_may_stand_anywhere() {
    assert!(matches!(
        run(&["serve", "-port=1"], &[]),
        Ok(Invocation::Serve(_))
    ));
    assert!(matches!(
        run(&["-verbose", "serve"], &[]),
        Ok(Invocation::Serve(_))
    ));
    for words in [
        &["sweep", "-dry-run"][..],
        &["--dry-run", "sweep"],
        &["sweep", "--dry-run=true"],
        &["sweep", "-dry-run", "true"],
    ] {
        let came = run(words, &[]);
        assert!(
            matches!(came, Ok(Invocation::Sweep { dry_run: true, .. })),
            "{words:?}"
        );
    }
    assert!(matches!(
        run(&["sweep"], &[]),
        Ok(Invocation::Sweep { dry_run: false, .. })
    ));
    for words in [
        &["config", "check"][..],
        &["config", "-port", "80", "check"],
        &["-port", "80", "config", "check", "--"],
    ] {
        assert!(
            matches!(run(words, &[]), Ok(Invocation::ConfigCheck(_))),
            "{words:?}"
        );
    }
    assert!(problem(&["config"]).contains("landfall config check"));
    assert!(problem(&["-dry-run"]).contains("sweep"));
}

#[test]
fn help_and_version_need_nothing_else_to_be_right() {
    for words in [
        &["-h"][..],
        &["-help"],
        &["--help"],
        &["help"],
        &["-port", "x", "-h"],
        &["-nonsense", "-h"],
    ] {
        match run(words, &[("LANDFALL_PORT", "x")]) {
            Ok(Invocation::Print(text)) => assert!(text.contains("-upload-dir DIR"), "{words:?}"),
            other => panic!("{words:?}: {other:?}"),
        }
    }
    for words in [&["sweep", "-h"][..], &["help", "sweep"]] {
        match run(words, &[]) {
            Ok(Invocation::Print(text)) => {
                assert!(text.contains("-expire-finished") && !text.contains("-port"));
            }
            other => panic!("{words:?}: {other:?}"),
        }
    }
    for words in [
        &["-version"][..],
        &["--version"],
        &["version"],
        &["-version=1", "sweep"],
    ] {
        match run(words, &[]) {
            Ok(Invocation::Print(text)) => {
                let heads: Vec<&str> = text.lines().filter_map(|l| l.split(": ").next()).collect();
                assert_eq!(heads, ["Version", "Commit", "Date"]);
            }
            other => panic!("{words:?}: {other:?}"),
        }
    }
    assert!(matches!(
        run(&["-version=false"], &[]),
        Ok(Invocation::Serve(_))
    ));
}

#[test]
fn switches_may_have_their_value_as_the_next_word() {
    let exposed = |words: &[&str]| loaded(words, &[]).settings.monitoring.expose_metrics;
    assert!(!exposed(&["-expose-metrics", "false"]));
    assert!(!exposed(&["-expose-metrics=F"]));
    assert!(!exposed(&["--expose-metrics", "0", "-port", "1"]));
    assert!(exposed(&["-expose-metrics", "-port", "1"]));
    assert!(exposed(&["-expose-metrics", "serve"]));
    assert_eq!(
        problem(&["-expose-metrics", "off"]),
        "\"off\" is neither a command, nor a flag, nor the value of one: the commands are serve, \
         sweep, doctor files, doctor s3, s3 set-cors, events, keys, migrate, config check, version and help; a value \
         stands right after its flag"
    );
}

#[test]
fn mistakes_are_told_with_what_to_write() {
    assert_eq!(
        problem(&["-prot", "8070"]),
        "-prot: there is no such flag; did you mean --port?"
    );
    assert_eq!(
        problem(&["--uploads-dir=/x"]),
        "--uploads-dir: there is no such flag; did you mean --upload-dir?"
    );
    assert_eq!(problem(&["-q"]), "-q: there is no such flag");
    assert_eq!(
        problem(&["---port", "1"]),
        "---port: there is no such flag; did you mean --port?"
    );
    assert_eq!(problem(&["-port"]), "-port: needs a value after it");
    assert_eq!(
        problem(&["-upload-dir", "-port", "80"]),
        "-upload-dir: needs a value after it"
    );
    assert_eq!(
        problem(&["-port", "99999"]),
        "-port: 99999 is not a port; ports end at 65535"
    );
    assert_eq!(
        problem(&["port", "8070"]),
        "\"port\" is neither a command, nor a flag, nor the value of one: write --port for the flag"
    );
    assert!(problem(&["nonsense"]).contains("the commands are serve, "));
    assert!(
        problem(&["help", "nonsense"]).starts_with("\"nonsense\" is no command; the commands are")
    );
    assert_eq!(
        problem(&["events", "show"]),
        "\"show\" is no command of landfall events; write landfall events list, retry or drop"
    );
    assert_eq!(
        problem(&["config"]),
        "config alone does nothing; write landfall config check"
    );
    assert!(problem(&["-network-timeout", "2"]).contains("write 2s for seconds"));
    assert!(problem(&["-cors-allow-origin", "("]).contains("not a regular expression"));
    assert!(problem(&["--", "-port", "80"]).contains("flags end at --"));
    // All at once.
    assert_eq!(
        problems(&["-port=x", "-max-size=y", "-nothing-like-it"], &[]).len(),
        3
    );
}

#[test]
fn a_word_that_is_not_text_is_told() {
    use std::os::unix::ffi::OsStringExt as _;
    let wrong = OsString::from_vec(b"-host=\xff".to_vec());
    let failure = read([wrong.clone()], []).unwrap_err();
    assert!(failure.to_string().contains("UTF-8"));
    let failure = read([], [("LANDFALL_HOST".into(), wrong)]).unwrap_err();
    assert!(failure.to_string().contains("LANDFALL_HOST"));
}

#[test]
fn variables_that_are_nearly_settings_are_problems() {
    assert_eq!(
        problems(&[], &[("LANDFALL_UPLOADS_DIR", "/x")]),
        ["LANDFALL_UPLOADS_DIR: there is no such setting; did you mean LANDFALL_UPLOAD_DIR?"]
    );
    assert_eq!(problems(&[], &[("LANDFALL_PORT", "x")]).len(), 1);
    assert_eq!(
        problems(&[], &[("LANDFALL_GCS_BUCKET", "x")]),
        ["LANDFALL_GCS_BUCKET: this build has no Google Cloud storage yet"]
    );
    let strange = loaded(&[], &[("LANDFALL_SOMEBODY_ELSES", "x")]);
    assert_eq!(strange.warnings.len(), 1);
    assert_eq!(
        loaded(&[], &[("OTHER_PORT", "1")]).settings,
        Settings::default()
    );
}

#[test]
fn variables_made_by_kubernetes_or_for_the_build_are_left_alone() {
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
fn the_file_takes_what_suits_each_setting() {
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
fn mistakes_in_the_file_are_told_with_their_line() {
    assert_eq!(
        problems_of_file(
            "# ours\nprot = 80\ndir-perms = 775\nnetwork-timeout = 60\nport = 'x'\nverbose = 1\n\
             max_size = 1\ndir = '/x'\nconfig = 'y'\ngcs-bucket = 'b'\nhost = ['a']\n\
             cors-allow-methods = [1]\n[storage]\nupload-dir = '/x'\n"
        ),
        [
            "FILE:9: config: a configuration file can't name another one",
            "FILE:12: cors-allow-methods: has a whole number in its list; write strings",
            "FILE:8: dir: is called upload-dir now",
            "FILE:3: dir-perms: write the octal digits as a string: \"775\"",
            "FILE:10: gcs-bucket: this build has no Google Cloud storage yet",
            "FILE:11: host: is a list; write a string",
            "FILE:7: max_size: there is no such setting; did you mean max-size?",
            "FILE:4: network-timeout: needs a unit: \"60s\" for seconds",
            "FILE:2: prot: there is no such setting; did you mean port?",
            "FILE:13: storage: the file has no tables: write all keys at the top, without [ ]",
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
        broken.len() == 1 && broken[0].starts_with("FILE:1:12: is no TOML: "),
        "{broken:?}"
    );
    let missing = problem(&["-config", "/nonexistent/landfall.toml"]);
    assert!(
        missing.starts_with("/nonexistent/landfall.toml: can't read"),
        "{missing}"
    );
    let (_file, large) = file(&"#".repeat(2 << 20));
    assert!(problem(&["-config", &large]).contains("too large"));
}

/// Every flag of tusd 2.10 with its default.
const TUSD: &str = include_str!("../../tests/it/tusd-flags.txt");

#[test]
fn every_flag_of_tusd_is_known_and_takes_its_default_unless_that_is_empty() {
    let mut flags = 0;
    for line in TUSD.lines().filter(|line| !line.starts_with('#')) {
        let (name, default) = line.split_once('=').unwrap();
        if name == "version" {
            continue;
        }
        flags += 1;
        if default.is_empty() {
            // tusd takes what a script forgot to fill in for its default.
            let may_be_empty = table::setting(name).is_some_and(|setting| setting.may_be_empty);
            let came = run(&[&format!("-{name}=")], &[]);
            assert_eq!(came.is_ok(), may_be_empty, "{line}: {came:?}");
            continue;
        }
        let came = run(&[&format!("-{name}={default}")], &[]);
        assert!(matches!(came, Ok(Invocation::Serve(_))), "{line}: {came:?}");
        if !matches!(default, "true" | "false") {
            let came = run(&[&format!("--{name}"), default], &[]);
            assert!(matches!(came, Ok(Invocation::Serve(_))), "{line}: {came:?}");
        }
    }
    assert_eq!(flags, 78);
}

#[test]
fn flags_whose_subject_is_missing_are_refused() {
    for later in later::all() {
        let words = match later.switch {
            true => vec![format!("-{}", later.name)],
            false => vec![format!("-{}", later.name), "/something".to_owned()],
        };
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let told = problem(&words);
        assert_eq!(told, format!("-{}: {}", later.name, later.reason));
    }
}

#[test]
fn old_names_still_work() {
    let dir = loaded(&["-dir", "/srv/x"], &[]).settings.storage.upload_dir;
    assert_eq!(dir, PathBuf::from("/srv/x"));
    let timeout = |words: &[&str]| loaded(words, &[]).settings.timeouts.network;
    assert_eq!(timeout(&["-timeout", "6000"]), Some(Duration::from_secs(6)));
    assert_eq!(timeout(&["-timeout=0"]), None);
    assert_eq!(
        timeout(&["-timeout=1", "-network-timeout=2s"]),
        Some(Duration::from_secs(2))
    );
    assert!(problem(&["-timeout", "60s"]).contains("write --network-timeout 60s"));
    assert!(problem(&["-store-size", "100"]).contains("gone"));
}

#[test]
fn settings_that_exclude_each_other_are_problems() {
    assert!(
        problem(&["-relative-location", "-public-url=https://x/"]).starts_with("-public-url: ")
    );
    assert!(problem(&["-metrics-path=/files/"]).starts_with("-metrics-path: "));
    assert!(problem(&["-metrics-path=/healthz"]).contains("choose another path"));
    assert!(problem(&["-base-path=/metrics"]).starts_with("-base-path: "));
    assert!(problem(&["-base-path=/readyz/"]).contains("health checks"));
    loaded(&["-metrics-path=/files", "-expose-metrics=false"], &[]);
}

#[test]
fn settings_without_effect_are_worth_a_warning() {
    for (words, name) in [
        (&["-unix-sock=/x", "-port=1"][..], "-port"),
        (&["-trusted-proxies=10.0.0.1"], "-trusted-proxies"),
        (&["-disable-cors", "-cors-max-age=1"], "-cors-max-age"),
        (&["-public-url=https://x.example"], "-public-url"),
    ] {
        let warnings = loaded(words, &[]).warnings;
        assert_eq!(warnings.len(), 1, "{words:?}: {warnings:?}");
        assert!(warnings[0].starts_with(name), "{warnings:?}");
    }
    let told = problem(&["-network-timeout=0", "-min-rate=5"]);
    assert!(told.starts_with("-min-rate: has no effect"), "{told}");
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
fn verbose_raises_the_level_and_never_lowers_it() {
    let level = |words: &[&str]| loaded(words, &[]).settings.log.level;
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
    let trusts = |words: &[&str], peer: &str| {
        let urls = loaded(words, &[]).settings.urls;
        urls.trusts(Some(peer.parse().unwrap()))
    };
    let private = ["-behind-proxy", "-trusted-proxies=private"];
    for peer in ["127.0.0.1", "::1", "::ffff:127.0.0.9"] {
        assert!(trusts(&["-behind-proxy"], peer), "{peer}");
        assert!(trusts(&private, peer), "{peer}");
    }
    // Others in a private network could write any address.
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
    let words = ["-behind-proxy", "-trusted-proxies=192.0.2.7"];
    let urls = loaded(&words, &[]).settings.urls;
    assert!(urls.trusts(Some("192.0.2.7".parse().unwrap())));
    assert!(!urls.trusts(Some("127.0.0.1".parse().unwrap())));
}

#[test]
fn origins_match_anywhere_as_in_tusd() {
    let words = ["-cors-allow-origin", r"^https://(.*\.)?example\.com$"];
    let cors = loaded(&words, &[]).settings.cors;
    assert!(cors.allow_origin.matches("https://a.example.com"));
    assert!(!cors.allow_origin.matches("https://example.com.evil.test"));
    assert!(
        AllowOrigin::new("example")
            .unwrap()
            .matches("https://example.net")
    );
    assert!(AllowOrigin::default().matches("null"));
}
