//! Event delivery with the real program: in order, across kills, and with `landfall events`.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

use crate::{
    hooks_endpoint::{A_WHILE, Call, Endpoint, unused_address},
    hooks_harness::with_hook,
    serve_harness::{Landfall, Request, eventually, id_of, program, run},
};

const TOLD: &str = "-hooks-enabled-events=post-create,post-finish,post-terminate";

/// Returns the events that an endpoint received, by upload.
fn by_upload(calls: &[Call]) -> BTreeMap<String, Vec<(String, String)>> {
    let mut uploads: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for call in calls.iter().filter(|call| call.status == 200) {
        let told = uploads.entry(call.upload().to_owned()).or_default();
        told.push((call.hook.clone(), call.id.clone()));
    }
    uploads
}

fn database_of(dir: &Path) -> std::path::PathBuf {
    dir.join(".landfall/landfall.db")
}

/// Runs `landfall events …` for the directory of a server.
fn events(dir: &Path, args: &[&str]) -> (Option<i32>, String, String) {
    let mut command = program();
    command.arg("events").args(args).arg("-upload-dir").arg(dir);
    run(&mut command)
}

#[test]
fn dead_letters_are_listed_retried_and_deleted() {
    let works = Arc::new(AtomicBool::new(false));
    let endpoint = Endpoint::answering({
        let works = works.clone();
        move |_| match works.load(SeqCst) {
            true => (200, String::new()),
            false => (500, "out of order".to_owned()),
        }
    });
    let url = endpoint.url();
    let server = Landfall::start(&[
        "-hooks-http",
        &url,
        "-hooks-enabled-events=post-finish",
        "-events-retry-for=1s",
    ]);
    let dir = server.dir().to_owned();
    let dead = || server.metric("landfall_dead_letters{transport=\"http\"}");
    let path = server.client().upload(b"hello");
    eventually("it isn't put aside", || dead() == 1.0);
    for condition in ["dead-letters", "hook-failing"] {
        let line = server.says(&format!("condition={condition}"));
        assert!(
            line.contains("level=WARN") && line.contains("subject=http"),
            "{line}"
        );
    }

    let line = server.says("dead_letter=");
    for part in [
        "event=HookInvocationError",
        "type=post-finish",
        "landfall events list",
        "out of order",
    ] {
        assert!(line.contains(part), "{line}");
    }
    let (code, table, told) = events(&dir, &["list"]);
    assert_eq!((code, told.as_str()), (Some(0), ""));
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(lines.len(), 2, "{table}");
    let row: Vec<&str> = lines[1].split_whitespace().collect();
    let id = row[0];
    assert!(lines[0].starts_with("ID ") && id.len() == 32, "{table}");
    for part in ["dead", "http", "post-finish", id_of(&path), "500"] {
        assert!(lines[1].contains(part), "{part} in {table}");
    }
    let (_, json, _) = events(&dir, &["list", "-json", "-transport=http", "-limit=5"]);
    let event: serde_json::Value = serde_json::from_str(json.trim()).unwrap();
    assert_eq!(event["id"], *id);
    assert_eq!(event["upload_id"], *id_of(&path));
    let (_, none, _) = events(&dir, &["list", "-transport=nats"]);
    assert_eq!(none, "no dead letters, and none is being retried\n");

    // After a fix, the running server delivers a retried event within seconds.
    works.store(true, SeqCst);
    let (code, said, _) = events(&dir, &["retry", id]);
    let when = "delivered within seconds, or one at a time while the receiver fails\n";
    assert_eq!(
        (code, said),
        (Some(0), format!("1 event scheduled: {when}"))
    );
    eventually("it isn't told again", || {
        let told = by_upload(&endpoint.calls());
        told.get(id_of(&path))
            .is_some_and(|events| events[0].1 == *id)
    });
    let (code, said, _) = events(&dir, &["retry", "0123"]);
    assert_eq!(
        (code, said),
        (Some(1), format!("0 events scheduled: {when}"))
    );

    works.store(false, SeqCst);
    eventually("the one is still dead", || dead() == 0.0);
    server.client().upload(b"hello");
    eventually("the other isn't put aside", || dead() == 1.0);
    let (code, said, _) = events(&dir, &["delete", "-all"]);
    assert_eq!((code, said.as_str()), (Some(0), "1 event deleted\n"));
    let (_, none, _) = events(&dir, &["list", "-all"]);
    assert_eq!(none, "no events\n");
    server.stop();
}

