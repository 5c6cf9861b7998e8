//! Settings of hooks, and `landfall events`.

use std::time::Duration;

use landfall_hooks::{FailureMode, HookName, HookNames};
use landfall_state::outbox::{EventSelection, EventState, Query};

use super::*;

fn hooks(args: &[&str]) -> Hooks {
    loaded(args, &[]).settings.hooks
}

#[test]
fn defaults_are_those_of_tusd() {
    let hooks = hooks(&[]);
    assert_eq!(
        hooks.common_names().into_iter().collect::<HookNames>(),
        HookNames::DEFAULT
    );
    assert_eq!(hooks.progress_interval, Duration::from_secs(1));
    assert_eq!(hooks.failure_mode, FailureMode::Deny);
    assert_eq!(hooks.http.attempts, 3);
    assert_eq!(hooks.http.backoff, Duration::from_secs(1));
    assert_eq!(hooks.http.timeout, Duration::from_secs(15));
    assert_eq!(hooks.http.size_limit, 5120);
    assert_eq!(hooks.grpc.attempts, 3);
}

#[test]
fn lists_allow_spaces_and_duplicates() {
    let names = |text: &str| {
        let args = ["-hooks-dir=/x", &format!("-hooks-enabled-events={text}")];
        let enabled = hooks(&args).enabled;
        enabled
            .iter()
            .map(|one| one.name.as_str())
            .collect::<Vec<_>>()
    };
    let two = ["post-finish", "pre-create"];
    assert_eq!(names("post-finish,pre-create"), two);
    assert_eq!(names(" post-finish , pre-create,,post-finish"), two);
    assert_eq!(
        names("pre-access,post-expire"),
        ["pre-access", "post-expire"]
    );
    // As in tusd, empty means all of its hooks.
    for empty in ["", " ", ","] {
        let all = names(empty);
        assert_eq!(all.len(), 7);
        assert!(all.contains(&"pre-terminate") && !all.contains(&"pre-access"));
    }
}

#[test]
fn unknown_hooks_have_the_exit_code_of_tusd() {
    for args in [
        &["-hooks-enabled-events", "pre-create,Post-Finish"][..],
        &["-hooks-enabled-events=nonsense"],
    ] {
        let failure = run(args, &[]).unwrap_err();
        assert_eq!(failure.exit_code(), 1);
        let error = failure.to_string();
        for name in HookName::ALL {
            assert!(error.contains(name.as_str()), "{error}");
        }
    }
    let args = ["-hooks-enabled-events=nonsense", "-port=x"];
    assert_eq!(run(&args, &[]).unwrap_err().exit_code(), 2);
}

#[test]
fn transports_may_have_events_of_their_own() {
    let names = |events: &str| {
        let events = format!("-hooks-enabled-events={events}");
        let hooks = hooks(&["-hooks-dir=/x", "-hooks-http=http://h/", &events]);
        hooks.transports().map(|one| one.names)
    };
    let set = |names: &[HookName]| HookNames::from_names(names);
    let (finish, create) = (HookName::PostFinish, HookName::PreCreate);
    let [dir, http, grpc, broker] = names("pre-create,http:post-finish");
    assert_eq!([dir, http], [set(&[create]), set(&[finish])]);
    assert_eq!((grpc, broker), (set(&[create]), set(&[])));
    // The others keep the defaults.
    let [dir, http, ..] = names("http:post-finish,http:pre-create");
    assert_eq!([dir, http], [HookNames::DEFAULT, set(&[finish, create])]);
    let error = problem(&["-hooks-dir=/x", "-hooks-enabled-events=http:pre-create"]);
    assert!(
        error.ends_with("is not used; write --hooks-http"),
        "{error}"
    );
}

#[test]
fn brokers_reject_blocking_hooks() {
    let error = problem(&["-hooks-enabled-events=broker:post-finish,broker:pre-create"]);
    assert!(error.contains("pre-create is a blocking hook"), "{error}");
}

#[test]
fn backoff_without_unit_is_in_seconds_as_in_tusd_1() {
    let given = loaded(&["-hooks-dir=/x", "-hooks-http-backoff", "2"], &[]);
    assert_eq!(given.settings.hooks.http.backoff, Duration::from_secs(2));
    let error = given.warnings.join("\n");
    assert!(
        error.contains("--hooks-http-backoff: 2 is read as seconds; write 2s"),
        "{error}"
    );
    let given = loaded(&["-hooks-dir=/x", "-hooks-grpc-backoff=0"], &[]);
    assert!(!given.warnings.join("\n").contains("seconds"));
}

#[test]
fn stop_code_requires_the_format_of_tusd_1() {
    let old = ["-hooks-dir=/x", "-hooks-format=v1", "-hooks-stop-code=2"];
    let given = loaded(&old, &[]);
    assert_eq!(given.settings.hooks.stop_code, Some(2));
    assert_eq!(given.warnings, Vec::<String>::new());
    let warnings = loaded(&["-hooks-dir=/x", "-hooks-stop-code=2"], &[]).warnings;
    assert!(warnings[0].contains("StopUpload"), "{warnings:?}");
}

