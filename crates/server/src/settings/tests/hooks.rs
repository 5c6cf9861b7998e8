//! Settings of hooks.

use std::time::Duration;

use landfall_hooks::{FailureMode, HookName, HookNames};

use super::*;

fn hooks(words: &[&str]) -> Hooks {
    loaded(words, &[]).settings.hooks
}

#[test]
fn defaults_are_tusds() {
    let hooks = hooks(&[]);
    assert_eq!(hooks.enabled_names(), HookNames::DEFAULT);
    assert_eq!(hooks.progress_interval, Duration::from_secs(1));
    assert_eq!(hooks.when_down, FailureMode::Deny);
    assert_eq!(hooks.http.attempts, 3);
    assert_eq!(hooks.http.backoff, Duration::from_secs(1));
    assert_eq!(hooks.http.timeout, Duration::from_secs(15));
    assert_eq!(hooks.http.size_limit, 5120);
    assert_eq!(hooks.grpc.attempts, 3);
    assert_eq!(hooks.outbox.limit, 1_000_000);
}

#[test]
fn names_are_read_as_tusd_does_and_kinder() {
    let names = |text: &str| {
        let words = ["-hooks-dir=/x", &format!("-hooks-enabled-events={text}")];
        let enabled = hooks(&words).enabled;
        enabled.iter().map(|name| name.as_str()).collect::<Vec<_>>()
    };
    let two = ["post-finish", "pre-create"];
    assert_eq!(names("post-finish,pre-create"), two);
    assert_eq!(names(" post-finish , pre-create,,post-finish"), two);
    assert_eq!(
        names("pre-access,post-expire"),
        ["pre-access", "post-expire"]
    );
    // As in tusd, nothing is everything that it has.
    for nothing in ["", " ", ","] {
        let all = names(nothing);
        assert_eq!(all.len(), 7);
        assert!(all.contains(&"pre-terminate") && !all.contains(&"pre-access"));
    }
}

#[test]
fn an_unknown_name_is_fatal_with_tusds_code() {
    for words in [
        &["-hooks-enabled-events", "pre-create,Post-Finish"][..],
        &["-hooks-enabled-events=nonsense"],
    ] {
        let failure = run(words, &[]).unwrap_err();
        assert_eq!(failure.exit_code(), 1);
        let told = failure.to_string();
        for name in HookName::ALL {
            assert!(told.contains(name.as_str()), "{told}");
        }
    }
    let words = ["-hooks-enabled-events=nonsense", "-port=x"];
    assert_eq!(run(&words, &[]).unwrap_err().exit_code(), 2);
    // What tusd doesn't have ends as everything else.
    let failure = run(&["-hooks-dir-events=nonsense"], &[]).unwrap_err();
    assert_eq!(failure.exit_code(), 2);
}

#[test]
fn brokers_are_told_and_not_asked() {
    for broker in ["nats", "amqp", "redis", "kafka"] {
        let flag = format!("-hooks-{broker}-events=post-finish,pre-create");
        let told = problem(&[&flag]);
        assert!(told.contains("pre-create is a question"), "{told}");
    }
}

#[test]
fn a_bare_number_is_seconds_as_in_tusd_1() {
    let said = loaded(&["-hooks-dir=/x", "-hooks-http-backoff", "2"], &[]);
    assert_eq!(said.settings.hooks.http.backoff, Duration::from_secs(2));
    let told = said.warnings.join("\n");
    assert!(
        told.contains("-hooks-http-backoff: 2 is taken for seconds; write 2s"),
        "{told}"
    );
    let said = loaded(&["-hooks-dir=/x", "-hooks-grpc-backoff=0"], &[]);
    assert!(!said.warnings.join("\n").contains("seconds"));
}

#[test]
fn the_stop_code_goes_with_the_format_of_tusd_1() {
    let old = [
        "-hooks-dir=/x",
        "-hooks-dir-format=v1",
        "-hooks-stop-code=2",
    ];
    let said = loaded(&old, &[]);
    assert_eq!(said.settings.hooks.stop_code, Some(2));
    assert_eq!(said.warnings, Vec::<String>::new());
    let warnings = loaded(&["-hooks-dir=/x", "-hooks-stop-code=2"], &[]).warnings;
    assert!(warnings[0].contains("StopUpload"), "{warnings:?}");
}

