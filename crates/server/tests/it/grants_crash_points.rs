//! A server that is killed before each message to its database: queue and events stay consistent.

use std::{
    path::Path,
    thread,
    time::{Duration, Instant},
};

use crate::{
    grants_database::add_key_in,
    grants_harness::{Caller, json},
    hooks_endpoint::Endpoint,
    serve_harness::{Answer, Landfall, Request, TIMEOUT, eventually, path_of},
};
use landfall_test_services::{FaultProxy, Postgres, count_kills};
use rustix::process::{Signal, kill_process};

const EVENTS: &str = "-hooks-enabled-events=pre-finish,post-finish,post-terminate,UploadStarted,\
                      UploadCompleted,UploadCancelled,UploadFailed";
/// In a normal run, the server is killed at one in so many messages, otherwise at each.
const STEP: usize = 17;
/// Crash points of a flow that are tested concurrently.
const CONCURRENCY: usize = 6;

/// The fate of an upload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Intention {
    /// `pre-finish` accepts it.
    Accepted,
    /// `pre-finish` rejects it.
    Rejected,
    /// The client deletes it when half of it is stored.
    Deleted,
}

/// A client that resumes on any server.
struct Client<'a> {
    server: &'a Landfall,
    key: &'a str,
    intention: Intention,
}

impl Client<'_> {
    fn request(&self, request: Request) -> Result<Answer, String> {
        let client = crate::serve_harness::Client::try_connect(self.server.address());
        let mut client = client.map_err(|error| error.to_string())?;
        let answer = client.try_ask(request).map_err(|error| error.to_string())?;
        answer.ok_or_else(|| "the connection was closed".to_owned())
    }

    /// Sends a request that must succeed.
    fn done(&self, request: Request) -> Result<Answer, String> {
        let answer = self.request(request)?;
        if answer.status < 300 {
            return Ok(answer);
        }
        Err(format!("{}: {}", answer.status, answer.text()))
    }

    fn create(&self) -> Result<String, String> {
        let name = match self.intention {
            Intention::Rejected => "virus",
            _ => "fine",
        };
        let job = serde_json::json!({"id": "1", "filename": name, "filesize": 6});
        let grant = Request::new("POST", "/uploadjobs")
            .with("Authorization", format!("Bearer {}", self.key))
            .with("Content-Type", "application/json")
            .body(job.to_string().as_bytes());
        let granted = json(&self.done(grant)?);
        let token = granted["upload_token"].as_str().ok_or("no token")?;
        let create = Request::post()
            .with("Upload-Length", 6)
            .with("Upload-Token", token);
        let created = self.done(create)?;
        Ok(created.header("Location").map(path_of).ok_or("no URL")?)
    }

    /// Completes the remaining steps.
    fn run(&self, upload: &mut Option<String>) -> Result<(), String> {
        let path = match upload {
            Some(path) => path,
            None => upload.insert(self.create()?),
        };
        let head = self.request(Request::new("HEAD", path))?;
        match head.status {
            200 => {}
            // Rejected or deleted, and the response was lost.
            404 | 410 if self.intention != Intention::Accepted => return Ok(()),
            422 if self.intention == Intention::Rejected => return Ok(()),
            status => return Err(format!("HEAD: {status}")),
        }
        let offset = usize::try_from(head.offset()).unwrap();
        let end = match self.intention {
            Intention::Deleted => 3,
            _ => 6,
        };
        if offset < end {
            let rest = &b"abcdef"[offset..end];
            let answer = self.request(Request::patch(path, offset as u64).body(rest))?;
            let expected = match self.intention {
                Intention::Rejected => 422,
                _ => 204,
            };
            if answer.status != expected {
                return Err(format!("PATCH: {}: {}", answer.status, answer.text()));
            }
        }
        if self.intention == Intention::Deleted {
            let delete = Request::new("DELETE", path);
            let answer = self.request(delete)?;
            if !matches!(answer.status, 204 | 404) {
                return Err(format!("DELETE: {}: {}", answer.status, answer.text()));
            }
        }
        Ok(())
    }
}

fn server(dir: &Path, database: &str, application: &Endpoint) -> Landfall {
    let url = application.url();
    let args = [
        "-require-grant",
        "-hooks-http",
        &url,
        EVENTS,
        "-database",
        database,
    ];
    Landfall::on(dir, &args)
}

