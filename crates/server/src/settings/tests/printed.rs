//! Help, reports and usage errors.

use super::*;

#[test]
fn report_has_the_source_of_each_setting() {
    let (_file, name) = file("\nport = 1\nhost = 'localhost'\n\nmax-size = '1KiB'\n");
    let report = loaded(
        &["-config", &name, "--port", "3"],
        &[("LANDFALL_PORT", "2"), ("LANDFALL_HOST", "127.0.0.1")],
    )
    .to_toml(false);
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
fn changes_are_settings_that_are_not_at_their_defaults() {
    let url = "http://user:hunter2@127.0.0.1/hooks";
    let args = ["-port=8080", "-max-size=1KiB", "-hooks-http", url];
    let given = loaded(&args, &[("LANDFALL_ADMIN_KEY", "0123456789abcdef")]);
    let changes = given.to_toml(true);
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
    assert!(problem(&["nonsense"]).starts_with(
        "unrecognized subcommand 'nonsense'; tip: the commands are serve, sweep, doctor, "
    ));
    assert_eq!(
        problem(&["-behind-proxy", "yes"]),
        "unrecognized subcommand 'yes'; tip: write --behind-proxy or --behind-proxy=true"
    );
    assert!(problem(&["-v"]).ends_with("; tip: write --verbose or --version"));
    assert!(
        problem(&["-hooks-enabled-events=pre-creat"])
            .contains("; tip: a similar hook exists: 'pre-create'")
    );
    assert!(problem(&["swep"]).contains("'sweep'"));
    assert!(problem(&["help", "nonsense"]).starts_with(
        "there is no command, flag or topic 'nonsense'; tip: the topics are Listening; TLS; "
    ));
    assert!(problem(&["help", "max-sise"]).ends_with("a similar flag exists: '--max-size'"));
    assert!(
        problem(&["help", "keys", "sell"])
            .starts_with("there is no command, flag or topic 'keys sell'")
    );
    assert_eq!(
        problem(&["config"]),
        "'landfall config' needs one of the commands check, show, sample; see landfall config --help"
    );
    assert_eq!(
        problem(&["events", "show"]),
        "unrecognized subcommand 'show'; tip: the commands are list, retry, delete"
    );
    for args in [&["link", "add", "foo"][..], &["link", "Photos for Bob"]] {
        let text = problem(args);
        let tip = "; tip: the commands are list, revoke; a name is given with --name";
        assert!(text.ends_with(tip), "{text}");
    }
    assert!(problem(&["-network-timeout", "2"]).contains("write 2s for seconds, 2d for days"));
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
            text.ends_with("Variable: LANDFALL_MAX_SIZE\nKey in a file: max-size\nWhile the server runs: a change needs a restart\n"),
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
        // The flag has the name of the topic.
        (
            "grants",
            &["--grants[=", "--require-grant", "--grants-jwt-issuer"],
        ),
        ("message broker", &["--hooks-broker"]),
        ("Outbox: retries and dead letters", &["--events-retry-for"]),
    ] {
        let text = help(&["help", topic]);
        for flag in flags {
            assert!(text.contains(flag), "{text}");
        }
        assert!(!text.contains("--port"), "{text}");
    }
}

#[test]
fn the_help_of_each_command_has_an_example() {
    fn check(command: &clap::Command, path: &[&str]) {
        for one in command.get_subcommands() {
            let path = [path, &[one.get_name()]].concat();
            if crate::tools::has(&path) {
                continue;
            }
            let Ok(Invocation::Print(help)) = run(&[&*path, &["--help"]].concat(), &[]) else {
                panic!("{path:?} has no help");
            };
            let example = help.split_once("Example").unwrap_or_default().1;
            let command = ["landfall", &path.join(" ")].join(" ");
            let command = command.strip_suffix(" serve").unwrap_or(&command);
            assert!(example.contains(&format!("\n  {command}")), "{help}");
            check(one, &path);
        }
    }
    check(&super::super::cli::command(false), &[]);
}