#[test]
fn without_stored_events_there_is_no_database() {
    let endpoint = Endpoint::agreeing();
    let url = endpoint.url();
    for args in [
        &[][..],
        &[
            "-hooks-http",
            &url,
            "-hooks-enabled-events=pre-create,post-receive,pre-finish",
        ],
    ] {
        let server = Landfall::start(args);
        server.client().upload(b"hello");
        assert!(!database_of(server.dir()).exists(), "{args:?}");
        assert!(!server.log().contains("undelivered events"));
        let (code, _, told) = events(server.dir(), &["list"]);
        assert_eq!(code, Some(1));
        assert!(
            told.contains("no event was stored yet") && told.contains("--state-dir"),
            "{told}"
        );
        server.stop();
    }
    let server = Landfall::start(&["-hooks-http", &url, "-hooks-enabled-events=post-finish"]);
    assert!(database_of(server.dir()).is_file());
    let line = server.says("undelivered events are in ");
    assert!(line.ends_with("landfall.db'"), "{line}");
    // The database is neither an upload nor an orphan.
    server
        .client()
        .ask(Request::get("/files/.landfall/landfall.db"))
        .refuses(404, "ERR_UPLOAD_NOT_FOUND");
    let (_, swept, _) = run(program()
        .args(["sweep", "-expire-unfinished=1ms", "-upload-dir"])
        .arg(server.dir()));
    assert!(swept.contains("removed 0 of 0 entries"), "{swept}");
    assert!(database_of(server.dir()).is_file());
    server.stop();
}

#[test]
fn the_state_directory_can_be_configured() {
    let endpoint = Endpoint::agreeing();
    let state = tempfile::tempdir().unwrap();
    let folder = state.path().join("made/if/missing");
    let args = [
        "-hooks-http",
        &endpoint.url(),
        TOLD,
        "-state-dir",
        folder.to_str().unwrap(),
    ];
    let server = Landfall::start(&args);
    server.client().upload(b"hello");
    endpoint.waits_for("post-finish", 1);
    assert!(folder.join("landfall.db").is_file() && !database_of(server.dir()).exists());
    server.stop();
    // systemd names one as well.
    let mut command = program();
    command
        .env("STATE_DIRECTORY", state.path())
        .args([
            "-host=127.0.0.1",
            "-port=0",
            TOLD,
            "-hooks-http",
            &endpoint.url(),
        ])
        .arg("-upload-dir")
        .arg(state.path().join("uploads"));
    let server = Landfall::spawn(command, state.path());
    assert!(state.path().join("landfall.db").is_file());
    server.client().upload(b"hello");
    endpoint.waits_for("post-finish", 2);
    server.stop();
}

#[test]
fn an_unreachable_endpoint_leaves_the_server_ready() {
    let url = format!("http://{}/", unused_address());
    let server = Landfall::start(&["-hooks-http", &url, TOLD]);
    let mut client = server.client();
    client.upload(b"hello");
    let line = server.says("event=HookInvocationError");
    assert!(
        line.contains("next_attempt=") && line.contains("attempt=1"),
        "{line}"
    );
    assert_eq!(client.ask(Request::get("/readyz")).status, 200);
    eventually("what waits isn't shown", || {
        server.metric("landfall_events_pending{transport=\"http\"}") >= 1.0
            && server.metric("landfall_event_delivery_failures_total{transport=\"http\"}") >= 1.0
    });
    // Events that are being retried are listed, and retried, with the dead letters.
    for args in [&["list", "-pending"][..], &["list"]] {
        let (_, table, _) = events(server.dir(), args);
        assert!(
            table.contains("pending") && table.contains("post-create"),
            "{table}"
        );
    }
    eventually("nothing is retried", || {
        let (_, said, _) = events(server.dir(), &["retry", "-all"]);
        !said.starts_with("0 ")
    });
    // The log counts attempts as the list does: a retry does not begin at the first one again.
    server.says(" attempt=2 ");
    let lines = server.lines();
    let first = lines.iter().filter(|line| line.contains(" attempt=1 "));
    let event = |line: &String| {
        line.split("event_id=")
            .nth(1)
            .unwrap()
            .split(' ')
            .next()
            .unwrap()
            .to_owned()
    };
    let mut events: Vec<_> = first.map(event).collect();
    let count = events.len();
    events.sort();
    events.dedup();
    assert_eq!(events.len(), count, "{}", server.log());
    server.stop();
}