#[test]
fn tusds_plugins_are_refused_with_a_way_out() {
    let told = problem(&["-hooks-plugin", "/srv/plugin"]);
    assert!(
        told.contains("hooks-grpc") && told.contains("hooks-wasm"),
        "{told}"
    );
}

#[test]
fn settings_without_effect_are_told() {
    for (words, told) in [
        (&["-hooks-enabled-events=pre-create"][..], "without hooks"),
        (
            &["-hooks-dir=/x", "-hooks-http-retry=2"],
            "without hooks-http",
        ),
        (
            &["-hooks-dir=/x", "-hooks-nats-jetstream"],
            "without hooks-nats",
        ),
        (&["-hooks-dir-format=v1"], "without hooks-dir"),
        (
            &["-hooks-dir=/x", "-database=x.db", "-state-dir=/x"],
            "with database",
        ),
    ] {
        let warnings = loaded(words, &[]).warnings;
        assert_eq!(warnings.len(), 1, "{words:?}: {warnings:?}");
        assert!(warnings[0].ends_with(told), "{warnings:?}");
    }
}

#[test]
fn passwords_are_not_cited() {
    for words in [
        &["-hooks-http", "htp://u:hunter2@h/"][..],
        &["-hooks-amqp", "u:hunter2@h"],
        &["-hooks-redis", "redis://:hunter2 @h"],
        &["-database", "mysql://u:hunter2@h/x"],
    ] {
        let told = problem(words);
        assert!(!told.contains("hunter2"), "{told}");
    }
    #[cfg(feature = "hooks-http")]
    {
        let said = loaded(&["-hooks-http=http://u:hunter2@h/"], &[]);
        assert!(!format!("{:?}", said.settings).contains("hunter2"));
    }
}

#[test]
fn databases_are_files_or_postgresql() {
    let database = |text: &str| {
        loaded(&[&format!("-database={text}")], &[])
            .settings
            .state
            .database
    };
    let file = |path: &str| Some(Database::File(path.into()));
    assert_eq!(database("/x/y.db"), file("/x/y.db"));
    assert_eq!(database("sqlite:///x/y.db"), file("/x/y.db"));
    #[cfg(feature = "postgres")]
    assert!(matches!(
        database("postgres://u@h/d"),
        Some(Database::Postgres(_))
    ));
    #[cfg(not(feature = "postgres"))]
    assert!(problem(&["-database=postgres://u@h/d"]).contains("--features postgres"));
}

#[test]
fn errands_about_events_are_one_thing() {
    let errand = |words: &[&str]| match run(words, &[]) {
        Ok(Invocation::Events { errand, .. }) => errand,
        other => panic!("{words:?}: {other:?}"),
    };
    assert_eq!(errand(&["events", "list"]), Errand::default());
    let listed = errand(&[
        "events",
        "list",
        "-pending",
        "-upload=a",
        "-limit",
        "5",
        "-json",
    ]);
    assert!(listed.waiting && listed.json && listed.limit == 5);
    assert_eq!(listed.upload.as_deref(), Some("a"));
    let again = errand(&["events", "retry", "7", "-state-dir", "/s", "8"]);
    assert_eq!(
        (again.deed, again.ids),
        (Deed::Retry, vec!["7".into(), "8".into()])
    );
    let gone = errand(&["events", "delete", "-all", "-transport=http"]);
    assert!(gone.all && gone.deed == Deed::Drop);
    for words in [
        &["events"][..],
        &["events", "show"],
        &["events", "retry"],
        &["events", "retry", "7", "-all"],
        &["events", "delete", "7", "-transport", "http"],
        &["events", "delete", "-all", "-pending"],
        &["events", "retry", "-all", "-json"],
        &["events", "list", "7"],
        &["events", "list", "-all", "-pending"],
        &["-all"],
        &["sweep", "-limit", "3"],
        &["-json"],
    ] {
        problem(words);
    }
    for words in [
        &["help", "events"][..],
        &["events", "-h"],
        &["events", "list", "-h"],
    ] {
        match run(words, &[]) {
            Ok(Invocation::Print(text)) => assert!(text.contains("-state-dir DIR"), "{words:?}"),
            other => panic!("{words:?}: {other:?}"),
        }
    }
}