/// Kills the server at a point; false if all was over before.
fn survives(postgres: &Postgres, intention: Intention, point: usize) -> bool {
    let application = Endpoint::answering(|call| {
        match call.body["Event"]["Upload"]["MetaData"]["filename"].as_str() {
        Some("virus") if call.hook == "pre-finish" => (
            200,
            serde_json::json!({"RejectUpload": true, "HTTPResponse": {"StatusCode": 422, "Body": "a virus"}}).to_string(),
        ),
        _ => (200, "{}".to_owned()),
    }
    });
    let database = postgres.database("points");
    let key = add_key_in(&database);
    let (proxy, url) = FaultProxy::to_server_of(&database);
    let dir = tempfile::tempdir().unwrap();
    let first = server(dir.path(), &url, &application);
    let pid = first.pid();
    proxy.at_message(point, move || {
        let _ = kill_process(pid, Signal::KILL);
    });
    let mut upload = None;
    let run = |server: &Landfall, upload: &mut Option<String>| {
        let key = &key;
        Client {
            server,
            key,
            intention,
        }
        .run(upload)
    };
    let _ = run(&first, &mut upload);
    let (state, event) = match intention {
        Intention::Accepted => ("completed", "UploadCompleted"),
        Intention::Rejected => ("failed", "UploadFailed"),
        Intention::Deleted => ("cancelled", "UploadCancelled"),
    };
    // Events are delivered after the response, and then deleted.
    let is_over = || !application.calls_of(event).is_empty();
    let end = Instant::now() + TIMEOUT;
    while proxy.is_armed() && upload.is_some() && !is_over() && Instant::now() < end {
        thread::sleep(Duration::from_millis(5));
    }
    if proxy.is_armed() {
        thread::sleep(Duration::from_millis(100));
    }
    let was_killed = !proxy.disarm();
    drop(first);
    // The time passes in which the dead node could come back.
    postgres.query(&database, "UPDATE outbox_nodes SET expires_at = 0");
    let second = server(dir.path(), &database, &application);
    postgres.query(
        &database,
        "UPDATE outbox_deliveries SET due_at = 0 WHERE state = 0 AND owner_node = ''",
    );
    let end = Instant::now() + TIMEOUT;
    while let Err(error) = run(&second, &mut upload) {
        assert!(
            Instant::now() < end,
            "{intention:?} {point}: {error}: {}",
            second.log()
        );
        thread::sleep(Duration::from_millis(5));
    }
    let app = Caller::new(&second, &key);
    eventually(&format!("{intention:?} {point}: {}", app.job("1")), || {
        app.job("1")["state"] == state
    });
    application.waits_for(event, 1);
    if intention == Intention::Accepted {
        application.waits_for("post-finish", 1);
    }
    second.stop();
    let calls = application.calls();
    let told = |hook: &str| calls.iter().any(|call| call.hook == hook);
    for other in ["UploadCompleted", "UploadFailed", "UploadCancelled"] {
        assert!(
            other == event || !told(other),
            "{intention:?} {point}: {other}"
        );
    }
    assert_eq!(
        told("post-finish"),
        intention == Intention::Accepted,
        "{intention:?} {point}"
    );
    was_killed
}

fn survives_everywhere(intention: Intention) {
    let postgres = Postgres::start(false);
    let step = if std::env::var_os("LANDFALL_LONG").is_some() {
        1
    } else {
        STEP
    };
    let mut points = (0..).step_by(step);
    let mut visited = 0;
    loop {
        let killed = thread::scope(|scope| {
            let postgres = &postgres;
            let runs = points.by_ref().take(CONCURRENCY);
            let runs: Vec<_> = runs
                .map(|point| scope.spawn(move || survives(postgres, intention, point)))
                .collect();
            runs.into_iter()
                .map(|run| run.join().unwrap())
                .take_while(|was_killed| *was_killed)
                .count()
        });
        visited += killed;
        if killed < CONCURRENCY {
            break;
        }
    }
    println!("{intention:?}: {visited} crash points");
    count_kills(visited);
    assert!(visited * step > 20, "only {visited} points");
}

#[test]
fn an_accepted_upload_is_completed_whenever_its_server_dies() {
    survives_everywhere(Intention::Accepted);
}

#[test]
fn a_rejected_upload_is_never_completed_whenever_its_server_dies() {
    survives_everywhere(Intention::Rejected);
}

#[test]
fn a_deleted_upload_is_cancelled_whenever_its_server_dies() {
    survives_everywhere(Intention::Deleted);
}