#[test]
fn events_reach_all_transports() {
    let folder = tempfile::tempdir().unwrap();
    let notes = folder.path().join("notes");
    let dir = with_hook(
        "post-finish",
        &format!("echo $TUS_ID >> {}", notes.display()),
    );
    let endpoint = Endpoint::agreeing();
    let server = Landfall::start(&[
        "-hooks-http",
        &endpoint.url(),
        "-hooks-dir",
        dir.path().to_str().unwrap(),
        "-hooks-enabled-events=post-finish",
    ]);
    let path = server.client().upload(b"hello");
    endpoint.waits_for("post-finish", 1);
    eventually("the file wasn't run", || {
        std::fs::read_to_string(&notes).is_ok_and(|text| text.trim() == id_of(&path))
    });
    std::thread::sleep(A_WHILE);
    assert_eq!(endpoint.calls().len(), 1);
    server.stop();
}

#[test]
fn a_sweep_emits_events() {
    let endpoint = Endpoint::agreeing();
    let args = [
        "-hooks-http",
        &endpoint.url(),
        "-hooks-enabled-events=post-expire",
    ];
    let server = Landfall::start(&args);
    let path = server.client().create(5);
    let dir = server.kill().unwrap();
    // Uploads expire at whole seconds.
    std::thread::sleep(Duration::from_millis(1200));
    let (code, swept, told) = run(program()
        .args(["sweep", "-expire-unfinished=100ms", "-upload-dir"])
        .arg(dir.path())
        .args(args));
    assert_eq!(code, Some(0), "{told}");
    assert!(swept.contains("removed 1 of 1 entries"), "{swept}");
    // By the sweep itself, or by the server that runs next.
    let server = Landfall::on(dir.path(), &args);
    let told = endpoint.waits_for("post-expire", 1);
    assert_eq!(told[0].upload(), id_of(&path));
    server.stop();
}

/// The event is delivered: a retry would get the same response.
#[test]
fn an_ignored_response_is_a_condition() {
    let endpoint = Endpoint::answering(|_| (200, "thanks".to_owned()));
    let url = endpoint.url();
    let server = Landfall::start(&[
        "-hooks-http",
        &url,
        "-hooks-format=v2",
        "-hooks-enabled-events=post-finish",
    ]);
    server.client().upload(b"hello");
    let line = server.says("condition=hook-ignored");
    for part in [
        "level=WARN",
        "subject=http",
        "post-finish: failed to parse hook response",
    ] {
        assert!(line.contains(part), "{part} in {line}");
    }
    assert_eq!(
        server.metric("landfall_dead_letters{transport=\"http\"}"),
        0.0
    );
}

/// A misspelled field is no denial, but it is not passed over in silence.
#[test]
fn what_is_ignored_in_an_accepted_response_is_a_condition() {
    let response = r#"{"RejectUplaod":true,"RejectTermination":true}"#;
    let endpoint = Endpoint::answering(move |_| (200, response.to_owned()));
    let url = endpoint.url();
    let server = Landfall::start(&["-hooks-http", &url, "-hooks-enabled-events=pre-create"]);
    for _ in 0..3 {
        server.client().upload(b"hello");
    }
    let line = server.says("condition=hook-ignored");
    let ignored = "pre-create: unknown field RejectUplaod; RejectTermination has no effect";
    assert!(line.contains(ignored), "{line}");
}