#[test]
fn plugins_are_rejected_with_alternatives() {
    const ALTERNATIVES: &str =
        "move the code into a command for --hooks-dir, or behind --hooks-grpc or --hooks-http";
    for args in [
        &["-hooks-plugin", "/srv/plugin"][..],
        &["-hooks-wasm=/srv/plugin.wasm"],
    ] {
        let error = problem(args);
        assert!(error.contains(ALTERNATIVES), "{error}");
    }
    let variables = [("LANDFALL_HOOKS_WASM", "/srv/plugin.wasm")];
    let error = run(&[], &variables).unwrap_err().to_string();
    assert!(
        error.contains("LANDFALL_HOOKS_WASM: removed: ") && error.contains(ALTERNATIVES),
        "{error}"
    );
}

#[test]
fn settings_without_effect_are_reported() {
    for (args, error) in [
        (&["-hooks-enabled-events=pre-create"][..], "without hooks"),
        (
            &["-hooks-dir=/x", "-hooks-http-retry=2"],
            "without --hooks-http",
        ),
        (&["-hooks-dir-timeout=1h"], "without --hooks-dir"),
        (
            &["-hooks-dir=/x", "-database=x.db", "-state-dir=/x"],
            "with --database",
        ),
    ] {
        let warnings = loaded(args, &[]).warnings;
        assert_eq!(warnings.len(), 1, "{args:?}: {warnings:?}");
        assert!(warnings[0].ends_with(error), "{warnings:?}");
    }
}

#[test]
fn errors_omit_passwords() {
    for args in [
        &["-hooks-http", "htp://u:hunter2@h/"][..],
        &["-hooks-broker", "u:hunter2@h"],
        &["-hooks-broker", "redis://:hunter2 @h"],
        &["-database", "mysql://u:hunter2@h/x"],
    ] {
        let error = problem(args);
        assert!(!error.contains("hunter2"), "{error}");
    }
    let given = loaded(&["-hooks-http=http://u:hunter2@h/"], &[]);
    assert!(!format!("{:?}", given.settings).contains("hunter2"));
}

#[test]
fn databases_are_files_or_postgresql() {
    let database = |text: &str| {
        loaded(&[&format!("-database={text}")], &[])
            .settings
            .state
            .database
    };
    let file = |path: &str| Some(Database::Sqlite(path.into()));
    assert_eq!(database("/x/y.db"), file("/x/y.db"));
    assert_eq!(database("sqlite:///x/y.db"), file("/x/y.db"));
    assert!(matches!(
        database("postgres://u@h/d"),
        Some(Database::Postgres(_))
    ));
}

#[test]
fn events_commands_accept_only_their_options() {
    let events = |args: &[&str]| match run(args, &[]) {
        Ok(Invocation::Run(loaded, options)) if loaded.subcommand == Subcommand::Events => {
            options.events
        }
        other => panic!("{args:?}: {other:?}"),
    };
    let query = |states: &[EventState]| Query {
        states: states.to_vec(),
        limit: 1000,
        ..Query::default()
    };
    let listed = |query, json| EventsCommand::List { query, json };
    let dead = Query {
        retrying: true,
        ..query(&[EventState::Dead])
    };
    assert_eq!(events(&["events", "list"]), listed(dead, false));
    let all = query(&[EventState::Dead, EventState::Pending, EventState::Prepared]);
    assert_eq!(events(&["events", "list", "-all"]), listed(all, false));
    let pending = Query {
        upload: Some("a".to_owned()),
        limit: 5,
        ..query(&[EventState::Pending])
    };
    let args = [
        "events",
        "list",
        "-pending",
        "-upload=a",
        "-limit",
        "5",
        "-json",
    ];
    assert_eq!(events(&args), listed(pending, true));
    let ids = vec!["7".to_owned(), "8".to_owned()];
    assert_eq!(
        events(&["events", "retry", "7", "-state-dir", "/s", "8"]),
        EventsCommand::Retry(EventSelection::Ids(ids))
    );
    assert_eq!(
        events(&["events", "retry", "-all", "-transport=http"]),
        EventsCommand::Retry(EventSelection::Failed(Some("http".to_owned())))
    );
    assert_eq!(
        events(&["events", "delete", "-all", "-transport=http"]),
        EventsCommand::Delete(EventSelection::Dead(Some("http".to_owned())))
    );
    assert_eq!(
        events(&["events", "delete", "-all"]),
        EventsCommand::Delete(EventSelection::Dead(None))
    );
    for args in [
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
        problem(args);
    }
    for args in [
        &["help", "events", "list"][..],
        &["events", "list", "--help"],
        &["-help", "events", "retry"],
    ] {
        match run(args, &[]) {
            Ok(Invocation::Print(text)) => assert!(text.contains("--state-dir <DIR>"), "{args:?}"),
            other => panic!("{args:?}: {other:?}"),
        }
    }
}
