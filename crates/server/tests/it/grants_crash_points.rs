//! A server that is killed before each message to its database, one after the other: whatever moment it
//! dies at, what the queue says and what the application receives is what happened.

use std::{path::Path, thread, time::Duration};

use landfall_test_services::{FaultProxy, Postgres};
use rustix::process::{Signal, kill_process};
use serde_json::{Value, json};

use crate::{
    grants_database::add_key_in,
    grants_kit::Caller,
    hooks_endpoint::Endpoint,
    serve_kit::{Answer, Landfall, Request, eventually, path_of},
};

const EVENTS: &str = "-hooks-http-events=pre-finish,post-finish,post-terminate,UploadStarted,\
                      UploadCompleted,UploadCancelled,UploadFailed";
/// In a normal run, one in so many messages is a crash point.
const STEP: usize = 9;
const MAX_POINTS: usize = 1000;

/// What a client wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wish {
    /// An upload that `pre-finish` accepts.
    Accepted,
    /// One that it refuses.
    Refused,
    /// One that the client deletes when half of it is there.
    Deleted,
}

/// A client that goes on where it was when the server is there again.
struct Client<'a> {
    server: &'a Landfall,
    key: &'a str,
    wish: Wish,
}

impl Client<'_> {
    fn ask(&self, request: Request) -> Option<Answer> {
        let mut client = crate::serve_kit::Client::try_connect(self.server.address()).ok()?;
        client.try_ask(request).ok()?
    }

    fn grant(&self) -> Option<String> {
        let name = if self.wish == Wish::Refused {
            "virus"
        } else {
            "fine"
        };
        let ask = json!({"id": "1", "filename": name, "filesize": 6});
        let request = Request::new("POST", "/uploadjobs")
            .with("Authorization", format!("Bearer {}", self.key))
            .with("Content-Type", "application/json")
            .body(ask.to_string().as_bytes());
        let answer = self.ask(request).filter(|answer| answer.status < 300)?;
        let granted: Value = serde_json::from_slice(&answer.body).ok()?;
        granted["upload_token"].as_str().map(ToOwned::to_owned)
    }

    fn create(&self, token: &str) -> Option<String> {
        let request = Request::post()
            .with("Upload-Length", 6)
            .with("Upload-Token", token);
        let answer = self.ask(request).filter(|answer| answer.status < 300)?;
        answer.header("Location").map(path_of)
    }

    /// Does all of it; false if the server does not answer, or cannot do it now.
    fn run(&self, upload: &mut Option<String>) -> bool {
        if upload.is_none() {
            *upload = self.grant().and_then(|token| self.create(&token));
        }
        let Some(path) = upload else { return false };
        let Some(head) = self.ask(Request::new("HEAD", path).with("Tus-Resumable", "1.0.0")) else {
            return false;
        };
        match head.status {
            200 => {}
            // Refused or deleted, and its answer was lost.
            404 | 410 => return self.wish != Wish::Accepted,
            _ => return false,
        }
        let offset = usize::try_from(head.offset()).unwrap();
        let end = if self.wish == Wish::Deleted { 3 } else { 6 };
        if offset < end {
            let rest = &b"abcdef"[offset..end];
            let Some(answer) = self.ask(Request::patch(path, offset as u64).body(rest)) else {
                return false;
            };
            let is_done = match self.wish {
                Wish::Refused => answer.status == 422,
                _ => answer.status == 204,
            };
            if !is_done {
                return false;
            }
        }
        if self.wish == Wish::Deleted {
            let delete = Request::new("DELETE", path).with("Tus-Resumable", "1.0.0");
            return self
                .ask(delete)
                .is_some_and(|answer| matches!(answer.status, 204 | 404));
        }
        true
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
fn survives(postgres: &Postgres, wish: Wish, point: usize) -> bool {
    let application = Endpoint::answering(|call| {
        match call.body["Event"]["Upload"]["MetaData"]["filename"].as_str() {
        Some("virus") if call.hook == "pre-finish" => (
            200,
            json!({"RejectUpload": true, "HTTPResponse": {"StatusCode": 422, "Body": "a virus"}}).to_string(),
        ),
        _ => (200, "{}".to_owned()),
    }
    });
    let database = postgres.database("points");
    let key = add_key_in(&database);
    let (_, rest) = database.split_once('@').unwrap();
    let (authority, _) = rest.split_once('/').unwrap();
    let proxy = FaultProxy::start(authority);
    let dir = tempfile::tempdir().unwrap();
    let first = server(dir.path(), &proxy.url(&database, authority), &application);
    let pid = first.pid();
    proxy.at_message(point, move || {
        let _ = kill_process(pid, Signal::KILL);
    });
    let mut upload = None;
    let client = Client {
        server: &first,
        key: &key,
        wish,
    };
    client.run(&mut upload);
    // Events are delivered after the answer.
    for _ in 0..20 {
        if !proxy.is_armed() {
            break;
        }
        thread::sleep(Duration::from_millis(20));
    }
    let was_killed = !proxy.is_armed();
    drop(first);
    let second = server(dir.path(), &database, &application);
    let client = Client {
        server: &second,
        key: &key,
        wish,
    };
    eventually(
        &format!("{wish:?} {point}: the client never gets through"),
        || client.run(&mut upload),
    );
    let (state, event) = match wish {
        Wish::Accepted => ("completed", "UploadCompleted"),
        Wish::Refused => ("failed", "UploadFailed"),
        Wish::Deleted => ("cancelled", "UploadCancelled"),
    };
    let app = Caller::new(&second, &key);
    eventually(&format!("{wish:?} {point}: {}", app.job("1")), || {
        app.job("1")["state"] == state
    });
    application.waits_for(event, 1);
    if wish == Wish::Accepted {
        application.waits_for("post-finish", 1);
    }
    second.stop();
    let calls = application.calls();
    let told = |hook: &str| calls.iter().any(|call| call.hook == hook);
    for other in ["UploadCompleted", "UploadFailed", "UploadCancelled"] {
        assert!(other == event || !told(other), "{wish:?} {point}: {other}");
    }
    assert_eq!(
        told("post-finish"),
        wish == Wish::Accepted,
        "{wish:?} {point}"
    );
    was_killed
}

fn survives_everywhere(wish: Wish) {
    let postgres = Postgres::start(false);
    let step = if std::env::var_os("LANDFALL_LONG").is_some() {
        1
    } else {
        STEP
    };
    let points = (0..MAX_POINTS).step_by(step);
    let visited = points
        .take_while(|point| survives(&postgres, wish, *point))
        .count();
    assert!(visited * step > 20, "only {visited} points");
    println!("{wish:?}: {visited} crash points");
}

#[test]
fn an_accepted_upload_is_completed_whenever_its_server_dies() {
    survives_everywhere(Wish::Accepted);
}

#[test]
fn a_refused_upload_is_never_completed_whenever_its_server_dies() {
    survives_everywhere(Wish::Refused);
}

#[test]
fn a_deleted_upload_is_cancelled_whenever_its_server_dies() {
    survives_everywhere(Wish::Deleted);
}
